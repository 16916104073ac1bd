"""Shared by the scripts of value-based methods; describes the layout of the files that they write.

Sizes: batch B = 16, S = 10 updates, observation 5, action A = 3, hidden layers of WIDTH = 16 units (256 in the authors'
code). All runs of a file use the same transitions and the same random numbers, and stand in the metadata with every constant.

| tensor | shape |
|---|---|
| `steps.{observations,next_observations}` | [S, B, observation] |
| `steps.{actions,next_actions}` | [S, B, A] in -1..1 |
| `steps.{rewards,terminated}` | [S, B] |
| `steps.noise.NAME` | [S, ...]: one row for each update, standard normals; of uniforms on 0..1 where the script says so |
| `RUN.start.NETWORK.PARAM` | parameters before the first update, targets too |
| `RUN.grad.NETWORK.PARAM` | gradient at the network's first update, not clipped |
| `RUN.after.NETWORK.PARAM` | parameters after all S updates, targets too |
| `RUN.metric.NAME` | [S], or fewer where an update has none: losses and diagnostics, before the step |

NETWORK: `actor`, `critics`, `value`, `target_actor`, `target_critics`, `target_value`, `temperature` (`log_alpha` [1]),
`lagrange` (`log_alpha_prime` [1]).

PARAM: `net.{0,2,..}.{weight,bias}`, [out, in] and [out]. A tanh-Gaussian actor is one perceptron with 2 A outputs: means, then
log deviations. `log_std` [A]: log deviations that no state changes. `log_std_scale`, `log_std_shift` [1]. Critics are an ensemble of N:
weights [N, **in, out**], biases [N, 1, out], input (observation, action).
"""

import importlib.util
import sys

import authors
import numpy as np
import torch

WIDTH, BATCH, STEPS = 16, 16, 10
OBSERVATION_DIM, ACTION_DIM = 5, 3
SIZES = {
    "hidden": WIDTH, "batch": BATCH, "steps": STEPS, "observation_dim": OBSERVATION_DIM, "action_dim": ACTION_DIM,
    "betas": [0.9, 0.999], "eps": 1e-8,
}  # fmt: skip
CORL = "corl-team/CORL@eeeeef2671235fcce3a3eb255576a207d78840e6"


def load_corl(folder, name, kind="offline"):
    """Imports CORL's algorithms/KIND/NAME.py; its layers get WIDTH units instead of 256."""
    authors.stand_in("d4rl", "gym", "pyrallis", "wandb", "tqdm")
    sys.modules["pyrallis"].wrap = lambda: lambda function: function
    path = folder / "algorithms" / kind / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"corl_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    width = lambda size: WIDTH if size == 256 else size

    class Linear(torch.nn.Linear):
        def __init__(self, inputs, outputs):
            super().__init__(width(inputs), width(outputs))

    module.nn = authors.Shim(torch.nn, Linear=Linear)
    return module


def transitions(rng):
    """The tensors `steps.*` but the noise."""
    terminated = np.zeros((STEPS, BATCH))
    for row in terminated:
        row[rng.choice(BATCH, 3, replace=False)] = 1.0
    action = lambda: np.tanh(rng.normal(size=(STEPS, BATCH, ACTION_DIM)))
    steps = {
        "observations": rng.normal(size=(STEPS, BATCH, OBSERVATION_DIM)),
        "actions": action(),
        "rewards": rng.normal(1.0, 1.0, size=(STEPS, BATCH)),
        "next_observations": rng.normal(size=(STEPS, BATCH, OBSERVATION_DIM)),
        "terminated": terminated,
        "next_actions": action(),
    }
    return {key: torch.tensor(value) for key, value in steps.items()}


def corl_batch(steps, step):
    """CORL's (observations, actions, rewards [B, 1], next observations, done [B, 1]) of one update."""
    of = lambda name: steps[name][step]
    return [of("observations"), of("actions"), of("rewards")[:, None], of("next_observations"), of("terminated")[:, None]]


class Recorded:
    """Puts recorded draws in the place of PyTorch's: of Normal.rsample and .sample, of randn_like and of uniform_.

    `draws` are ("normal", tensor) and ("uniform", tensor on 0..1) in the order of use; all must be used.
    """

    def __init__(self, draws):
        self.draws = list(draws)

    def take(self, kind, shape):
        found, draw = self.draws.pop(0)
        assert found == kind and tuple(draw.shape) == tuple(shape), (found, kind, draw.shape, shape)
        return draw.clone()

    def __enter__(self):
        distribution = torch.distributions.normal
        self.saved = distribution._standard_normal, torch.normal, torch.randn_like, torch.Tensor.uniform_
        distribution._standard_normal = lambda shape, dtype, device: self.take("normal", shape)
        torch.normal = lambda mean, std: mean + std * self.take("normal", mean.shape)
        torch.randn_like = lambda tensor: self.take("normal", tensor.shape)
        torch.Tensor.uniform_ = lambda tensor, low=0.0, high=1.0: tensor.copy_(
            low + (high - low) * self.take("uniform", tensor.shape)
        )
        return self

    def __exit__(self, kind, *_):
        distribution = torch.distributions.normal
        distribution._standard_normal, torch.normal, torch.randn_like, torch.Tensor.uniform_ = self.saved
        assert kind or not self.draws


def perceptron(module, prefix, names=None, value=lambda parameter: parameter):
    """Parameters of one of the authors' networks under our names.

    `prefix` is what stands before `net.0.weight` without `net.`; `names` maps further names to ours; `value` takes the number out of
    a parameter (itself, or its gradient).
    """
    out = {}
    for name, parameter in module.named_parameters():
        if name.startswith(prefix + "."):
            out["net" + name[len(prefix) :]] = value(parameter)
        else:
            out[names[name]] = value(parameter).reshape(-1)
    return copied(out)


def ensemble(members):
    """Perceptrons as critics: (N, in, out), (N, 1, out)."""
    out = {}
    for name in members[0]:
        values = [torch.as_tensor(member[name]) for member in members]
        out[name] = torch.stack([v.T if v.ndim == 2 else v[None] for v in values])
    return copied(out)


def gradient(parameter):
    """For `perceptron(value=...)`."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def copied(tensors):
    return {name: value.detach().clone() for name, value in tensors.items()}


class Run:
    """Collects the tensors of one run."""

    def __init__(self, name):
        self.name, self.tensors, self.metrics = name, {}, {}

    def put(self, when, networks):
        """`when`: start, grad or after; `networks`: their names and parameters."""
        for network, parameters in networks.items():
            for parameter, value in parameters.items():
                self.tensors[f"{self.name}.{when}.{network}.{parameter}"] = value

    def log(self, **metrics):
        for name, value in metrics.items():
            self.metrics.setdefault(name, []).append(float(value))

    def finish(self):
        """All tensors; no gradient or change of a whole tensor may be zero by accident."""
        for name, value in self.tensors.items():
            if ".grad." in name:
                assert (value != 0).any(), name
            if ".after." in name:
                assert (value != self.tensors[name.replace(".after.", ".start.")]).any(), name
        for name, values in self.metrics.items():
            print(f"  {self.name}.{name}", np.round(values, 3))
        return self.tensors | {f"{self.name}.metric.{name}": np.array(v) for name, v in self.metrics.items()}


def save(name, commit, steps, noise, runs, constants):
    """Writes NAME.safetensors: `runs` are finished `Run`s, `constants` those of each by its name."""
    tensors = {f"steps.{key}": value for key, value in steps.items()}
    tensors |= {f"steps.noise.{key}": value for key, value in noise.items()}
    for run in runs:
        tensors |= run.finish()
    authors.save(name, tensors, {"authors": commit, **SIZES, "runs": constants})
    assert (authors.HERE / f"{name}.safetensors").stat().st_size < 500_000, "keep files below 500 kB"
