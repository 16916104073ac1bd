"""Golden numbers of the FAST policy's network and optimiser: logits, loss, gradients, ten updates.

Our own PyTorch of it (a minGPT trunk after an embedded observation): there is no code of the authors for a policy of this
size. Its parts are PyTorch's: `nn.MultiheadAttention` is not used, so that names are minGPT's.

python tests/golden/fast.py
"""

import math

import authors
import numpy as np
import torch
from torch import nn
from torch.nn import functional

VOCABULARY, LAYERS, HEADS, WIDTH, MOST_TOKENS, BATCH, STEPS = 13, 2, 2, 14, 12, 5, 10
RATE, BETAS, DECAY, CLIP, WARMUP, END = 6e-4, (0.9, 0.95), 0.1, 1.0, 4, 9


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.key, self.query, self.value, self.proj = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x):
        split = lambda y: y.unflatten(-1, (HEADS, WIDTH // HEADS)).transpose(1, 2)
        mixed = functional.scaled_dot_product_attention(
            split(self.query(x)), split(self.key(x)), split(self.value(x)), is_causal=True
        )
        return self.proj(mixed.transpose(1, 2).flatten(-2))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1, self.ln2, self.attn = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH), Attention()
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x):
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class Network(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.condition = nn.Linear(inputs, WIDTH)
        self.tok_emb = nn.Embedding(VOCABULARY, WIDTH)
        self.pos_emb = nn.Parameter(torch.zeros(1, MOST_TOKENS + 1, WIDTH))
        self.blocks = nn.ModuleList([Block() for _ in range(LAYERS)])
        self.ln_f = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY + 1, bias=False)

    def forward(self, observations, tokens):
        x = torch.cat([self.condition(observations)[:, None], self.tok_emb(tokens)], 1)
        x = x + self.pos_emb[:, : x.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln_f(x))


def loss_of(network, observations, sequences):
    """Mean cross entropy over all tokens and ends, sequence by sequence: nothing is padded."""
    total, count = 0.0, 0
    for observation, tokens in zip(observations, sequences):
        targets = torch.tensor(tokens + [VOCABULARY])
        logits = network(observation[None], torch.tensor(tokens, dtype=torch.long)[None])[0]
        total = total + functional.cross_entropy(logits, targets, reduction="sum")
        count += len(targets)
    return total / count


def factor(update):
    """Linear from 1 / WARMUP on, then along a cosine to a tenth."""
    if update < WARMUP:
        return update / WARMUP
    progress = min((update - WARMUP) / (END - WARMUP), 1.0)
    return max(0.1, 0.5 * (1 + math.cos(math.pi * progress)))


def run(name, inputs, seed):
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = Network(inputs)
    scales = {"tok_emb.weight": 0.3, "pos_emb": 0.3, "head.weight": 0.2, "bias": 0.1, "weight": 0.15}
    authors.perturb(network, torch.Generator().manual_seed(seed), scales)
    tensors = authors.parameters(network, "param")
    observations = torch.tensor(rng.normal(size=(STEPS, BATCH, inputs)))
    lengths = rng.integers(1, MOST_TOKENS + 1, (STEPS, BATCH))
    tokens = rng.integers(0, VOCABULARY, (STEPS, BATCH, MOST_TOKENS))
    sequences = [[list(map(int, t[:n])) for t, n in zip(*row)] for row in zip(tokens, lengths)]
    tensors |= {"steps.observations": observations, "steps.tokens": tokens, "steps.lengths": lengths}
    tensors["logits"] = network(observations[0], torch.tensor(tokens[0]))

    decayed = [n for n, _ in network.named_parameters() if n.endswith(".weight") and any(p in n for p in ("attn.", "mlp.", "head.", "condition."))]
    groups = [
        {"params": [p for n, p in network.named_parameters() if n in decayed], "weight_decay": DECAY},
        {"params": [p for n, p in network.named_parameters() if n not in decayed], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS)
    losses, norms = [], []
    for step in range(STEPS):
        loss = loss_of(network, observations[step], sequences[step])
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            tensors |= {"loss": loss.detach()[None], **authors.gradients(network)}
        norms.append(float(nn.utils.clip_grad_norm_(network.parameters(), CLIP)))
        for group in optimizer.param_groups:
            group["lr"] = RATE * factor(step + 1)
        optimizer.step()
        losses.append(loss.item())
    print(name, "losses", np.round(losses, 4), "norms", np.round(norms, 3))
    assert max(norms) > CLIP
    tensors |= authors.parameters(network, "after")
    tensors |= {"steps.loss": np.array(losses), "steps.grad_norm": np.array(norms)}
    # Our head is one of several per position, as the Trajectory Transformer's.
    tensors |= {key: value[None] for key, value in tensors.items() if key.endswith("head.weight")}
    metadata = {
        "vocabulary": VOCABULARY, "layers": LAYERS, "heads": HEADS, "width": WIDTH, "most_tokens": MOST_TOKENS,
        "batch": BATCH, "steps": STEPS, "inputs": inputs, "learning_rate": RATE, "betas": list(BETAS), "decay": DECAY,
        "clip": CLIP, "warmup": WARMUP, "end": END, "decayed": sorted(decayed),
    }  # fmt: skip
    authors.save(name, tensors, metadata)


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    run("fast_hopper", 11, seed=1)
