"""Golden numbers of kzl's gym DecisionTransformer: predictions, loss, gradients, ten steps, acting.

python tests/golden/decision_transformer.py --authors DECISION_TRANSFORMER
"""

import authors
import numpy as np
import torch

COMMIT = "kzl/decision-transformer@e2d82e68f330c00f763507b3b01d774740bee53f"
LAYERS, WIDTH, CONTEXT, LONGEST, BATCH, STEPS = 2, 32, 5, 50, 4, 10
LEARNING_RATE, WEIGHT_DECAY, WARMUP, CLIP = 1e-3, 1e-4, 2, 0.25


def import_model(folder):
    """kzl's model, with the one decorator that newer transformers changed (it only writes docstrings) made empty."""
    import sys

    import transformers.file_utils

    transformers.file_utils.add_code_sample_docstrings = lambda **_: lambda function: function
    # This script has the name of their package, which has no __init__.py and would lose to it.
    sys.path[:] = [str(folder / "gym")] + [entry for entry in sys.path if entry != str(authors.HERE)]
    import decision_transformer.models.decision_transformer as module

    # get_action casts its inputs to float32 by name; here that name means float64.
    module.torch = authors.Shim(torch, float32=torch.float64)
    return module.DecisionTransformer


def make_batch(rng, lengths, mean, std, action_dim):
    """Windows padded as in kzl's get_batch: on the left, states before normalisation, actions with -10."""
    columns = {key: [] for key in ("states", "actions", "returns_to_go", "timesteps", "mask")}
    for length in lengths:
        pad, start = CONTEXT - length, int(rng.integers(0, LONGEST - length + 1))
        states = np.concatenate([np.zeros((pad, len(mean))), mean + std * rng.normal(size=(length, len(mean)))])
        columns["states"].append((states - mean) / std)
        actions = np.tanh(rng.normal(size=(length, action_dim)))
        columns["actions"].append(np.concatenate([np.full((pad, action_dim), -10.0), actions]))
        returns = rng.uniform(0.5, 3.5) - 0.003 * np.cumsum(rng.uniform(0, 2, length))
        columns["returns_to_go"].append(np.concatenate([np.zeros(pad), returns])[:, None])
        columns["timesteps"].append(np.concatenate([np.zeros(pad, int), np.arange(start, start + length)]))
        columns["mask"].append(np.concatenate([np.zeros(pad, int), np.ones(length, int)]))
    return {key: torch.tensor(np.stack(value)) for key, value in columns.items()}


def run(name, model_class, state_dim, action_dim, heads, seed):
    from decision_transformer.training.seq_trainer import SequenceTrainer

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = model_class(
        state_dim=state_dim, act_dim=action_dim, max_length=CONTEXT, max_ep_len=LONGEST, hidden_size=WIDTH,
        n_layer=LAYERS, n_head=heads, n_inner=4 * WIDTH, activation_function="relu", n_positions=1024, n_ctx=1024,
        resid_pdrop=0.0, attn_pdrop=0.0, embd_pdrop=0.0,
    )  # fmt: skip
    # Away from the authors' initial point, where biases are zero and attention is nearly uniform.
    scales = {"bias": 0.1, "weight": 0.15}
    authors.perturb(model, torch.Generator().manual_seed(seed), scales)
    tensors = authors.parameters(model, "param")

    mean, std = rng.normal(size=state_dim), rng.uniform(0.2, 2.0, state_dim)
    lengths = [[CONTEXT, 3, 1, 4]] + [rng.integers(1, CONTEXT + 1, BATCH) for _ in range(STEPS - 1)]
    batches = [make_batch(rng, row, mean, std, action_dim) for row in lengths]
    for key in batches[0]:
        tensors[f"steps.{key}"] = torch.stack([batch[key] for batch in batches])

    queue, losses, norms, rates = list(batches), [], [], []

    def get_batch(_):
        batch = queue.pop(0)
        returns = torch.cat([batch["returns_to_go"], torch.zeros(BATCH, 1, 1)], 1)  # the trainer drops the last one
        return batch["states"], batch["actions"], None, None, returns, batch["timesteps"], batch["mask"].double()

    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda steps: min((steps + 1) / WARMUP, 1))
    trainer = SequenceTrainer(
        model=model, optimizer=optimizer, batch_size=BATCH, get_batch=get_batch, scheduler=scheduler,
        loss_fn=lambda s_hat, a_hat, r_hat, s, a, r: torch.mean((a_hat - a) ** 2),
    )  # fmt: skip
    clip, forward, seen = torch.nn.utils.clip_grad_norm_, model.forward, {}

    def recorded_clip(*args):
        if not norms:
            seen["gradients"] = authors.gradients(model)
        rates.append(optimizer.param_groups[0]["lr"])
        norms.append(float(clip(*args)))

    def recorded_forward(states, actions, rewards, returns_to_go, timesteps, attention_mask):
        output = forward(states, actions, rewards, returns_to_go, timesteps, attention_mask=attention_mask)
        seen.setdefault("predictions", [value.detach().clone() for value in output])
        seen["input"] = {
            "states": states, "actions": actions, "returns_to_go": returns_to_go, "timesteps": timesteps,
            "mask": attention_mask,
        }  # fmt: skip
        return output

    # Acting, with the initial parameters: more, exactly as many, and fewer steps than the context holds.
    model.eval()
    model.forward = recorded_forward
    for length in (1, 2, CONTEXT, CONTEXT + 3):
        history = {
            "states": torch.tensor(rng.normal(size=(length, state_dim))),
            "actions": torch.tensor(np.tanh(rng.normal(size=(length, action_dim)))),
            "returns_to_go": torch.tensor(rng.uniform(0.5, 3.5, (1, length))),
            "timesteps": torch.arange(7, 7 + length)[None],
        }
        history["actions"][-1] = 0.0
        with torch.no_grad():
            action = model.get_action(
                history["states"], history["actions"], None, history["returns_to_go"], history["timesteps"]
            )
        prefix = f"act{length}"
        tensors |= {f"{prefix}.history.{key}": value.reshape(length, -1) for key, value in history.items()}
        tensors |= {f"{prefix}.input.{key}": value for key, value in seen["input"].items()}
        tensors[f"{prefix}.action"] = action
    seen.clear()

    torch.nn.utils.clip_grad_norm_ = recorded_clip
    model.train()
    for _ in range(STEPS):
        losses.append(trainer.train_step())
        scheduler.step()
    torch.nn.utils.clip_grad_norm_ = clip

    tensors |= dict(zip(("state_predictions", "action_predictions", "return_predictions"), seen["predictions"]))
    tensors |= seen["gradients"] | authors.parameters(model, "after")
    tensors |= {"loss": np.array(losses[0]), "steps.loss": np.array(losses), "steps.lr": np.array(rates)}
    tensors |= {"steps.grad_norm": np.array(norms), "state_mean": mean, "state_std": std}
    print(name, "norms", np.round(norms, 3), "losses", np.round(losses, 3), "rates", rates[:3])
    unused = [n for n, _ in model.named_parameters() if f"grad.{n}" not in tensors]
    metadata = {
        "authors": COMMIT, "layers": LAYERS, "heads": heads, "width": WIDTH, "context": CONTEXT,
        "longest_episode": LONGEST, "state_dim": state_dim, "action_dim": action_dim, "activation": "relu",
        "learning_rate": LEARNING_RATE, "weight_decay": WEIGHT_DECAY, "betas": [0.9, 0.999], "eps": 1e-8,
        "warmup_steps": WARMUP, "clip": CLIP, "no_gradient": unused,
        "zero_gradient": [f"transformer.h.{i}.attn.c_attn.bias[{WIDTH}:{2 * WIDTH}]" for i in range(LAYERS)],
    }  # fmt: skip
    assert all((tensors[f"param.{n}"] == tensors[f"after.{n}"]).all() for n in unused)
    authors.save(name, tensors, metadata)


if __name__ == "__main__":
    args = authors.arguments(__doc__)
    model_class = import_model(args.authors)
    run("decision_transformer_hopper", model_class, 11, 3, heads=1, seed=1)
    run("decision_transformer_halfcheetah", model_class, 17, 6, heads=1, seed=2)
    run("decision_transformer_hopper_2_heads", model_class, 11, 3, heads=2, seed=3)
