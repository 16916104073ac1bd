"""Shared by scripts that run authors' JAX code: recorded draws and gradients, flax parameters under our names.

The layout of their files, and what each name holds, is described in value_based.py.
"""

import importlib.util
import sys

import jax
import numpy as np
import optax


def load(path, name):
    """Imports one of the authors' files."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class Recorded:
    """Puts recorded numbers in the place of jax.random.normal, in their order, and zeros in that of uniform.

    The authors draw uniforms only for diagnostics that are not kept.
    """

    def __init__(self, *normals):
        self.normals = list(normals)

    def __enter__(self):
        self.originals = jax.random.normal, jax.random.uniform
        jax.random.normal = self.normal
        jax.random.uniform = lambda key, shape=(), dtype=float, **_: jax.numpy.zeros(shape, dtype)

    def normal(self, _, shape=(), dtype=float):
        row = self.normals.pop(0)
        assert row.size == np.prod(shape), (row.shape, shape)
        return jax.numpy.asarray(row, dtype).reshape(shape)

    def __exit__(self, failure, *_):
        jax.random.normal, jax.random.uniform = self.originals
        assert failure or not self.normals


class Adam:
    """optax.adam that keeps the gradients of every step."""

    def __init__(self, learning_rate):
        self.seen = []
        adam = optax.adam(learning_rate=learning_rate)

        def update(gradients, state, parameters=None):
            self.seen.append(gradients)
            return adam.update(gradients, state, parameters)

        self.transformation = optax.GradientTransformation(adam.init, update)


def perturbed(parameters, rng, scale=0.3):
    """The same tree in float64 with normal noise on every number: no layer is tiny, nothing is equal by chance."""
    noisy = lambda x: jax.numpy.asarray(np.asarray(x, np.float64) + scale * rng.normal(size=x.shape))
    return jax.tree.map(noisy, parameters)


def numbered(tree, kind):
    """The layers `kind`_0, `kind`_1, ... of a flax tree, in order."""
    names = [name for name in tree if name.rsplit("_", 1)[0] == kind]
    return [tree[name] for name in sorted(names, key=lambda name: int(name.rsplit("_", 1)[1]))]


def linear(layer):
    """A Dense layer as ours: weight (out, in), bias (out)."""
    return {"weight": np.asarray(layer["kernel"]).T.copy(), "bias": np.asarray(layer["bias"])}


def mlp(layers, norms=()):
    """Dense layers as `net.0`, `net.2`, ...; with norms after the activations, `net.0`, `net.2` (norm), `net.3`, ..."""
    step = 3 if norms else 2
    out = {}
    for i, layer in enumerate(layers):
        out |= {f"net.{step * i}.{kind}": value for kind, value in linear(layer).items()}
    for i, norm in enumerate(norms):
        out[f"net.{3 * i + 2}.weight"] = np.asarray(norm["scale"])
        out[f"net.{3 * i + 2}.bias"] = np.asarray(norm["bias"])
    return out


def critics(tree):
    """An ensemble of critics: weights (N, in, out), biases (N, 1, out), norms (N, 1, width)."""
    tree = tree["params"]["VmapCritic_0"]
    norms = numbered(tree, "LayerNorm")
    step = 3 if norms else 2
    out = {}
    for i, layer in enumerate(numbered(tree, "Dense")):
        out[f"net.{step * i}.weight"] = np.asarray(layer["kernel"])
        out[f"net.{step * i}.bias"] = np.asarray(layer["bias"])[:, None]
    for i, norm in enumerate(norms):
        out[f"net.{3 * i + 2}.weight"] = np.asarray(norm["scale"])[:, None]
        out[f"net.{3 * i + 2}.bias"] = np.asarray(norm["bias"])[:, None]
    return out


def named(prefix, parameters):
    """All parameters of a network, their names behind a prefix; none is zero throughout."""
    for name, value in parameters.items():
        assert np.abs(value).max() > 0, (prefix, name)
    return {f"{prefix}.{name}": value for name, value in parameters.items()}


def make_batches(rng, steps, batch, observation_dim, action_dim):
    """Transitions of S batches: actions within -1..1, three rows of each batch terminated."""
    terminated = np.zeros((steps, batch))
    for row in terminated:
        row[rng.choice(batch, 3, replace=False)] = 1.0
    return {
        "observations": rng.normal(size=(steps, batch, observation_dim)),
        "actions": np.tanh(rng.normal(size=(steps, batch, action_dim))),
        "rewards": rng.normal(1.0, 1.0, size=(steps, batch)),
        "next_observations": rng.normal(size=(steps, batch, observation_dim)),
        "terminated": terminated,
        "next_actions": np.tanh(rng.normal(size=(steps, batch, action_dim))),
    }


def authors_batch(steps, i):
    """The i-th batch under the authors' names."""
    names = {
        "states": "observations", "actions": "actions", "rewards": "rewards", "next_states": "next_observations",
        "next_actions": "next_actions", "dones": "terminated",
    }  # fmt: skip
    return {theirs: jax.numpy.asarray(steps[ours][i]) for theirs, ours in names.items()}


def check_runs_differ(tensors, runs):
    """Every loss of every run must differ from that of `default`."""
    for run in runs:
        for key, value in tensors.items():
            if run != "default" and key.startswith(f"{run}.metric."):
                other = tensors["default" + key[len(run) :]]
                assert value.shape != other.shape or np.abs(value - other).max() > 1e-3, key
