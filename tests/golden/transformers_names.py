"""What `transformers` expects of a Decision Transformer's files, and whether a stored run is that model.

python tests/golden/transformers_names.py                             writes transformers_names.json
python tests/golden/transformers_names.py --run RUN --rollout FILE    compares actions, by hand

RUN is a Decision Transformer's run directory, FILE what `trajformer evaluate RUN --episodes 1 --record FILE.npz` recorded.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from transformers import DecisionTransformerConfig, DecisionTransformerModel

HERE = Path(__file__).resolve().parent
# The sizes of `small("decision_transformer")` in tests/it/runs.rs, on pendulum-v1.
SIZES = {"state_dim": 3, "act_dim": 1, "hidden_size": 16, "max_ep_len": 1000, "n_layer": 2, "n_head": 1, "n_inner": 64,
         "n_positions": 1024, "vocab_size": 1}  # fmt: skip


def write_names():
    model = DecisionTransformerModel(DecisionTransformerConfig(**SIZES))
    shapes = {name: list(tensor.shape) for name, tensor in sorted(model.state_dict().items())}
    text = json.dumps(shapes, indent=1).replace("\n  ", " ").replace("\n ]", " ]")
    (HERE / "transformers_names.json").write_text(text + "\n")


def compare(run, rollout):
    """The largest difference between recorded actions, in -1..1, and those of `transformers`, over 200 steps."""
    model, loading = DecisionTransformerModel.from_pretrained(run, output_loading_info=True)
    assert not any(loading.values()), loading
    model.eval()
    steps, policy = np.load(rollout), load_file(run / "policy.safetensors")
    context = 20
    observations = (steps["observations"] - policy["normalizer.mean"]) / policy["normalizer.scale"]
    actions = (steps["actions"] - policy["action_bounds.center"]) / policy["action_bounds.half"]
    spent = np.concatenate([[0.0], np.cumsum(steps["rewards"])[:-1]])
    returns = ((policy["best_return"] - spent) / 1000.0)[:, None]
    worst = 0.0
    for now in range(min(len(actions), 200)):
        window = slice(max(0, now - context + 1), now + 1)
        known = actions[window].copy()
        known[-1] = 0.0
        length = len(known)

        def padded(rows):
            rows = np.concatenate([np.zeros((context - length,) + rows.shape[1:]), rows])
            return torch.tensor(rows[None], dtype=torch.float32)

        with torch.no_grad():
            output = model(
                states=padded(observations[window]),
                actions=padded(known),
                returns_to_go=padded(returns[window]),
                timesteps=padded(np.arange(window.start, now + 1)).long(),
                attention_mask=padded(np.ones(length)).long(),
            )
        worst = max(worst, np.abs(output.action_preds[0, -1].numpy() - actions[now]).max())
    print(f"largest difference {worst:.1e}")
    assert worst < 1e-5


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path)
    parser.add_argument("--rollout", type=Path)
    arguments = parser.parse_args()
    compare(arguments.run, arguments.rollout) if arguments.run else write_names()
