"""Golden numbers of jannerm's GPT and Trainer: logits, loss, gradients, ten optimiser steps.

python tests/golden/trajectory_transformer.py --authors TRAJECTORY_TRANSFORMER
"""

import authors
import numpy as np
import torch

COMMIT = "jannerm/trajectory-transformer@8834a6ed04ceeab8fdb9465e145c6e041c05d71b"
BINS, LAYERS, HEADS, WIDTH, WINDOW, BATCH, STEPS = 12, 2, 2, 32, 10, 3, 10


class Namespace:
    def __init__(self, **entries):
        self.__dict__.update(entries)


def make_batch(rng, transition_dim):
    """Tokens of BATCH windows: whole, ended early (mask kept), ended and beyond the longest path (mask 0)."""
    tokens = rng.integers(0, BINS, (BATCH, WINDOW, transition_dim))
    mask = np.ones((BATCH, WINDOW, transition_dim), dtype=bool)
    tokens[1, WINDOW - rng.integers(1, 4) :] = BINS
    end = WINDOW - rng.integers(2, 5)
    tokens[2, end:] = BINS
    mask[2, end + 1 :] = False
    tokens, mask = tokens.reshape(BATCH, -1), mask.reshape(BATCH, -1)
    return torch.tensor(tokens[:, :-1]), torch.tensor(tokens[:, 1:]), torch.tensor(mask[:, :-1])


def run(name, observation_dim, action_dim, seed, warmup_steps, final_steps):
    from trajectory.models.transformers import GPT
    from trajectory.utils import training

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    transition_dim = observation_dim + action_dim + 2
    block_size = WINDOW * transition_dim - 1
    model = GPT(
        Namespace(
            vocab_size=BINS, block_size=block_size, n_layer=LAYERS, n_head=HEADS, n_embd=WIDTH,
            observation_dim=observation_dim, action_dim=action_dim, transition_dim=transition_dim,
            action_weight=5, reward_weight=1, value_weight=1, embd_pdrop=0.0, resid_pdrop=0.0, attn_pdrop=0.0,
        )
    )  # fmt: skip
    # Away from the authors' initial point, where positions and biases are zero and attention is nearly uniform.
    scales = {"tok_emb.weight": 0.3, "pos_emb": 0.3, "head.weight": 0.1, "bias": 0.1, "weight": 0.15}
    authors.perturb(model, torch.Generator().manual_seed(seed), scales)
    tensors = authors.parameters(model, "param")

    batches = [make_batch(rng, transition_dim) for _ in range(STEPS)]
    for key, index in (("x", 0), ("y", 1), ("mask", 2)):
        tensors[f"steps.{key}"] = torch.stack([batch[index] for batch in batches])

    logits, loss = model(*batches[0])
    loss.backward()
    tensors |= {"logits": logits, "loss": loss, **authors.gradients(model)}
    model.zero_grad()

    tokens = block_size * BATCH
    config = Namespace(
        device="cpu", batch_size=BATCH, num_workers=0, learning_rate=6e-4, weight_decay=0.1, betas=(0.9, 0.95),
        grad_norm_clip=1.0, lr_decay=True, warmup_tokens=int(warmup_steps * tokens),
        final_tokens=int(final_steps * tokens),
    )  # fmt: skip
    trainer = training.Trainer(config)
    optimizer = trainer.get_optimizer(model)
    rates, losses, norms, counts = [], [], [], []
    step, clip, forward = optimizer.step, torch.nn.utils.clip_grad_norm_, model.forward

    def recorded_step():
        assert len({group["lr"] for group in optimizer.param_groups}) == 1
        rates.append(optimizer.param_groups[0]["lr"])
        counts.append(int(trainer.n_tokens))
        step()

    def recorded_clip(*args):
        norms.append(float(clip(*args)))

    def recorded_forward(*args):
        logits, loss = forward(*args)
        losses.append(loss.item())
        return logits, loss

    training.DataLoader = lambda dataset, **_: batches
    optimizer.step, model.forward, torch.nn.utils.clip_grad_norm_ = recorded_step, recorded_forward, recorded_clip
    trainer.train(model, Namespace(N=BINS))
    torch.nn.utils.clip_grad_norm_ = clip

    counts = counts[1:] + [int(trainer.n_tokens)]
    span = config.final_tokens - config.warmup_tokens
    progress = [(count - config.warmup_tokens) / span for count in counts]
    print(name, "rates", np.round(np.array(rates) / config.learning_rate, 3), "progress", np.round(progress, 2))
    print("  norms", np.round(norms, 3), "losses", np.round(losses, 3))
    tensors |= authors.parameters(model, "after")
    tensors |= {"steps.lr": np.array(rates), "steps.loss": np.array(losses), "steps.grad_norm": np.array(norms)}
    tensors["steps.tokens"] = np.array(counts)
    metadata = {
        "authors": COMMIT, "bins": BINS, "layers": LAYERS, "heads": HEADS, "width": WIDTH, "window": WINDOW,
        "block_size": block_size, "observation_dim": observation_dim, "action_dim": action_dim,
        "transition_dim": transition_dim, "action_weight": 5, "reward_weight": 1, "value_weight": 1,
        "learning_rate": config.learning_rate, "betas": list(config.betas), "eps": 1e-8,
        "weight_decay": config.weight_decay, "clip": config.grad_norm_clip,
        "warmup_tokens": config.warmup_tokens, "final_tokens": config.final_tokens,
        "progress_passes_1": max(progress) > 1,
        "decayed": sorted(n for n, p in model.named_parameters() if any(p is q for q in optimizer.param_groups[0]["params"])),
        "zero_gradient": [f"blocks.{i}.attn.key.bias" for i in range(LAYERS)],
    }  # fmt: skip
    authors.save(name, tensors, metadata)


if __name__ == "__main__":
    args = authors.arguments(__doc__)
    authors.import_trajectory_transformer(args.authors)
    run("trajectory_transformer_hopper", 11, 3, seed=1, warmup_steps=1.8, final_steps=5)
    run("trajectory_transformer_halfcheetah", 17, 6, seed=2, warmup_steps=1.8, final_steps=14)
