"""Golden numbers of the Trajectory Transformer that predicts value and next observation at once: logits, losses, gradients, updates.

Our own PyTorch, of PyTorch's functions: after the last number of each action, the state h after the last norm gives for each token k
after the reward `F.linear(h + F.silu(F.linear(h, W_k, b_k)), head)`, with the head that predicts the token from the position before it
(Medusa's residual layers, with heads shared as in Gloeckle et al. 2024). The network around it is that of
`trajectory_transformer_parts.py`. Updates are `torch.optim.AdamW`'s with gradients clipped by `torch.nn.utils.clip_grad_norm_`.

python tests/golden/trajectory_transformer_multi_token.py
"""

import argparse

import authors
import torch
import torch.nn.functional as F
from trajectory_transformer_parts import (
    ACTION, ACTION_WEIGHT, BATCH, BINS, HEADS, KEYS, LAYERS, OBSERVATION, PLACES, REWARD_WEIGHT, TIME, VALUE_WEIGHT, WIDTH, WINDOW,
    Network, parameters, weight,
)  # fmt: skip

COUNT = OBSERVATION + 1
MULTI_TOKEN_WEIGHT = 0.7
VARIANTS = {"alone": [], "tied": ["tied_heads"], "all": KEYS}
UPDATES, RATE, BETAS, DECAY, CLIP = 5, 3e-3, (0.9, 0.95), 0.1, 0.5


def at_once(network, hidden, action):
    """Logits (B, K, N + 1) of what follows the reward after the action that ends at position `action`."""
    state = hidden[:, action]
    own = network.linear("multi_token", state).view(BATCH, COUNT, WIDTH)
    found = []
    for index in range(COUNT):
        # The token lies `index + 2` positions on: this is the position before it.
        head = network.head(action + 1 + index)
        found.append(F.linear(state + F.silu(own[:, index]), head))
    return torch.stack(found, 1)


def losses(network, tokens, targets, mask):
    """Logits (B, S, K, N + 1) of what is predicted at once, the loss of next tokens, and that of these."""
    hidden = network.hidden(tokens)
    loss, more = 0.0, 0.0
    for position in range(TIME):
        logits = F.linear(hidden[:, position], network.head(position))
        found = F.cross_entropy(logits, targets[:, position], reduction="none")
        loss = loss + (weight(position) * found * mask[:, position]).sum()
    logits = []
    for action in range(OBSERVATION + ACTION - 1, TIME, PLACES):
        logits.append(at_once(network, hidden, action))
        for index in range(COUNT):
            position = action + 1 + index
            if position < TIME:
                found = F.cross_entropy(logits[-1][:, index], targets[:, position], reduction="none")
                counts = mask[:, position] & mask[:, action]
                more = more + (weight(position) * found * counts).sum()
    return torch.stack(logits, 1), loss / (BATCH * TIME), more / (BATCH * TIME)


def decays(name):
    layers = ("attn.", "mlp.", "head.", "multi_token.")
    return name.endswith(".weight") and any(layer in name for layer in layers)


def updates(tensors, batch, saved):
    """Five updates from these parameters."""
    network = Network(tensors, [])
    used = torch.autograd.grad(sum(losses(network, *batch)[1:]), list(tensors.values()), allow_unused=True)
    names = [name for name, gradient in zip(tensors, used) if gradient is not None]
    groups = [
        {"params": [tensors[name] for name in names if decays(name)], "weight_decay": DECAY},
        {"params": [tensors[name] for name in names if not decays(name)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS)
    found = []
    for _ in range(UPDATES):
        _, loss, more = losses(network, *batch)
        total = loss + MULTI_TOKEN_WEIGHT * more
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_([tensors[name] for name in names], CLIP)
        optimizer.step()
        found.append([total.item(), more.item()])
    saved["updates.loss"] = torch.tensor([total for total, _ in found]).numpy()
    saved["updates.multi_token_loss"] = torch.tensor([more for _, more in found]).numpy()
    saved |= {f"after.{name}": tensors[name].detach().numpy().copy() for name in names}


def run():
    generator = torch.Generator().manual_seed(29)
    normal = lambda *shape: 0.3 * torch.randn(*shape, generator=generator)
    tensors = parameters(normal)
    tensors["multi_token.weight"] = normal(COUNT * WIDTH, WIDTH).requires_grad_()
    tensors["multi_token.bias"] = normal(COUNT * WIDTH).requires_grad_()
    draw = lambda high: torch.randint(0, high, (BATCH, TIME), generator=generator)
    batch = tokens, targets, mask = draw(BINS + 1), draw(BINS + 1), draw(4) > 0
    saved = {"tokens": tokens, "targets": targets, "mask": mask}
    saved = {name: value.numpy().astype("uint32") for name, value in saved.items()}
    saved |= {f"param.{name}": value.detach().numpy().copy() for name, value in tensors.items()}
    for variant, keys in VARIANTS.items():
        logits, loss, more = losses(Network(tensors, keys), *batch)
        total = loss + MULTI_TOKEN_WEIGHT * more
        gradients = torch.autograd.grad(total, list(tensors.values()), allow_unused=True)
        saved[f"{variant}.logits"] = logits.detach().numpy()
        saved[f"{variant}.losses"] = torch.stack([loss, more, total]).detach().numpy()
        for name, gradient in zip(tensors, gradients):
            if gradient is not None:
                saved[f"{variant}.grad.{name}"] = gradient.numpy()
    updates(tensors, batch, saved)
    constants = {
        "observation_dim": OBSERVATION, "action_dim": ACTION, "bins": BINS, "window": WINDOW, "layers": LAYERS, "heads": HEADS,
        "width": WIDTH, "action_weight": ACTION_WEIGHT, "reward_weight": REWARD_WEIGHT, "value_weight": VALUE_WEIGHT,
        "multi_token_weight": MULTI_TOKEN_WEIGHT, "variants": VARIANTS, "rate": RATE, "beta1": BETAS[0], "beta2": BETAS[1],
        "weight_decay": DECAY, "clip_norm": CLIP,
    }  # fmt: skip
    authors.save("trajectory_transformer_multi_token", saved, constants)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    run()
