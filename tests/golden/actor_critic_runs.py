"""Shared by td3.py, sac.py, sac_n.py and edac.py: batches, recorded draws, parameters under our names."""

import authors
import numpy as np
import torch

OBSERVATION, ACTION, HIDDEN, BATCH, STEPS = 5, 2, 16, 16, 10


def make_batches(rng):
    """Rows of (observations, actions in -1..1, rewards, next observations, terminated)."""
    batches = []
    for _ in range(STEPS):
        terminated = np.zeros(BATCH)
        terminated[rng.choice(BATCH, 3, replace=False)] = 1.0
        batch = {
            "observations": rng.normal(size=(BATCH, OBSERVATION)),
            "actions": np.tanh(rng.normal(size=(BATCH, ACTION))),
            "rewards": rng.normal(1.0, 1.0, size=BATCH),
            "next_observations": rng.normal(size=(BATCH, OBSERVATION)),
            "terminated": terminated,
        }
        batches.append({key: torch.tensor(value) for key, value in batch.items()})
    return batches


def make_noise(rng, *names):
    """Standard normals (S, B, A) under each name, in the order in which an update uses them."""
    return {name: torch.tensor(rng.normal(size=(STEPS, BATCH, ACTION))) for name in names}


class Draws:
    """Hands out recorded normals in the place of torch's: `take(shape)`; after each update none may be left."""

    def __init__(self, noise):
        self.rows = [row for step in range(STEPS) for row in [rows[step] for rows in noise.values()]]
        self.per_update, self.left = len(noise), STEPS

    def take(self, shape, *_, **__):
        row = self.rows.pop(0)
        assert row.shape == torch.Size(shape), (row.shape, shape)
        return row

    def end_of_update(self):
        self.left -= 1
        assert len(self.rows) == self.per_update * self.left


def mlp(layers):
    """Linear layers as our `net.0.weight`, `net.0.bias`, `net.2.weight`, ...: (name, parameters that stand one below the other)."""
    out = {}
    for number, layer in enumerate(layers):
        heads = layer if isinstance(layer, tuple) else (layer,)
        out[f"net.{2 * number}.weight"] = [head.weight for head in heads]
        out[f"net.{2 * number}.bias"] = [head.bias for head in heads]
    return {name: lambda of, p=parameters: torch.cat([of(x) for x in p]) for name, parameters in out.items()}


def separate_critics(members):
    """Critics that are lists of linear layers as one ensemble: (N, in, out) and (N, 1, out)."""
    out = {}
    for number, layers in enumerate(zip(*members)):
        name = f"net.{2 * number}"
        out[f"{name}.weight"] = lambda of, l=layers: torch.stack([of(x.weight).T for x in l])
        out[f"{name}.bias"] = lambda of, l=layers: torch.stack([of(x.bias)[None] for x in l])
    return out


def vectorized_critics(layers):
    """Layers that are ensembles already."""
    out = {}
    for number, layer in enumerate(layers):
        out[f"net.{2 * number}.weight"] = lambda of, l=layer: of(l.weight)
        out[f"net.{2 * number}.bias"] = lambda of, l=layer: of(l.bias)
    return out


class Recording:
    """Tensors of one run. `networks`: for each of our names its parameters, each a function of what is wanted of them."""

    def __init__(self, run, networks, optimizers):
        self.run, self.networks, self.tensors, self.metrics, self.open = run, networks, {}, {}, set()
        self.values("start")
        for name, optimizer in optimizers.items():
            self.open.add(name)
            optimizer.register_step_pre_hook(lambda *_, name=name: self.gradients(name))

    def values(self, when):
        for network, parameters in self.networks.items():
            for name, parameter in parameters.items():
                self.tensors[f"{self.run}.{when}.{network}.{name}"] = parameter(lambda p: p.detach()).clone()

    def gradients(self, network):
        if network not in self.open:
            return
        self.open.remove(network)
        for name, parameter in self.networks[network].items():
            gradient = parameter(lambda p: p.grad).clone()
            assert (gradient != 0).any(), (self.run, network, name)
            self.tensors[f"{self.run}.grad.{network}.{name}"] = gradient

    def metric(self, **values):
        for name, value in values.items():
            self.metrics.setdefault(name, []).append(float(value))

    def finish(self):
        self.values("after")
        assert not self.open
        for name, values in self.metrics.items():
            self.tensors[f"{self.run}.metric.{name}"] = np.array(values)
        for network, parameters in self.networks.items():
            for name in parameters:
                start, after = (self.tensors[f"{self.run}.{when}.{network}.{name}"] for when in ("start", "after"))
                assert (start != after).any(), (self.run, network, name)
        for name, values in self.metrics.items():
            print(f"  {self.run}.{name}", np.round(values, 3))
        return self.tensors


def save(name, batches, noise, tensors, runs, metadata):
    """Writes the file; fails if two runs don't differ."""
    out = {f"steps.{key}": torch.stack([batch[key] for batch in batches]) for key in batches[0]}
    out |= {f"steps.noise.{key}": rows for key, rows in noise.items()}
    for metric in {key.split(".metric.")[1] for key in tensors if ".metric." in key}:
        curves = [tensors[key].tobytes() for key in tensors if key.endswith(f".metric.{metric}")]
        assert len(set(curves)) == len(curves), metric
    sizes = {
        "observation_dim": OBSERVATION, "action_dim": ACTION, "batch": BATCH, "steps": STEPS, "noise": list(noise),
        "betas": [0.9, 0.999], "eps": 1e-8, "runs": runs,
    }  # fmt: skip
    authors.save(name, out | tensors, sizes | metadata)
    size = (authors.HERE / f"{name}.safetensors").stat().st_size
    assert size < 500e3, "keep value-based files below 500 kB"
