"""Golden numbers of the Decision Transformer over choices: logits, loss, gradients, ten steps.

python tests/golden/discrete_decision_transformer.py

The authors' Atari code (kzl/decision-transformer @ e2d82e6, `atari/mingpt`) has another trunk than their gym code, with pictures as states.
Here it is the gym network with what their Atari code does about actions, in PyTorch of our own: a row of a table for each choice in the place of the
linear layer on actions, logits from the state token without a tanh, and their cross-entropy, over the steps that are not padding. Names and layouts are
those of `DecisionTransformerModel` in `transformers`; the table is the transposed `embed_action.weight`, with a bias that padding has alone.
"""

import math

import authors
import numpy as np
import torch
import torch.nn.functional as F

LAYERS, HEADS, WIDTH, CONTEXT, LONGEST, BATCH, STEPS = 2, 2, 32, 5, 50, 4, 10
STATE_DIM, CHOICES = 6, 3
LEARNING_RATE, WEIGHT_DECAY, WARMUP, CLIP = 1e-3, 1e-4, 2, 0.25


def make_parameters(generator):
    normal = lambda *shape: torch.randn(*shape, generator=generator)
    found = {"embed_timestep.weight": normal(LONGEST, WIDTH)}
    linear = lambda name, inputs, outputs: {
        f"{name}.weight": normal(outputs, inputs) / math.sqrt(inputs), f"{name}.bias": 0.1 * normal(outputs)
    }  # fmt: skip
    # Layers of GPT-2 are (in, out).
    conv = lambda name, inputs, outputs: {
        f"{name}.weight": 0.15 * normal(inputs, outputs), f"{name}.bias": 0.1 * normal(outputs)
    }  # fmt: skip
    norm = lambda name: {f"{name}.weight": 1 + 0.15 * normal(WIDTH), f"{name}.bias": 0.1 * normal(WIDTH)}
    found |= linear("embed_return", 1, WIDTH) | linear("embed_state", STATE_DIM, WIDTH)
    found |= linear("embed_action", CHOICES, WIDTH) | norm("embed_ln")
    for i in range(LAYERS):
        block = f"encoder.h.{i}"
        found |= norm(f"{block}.ln_1") | norm(f"{block}.ln_2")
        found |= conv(f"{block}.attn.c_attn", WIDTH, 3 * WIDTH) | conv(f"{block}.attn.c_proj", WIDTH, WIDTH)
        found |= conv(f"{block}.mlp.c_fc", WIDTH, 4 * WIDTH) | conv(f"{block}.mlp.c_proj", 4 * WIDTH, WIDTH)
    found |= norm("encoder.ln_f") | linear("predict_action.0", WIDTH, CHOICES)
    return {name: value.requires_grad_() for name, value in found.items()}


def logits(p, batch):
    linear = lambda x, name: F.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])
    conv = lambda x, name: x @ p[f"{name}.weight"] + p[f"{name}.bias"]
    norm = lambda x, name: F.layer_norm(x, (WIDTH,), p[f"{name}.weight"], p[f"{name}.bias"])
    times = F.embedding(batch["timesteps"], p["embed_timestep.weight"])
    rows = F.embedding(batch["actions"], p["embed_action.weight"].T)
    actions = rows * batch["mask"][..., None] + p["embed_action.bias"]
    tokens = [linear(batch["returns_to_go"], "embed_return"), linear(batch["states"], "embed_state"), actions]
    x = torch.stack([token + times for token in tokens], 2).reshape(BATCH, 3 * CONTEXT, WIDTH)
    x = norm(x, "embed_ln")
    seen = batch["mask"].bool().repeat_interleave(3, 1)
    allowed = torch.ones(3 * CONTEXT, 3 * CONTEXT).tril().bool() & seen[:, None, None, :]
    split = lambda y: y.reshape(BATCH, 3 * CONTEXT, HEADS, WIDTH // HEADS).transpose(1, 2)
    for i in range(LAYERS):
        block = f"encoder.h.{i}"
        query, key, value = conv(norm(x, f"{block}.ln_1"), f"{block}.attn.c_attn").split(WIDTH, 2)
        scores = split(query) @ split(key).transpose(2, 3) / math.sqrt(WIDTH // HEADS)
        # Rows of padding look at nothing: their own weights don't matter.
        weights = scores.masked_fill(~allowed, -1e9).softmax(3)
        y = (weights @ split(value)).transpose(1, 2).reshape(x.shape)
        x = x + conv(y, f"{block}.attn.c_proj")
        x = x + conv(conv(norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc").relu(), f"{block}.mlp.c_proj")
    x = norm(x, "encoder.ln_f").reshape(BATCH, CONTEXT, 3, WIDTH)
    return linear(x[:, :, 1], "predict_action.0")


def loss_of(p, batch):
    seen = batch["mask"].reshape(-1) > 0
    return F.cross_entropy(logits(p, batch).reshape(-1, CHOICES)[seen], batch["actions"].reshape(-1)[seen])


def make_batch(rng, lengths):
    columns = {key: [] for key in ("states", "actions", "returns_to_go", "timesteps", "mask")}
    for length in lengths:
        pad, start = CONTEXT - length, int(rng.integers(0, LONGEST - length + 1))
        front = lambda values: np.concatenate([np.zeros((pad, *values.shape[1:]), values.dtype), values])
        columns["states"].append(front(rng.normal(size=(length, STATE_DIM))))
        columns["actions"].append(front(rng.integers(CHOICES, size=length)))
        columns["returns_to_go"].append(front(rng.uniform(0.5, 3.5, (length, 1))))
        columns["timesteps"].append(front(np.arange(start, start + length)))
        columns["mask"].append(front(np.ones(length, int)))
    return {key: torch.tensor(np.stack(value)) for key, value in columns.items()}


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    rng = np.random.default_rng(4)
    p = make_parameters(torch.Generator().manual_seed(4))
    copies = lambda prefix: {f"{prefix}.{name}": value.detach().clone() for name, value in p.items()}
    tensors = copies("param")
    lengths = [[CONTEXT, 3, 1, 4]] + [rng.integers(1, CONTEXT + 1, BATCH) for _ in range(STEPS - 1)]
    batches = [make_batch(rng, row) for row in lengths]
    for key in batches[0]:
        tensors[f"steps.{key}"] = torch.stack([batch[key] for batch in batches])
    tensors["logits"] = logits(p, batches[0])
    optimizer = torch.optim.AdamW(p.values(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    losses, norms = [], []
    for step, batch in enumerate(batches):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * min((step + 1) / WARMUP, 1)
        optimizer.zero_grad()
        loss = loss_of(p, batch)
        loss.backward()
        if step == 0:
            tensors |= {f"grad.{name}": value.grad.clone() for name, value in p.items()}
        norms.append(float(torch.nn.utils.clip_grad_norm_(list(p.values()), CLIP)))
        losses.append(loss.item())
        optimizer.step()
    tensors |= copies("after")
    tensors |= {"loss": np.array(losses[0]), "steps.loss": np.array(losses), "steps.grad_norm": np.array(norms)}
    print("norms", np.round(norms, 3), "losses", np.round(losses, 3))
    metadata = {
        "authors": "none", "layers": LAYERS, "heads": HEADS, "width": WIDTH, "context": CONTEXT, "longest_episode": LONGEST,
        "state_dim": STATE_DIM, "choices": CHOICES, "learning_rate": LEARNING_RATE, "weight_decay": WEIGHT_DECAY,
        "warmup_steps": WARMUP, "clip": CLIP,
    }  # fmt: skip
    authors.save("discrete_decision_transformer", tensors, metadata)
