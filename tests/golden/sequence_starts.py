"""How the networks of the sequence models start: for every parameter the moments and the range of what the authors' own
constructors drew, over many seeds.

python tests/golden/sequence_starts.py --authors DECISION_TRANSFORMER --trajectory TRAJECTORY_TRANSFORMER --lamo LAMO
"""

import contextlib
import io
import subprocess
import sys
import tempfile
import types

import authors
import numpy as np
import torch

SEEDS, STATE, ACTION, WIDTH, LAYERS, HEADS, LONGEST, CONTEXT = 400, 5, 3, 16, 3, 2, 7, 4
BINS, WINDOW, RANK = 6, 3, 3
# In this order in the last axis of each tensor.
STATISTICS = ["count", "mean", "deviation", "kurtosis", "least", "greatest"]


def statistics(make):
    """Of every parameter of the models that `make` makes, over all seeds and elements."""
    drawn = {}
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        with contextlib.redirect_stdout(io.StringIO()):
            model = make()
        for name, value in model.named_parameters():
            drawn.setdefault(name, []).append(value.detach().numpy().ravel().copy())
    out = {}
    for name, values in drawn.items():
        x = np.concatenate(values)
        center = x - x.mean()
        deviation = 0.0 if (x == x[0]).all() else center.std()
        kurtosis = (center**4).mean() / deviation**4 if deviation > 0 else 0.0
        mean = x[0] if deviation == 0 else x.mean()
        out[name] = np.array([len(x), mean, deviation, kurtosis, x.min(), x.max()])
    return out


def decision_transformer(folder):
    import decision_transformer as script  # this folder's, for its import of kzl's model

    sys.modules.pop("decision_transformer")
    model_class = script.import_model(folder)
    return lambda: model_class(
        state_dim=STATE, act_dim=ACTION, max_length=CONTEXT, max_ep_len=LONGEST, hidden_size=WIDTH, n_layer=LAYERS,
        n_head=HEADS, n_inner=4 * WIDTH, activation_function="relu", n_positions=64, n_ctx=64, resid_pdrop=0.1,
        attn_pdrop=0.1,
    )  # fmt: skip


def trajectory_transformer(folder):
    authors.import_trajectory_transformer(folder)
    from trajectory.models.transformers import GPT

    transition = STATE + ACTION + 2
    return lambda: GPT(
        types.SimpleNamespace(
            vocab_size=BINS, block_size=WINDOW * transition - 1, n_layer=LAYERS, n_head=HEADS, n_embd=WIDTH,
            observation_dim=STATE, action_dim=ACTION, transition_dim=transition, action_weight=5, reward_weight=1,
            value_weight=1, embd_pdrop=0.1, resid_pdrop=0.1, attn_pdrop=0.1,
        )
    )  # fmt: skip


def lamo(folder):
    """Without a language model: the configuration is GPT-2's, made small, the weights are random."""
    import lamo as script

    module, _ = script.import_model(folder)
    small = module.GPT2Config_LoRA(
        vocab_size=7, n_positions=64, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, lora_attn_dim=RANK
    )
    module.GPT2Config_LoRA.from_pretrained = classmethod(lambda cls, name: small)
    flags = dict(pretrained_lm=None, lora=True, mlp_embedding=True, extend_positions=False, share_input_output_proj=False)
    return lambda: module.DecisionTransformer(flags, STATE, ACTION, WIDTH, max_length=CONTEXT, max_ep_len=LONGEST)


MODELS = {"decision_transformer": decision_transformer, "trajectory_transformer": trajectory_transformer, "lamo": lamo}


def main():
    args = authors.arguments(
        __doc__, trajectory="checkout of the Trajectory Transformer", lamo="checkout of LaMo-2023", only="one model, to FILE",
        file="where to",
    )  # fmt: skip
    folders = dict(zip(MODELS, (args.authors, args.trajectory, args.lamo)))
    if args.only:
        return np.savez(args.file, **statistics(MODELS[str(args.only)](folders[str(args.only)])))
    tensors = {}
    with tempfile.TemporaryDirectory() as out:
        for name in folders:  # two packages have the same name: a process for each
            file = f"{out}/{name}.npz"
            command = [sys.executable, __file__, "--authors", args.authors, "--trajectory", args.trajectory]
            subprocess.run([*command, "--lamo", args.lamo, "--only", name, "--file", file], check=True)
            tensors |= {f"{name}.{key}": value for key, value in np.load(file).items()}
    metadata = {
        "authors": ["kzl/decision-transformer@e2d82e6", "jannerm/trajectory-transformer@8834a6e", "srzer/LaMo-2023@3e4fcc8"],
        "seeds": SEEDS, "state_dim": STATE, "action_dim": ACTION, "width": WIDTH, "layers": LAYERS, "heads": HEADS,
        "longest_episode": LONGEST, "context": CONTEXT, "bins": BINS, "window": WINDOW, "rank": RANK,
        "statistics": STATISTICS,
    }  # fmt: skip
    authors.save("sequence_starts", tensors, metadata)


if __name__ == "__main__":
    main()
