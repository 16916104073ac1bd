"""Golden numbers of the Trajectory Transformer with parts that are not its authors': logits, loss, gradients.

Our own PyTorch; the parts are PyTorch's: `F.rms_norm`, `F.layer_norm`, `F.scaled_dot_product_attention`, `F.silu`, `F.embedding`.
With none of them it is the network of jannerm/trajectory-transformer @ 8834a6e, which `trajectory_transformer.py` runs.

python tests/golden/trajectory_transformer_parts.py
"""

import argparse

import authors
import torch
import torch.nn.functional as F

OBSERVATION, ACTION, BINS, WINDOW = 3, 1, 5, 3
LAYERS, HEADS, WIDTH, BATCH = 2, 2, 12, 2
PLACES = OBSERVATION + ACTION + 2
TIME = WINDOW * PLACES - 1
INNER, GATED_INNER = 4 * WIDTH, 32  # 8 / 3 of the width
EPSILON = 1e-5
ACTION_WEIGHT, REWARD_WEIGHT, VALUE_WEIGHT = 5.0, 2.0, 0.5
KEYS = ["qk_norm", "rms", "step_and_dimension", "tied_heads", "swiglu"]
VARIANTS = {"papers": []} | {key: [key] for key in KEYS} | {"all": KEYS}


def parameters(draw):
    tensors = {
        "tok_emb.weight": draw(BINS * PLACES + 1, WIDTH),
        "pos_emb": draw(1, TIME, WIDTH),
        "step_emb": draw(1, WINDOW, WIDTH),
        "dimension_emb": draw(1, PLACES, WIDTH),
        "head.weight": draw(PLACES, BINS + 1, WIDTH),
        "ln_f.weight": draw(WIDTH) + 1,
        "ln_f.bias": draw(WIDTH),
    }
    for block in (f"blocks.{layer}" for layer in range(LAYERS)):
        for norm in ("ln1", "ln2"):
            tensors[f"{block}.{norm}.weight"] = draw(WIDTH) + 1
            tensors[f"{block}.{norm}.bias"] = draw(WIDTH)
        for linear in ("query", "key", "value", "proj"):
            tensors[f"{block}.attn.{linear}.weight"] = draw(WIDTH, WIDTH)
            tensors[f"{block}.attn.{linear}.bias"] = draw(WIDTH)
        for prefix, inner, inputs in (("", INNER, ("0",)), ("gated.", GATED_INNER, ("0", "gate"))):
            for linear in inputs:
                tensors[f"{prefix}{block}.mlp.{linear}.weight"] = draw(inner, WIDTH)
                tensors[f"{prefix}{block}.mlp.{linear}.bias"] = draw(inner)
            tensors[f"{prefix}{block}.mlp.2.weight"] = draw(WIDTH, inner)
            tensors[f"{prefix}{block}.mlp.2.bias"] = draw(WIDTH)
    return {name: value.requires_grad_() for name, value in tensors.items()}


class Network:
    def __init__(self, tensors, keys):
        self.tensors, self.keys = tensors, keys

    def linear(self, name, x):
        return F.linear(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def norm(self, name, x):
        weight = self.tensors[f"{name}.weight"]
        if "rms" in self.keys:
            return F.rms_norm(x, (WIDTH,), weight, EPSILON)
        return F.layer_norm(x, (WIDTH,), weight, self.tensors[f"{name}.bias"], EPSILON)

    def attention(self, name, x):
        heads = [
            self.linear(f"{name}.{part}", x).view(BATCH, TIME, HEADS, WIDTH // HEADS).transpose(1, 2)
            for part in ("query", "key", "value")
        ]
        if "qk_norm" in self.keys:
            size = WIDTH // HEADS
            heads[:2] = [F.rms_norm(part, (size,), eps=EPSILON) for part in heads[:2]]
        seen = torch.ones(TIME, TIME, dtype=torch.bool).tril()
        seen[:, PLACES - 1 :: PLACES] = False  # values
        mixed = F.scaled_dot_product_attention(*heads, attn_mask=seen)
        return self.linear(f"{name}.proj", mixed.transpose(1, 2).reshape(BATCH, TIME, WIDTH))

    def mlp(self, name, x):
        if "swiglu" not in self.keys:
            return self.linear(f"{name}.2", F.gelu(self.linear(f"{name}.0", x)))
        name = f"gated.{name}"
        return self.linear(f"{name}.2", self.linear(f"{name}.0", x) * F.silu(self.linear(f"{name}.gate", x)))

    def positions(self):
        if "step_and_dimension" not in self.keys:
            return self.tensors["pos_emb"]
        at = torch.arange(TIME)
        return self.tensors["step_emb"][:, at // PLACES] + self.tensors["dimension_emb"][:, at % PLACES]

    def head(self, position):
        """Weights (N + 1, width) of what predicts the token after this position."""
        if "tied_heads" not in self.keys:
            return self.tensors["head.weight"][position % PLACES]
        place = (position + 1) % PLACES
        rows = [*range(place * BINS, (place + 1) * BINS), BINS * PLACES]
        return self.tensors["tok_emb.weight"][rows]

    def hidden(self, tokens):
        places = torch.arange(TIME) % PLACES
        rows = torch.where(tokens == BINS, BINS * PLACES, tokens + BINS * places)
        x = F.embedding(rows, self.tensors["tok_emb.weight"]) + self.positions()
        for block in (f"blocks.{layer}" for layer in range(LAYERS)):
            x = x + self.attention(f"{block}.attn", self.norm(f"{block}.ln1", x))
            x = x + self.mlp(f"{block}.mlp", self.norm(f"{block}.ln2", x))
        return self.norm("ln_f", x)

    def logits(self, tokens):
        x = self.hidden(tokens)
        return torch.stack([F.linear(x[:, position], self.head(position)) for position in range(TIME)], 1)


def weight(position):
    place = (position + 1) % PLACES
    if place < OBSERVATION:
        return 1.0
    if place < OBSERVATION + ACTION:
        return ACTION_WEIGHT
    return REWARD_WEIGHT if place == OBSERVATION + ACTION else VALUE_WEIGHT


def run():
    generator = torch.Generator().manual_seed(23)
    tensors = parameters(lambda *shape: 0.3 * torch.randn(*shape, generator=generator))
    draw = lambda high: torch.randint(0, high, (BATCH, TIME), generator=generator)
    tokens, targets, mask = draw(BINS + 1), draw(BINS + 1), draw(4) > 0
    weights = torch.tensor([weight(position) for position in range(TIME)])
    saved = {"tokens": tokens, "targets": targets, "mask": mask}
    saved = {name: value.numpy().astype("uint32") for name, value in saved.items()}
    saved |= {f"param.{name}": value.detach().numpy().copy() for name, value in tensors.items()}
    for variant, keys in VARIANTS.items():
        logits = Network(tensors, keys).logits(tokens)
        losses = F.cross_entropy(logits.reshape(-1, BINS + 1), targets.flatten(), reduction="none").view(BATCH, TIME)
        loss = (losses * weights * mask).mean()
        names = list(tensors)
        gradients = torch.autograd.grad(loss, list(tensors.values()), allow_unused=True)
        saved[f"{variant}.logits"] = logits.detach().numpy()
        saved[f"{variant}.loss"] = loss.detach().reshape(1).numpy()
        for name, gradient in zip(names, gradients):
            if gradient is not None:
                saved[f"{variant}.grad.{name}"] = gradient.numpy()
    constants = {
        "observation_dim": OBSERVATION, "action_dim": ACTION, "bins": BINS, "window": WINDOW, "layers": LAYERS, "heads": HEADS,
        "width": WIDTH, "action_weight": ACTION_WEIGHT, "reward_weight": REWARD_WEIGHT, "value_weight": VALUE_WEIGHT,
        "variants": VARIANTS,
    }  # fmt: skip
    authors.save("trajectory_transformer_parts", saved, constants)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    run()
