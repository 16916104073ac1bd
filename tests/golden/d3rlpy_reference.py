"""Shared by the scripts that run takuseno/d3rlpy: imports it from a checkout and puts its networks into our layout.

d3rlpy's packages for logging, environments and storage (structlog, gym, dataclasses_json, ...) have stand-ins: no
number depends on them. It needs gymnasium, h5py and tqdm, which are there where the other scripts' peers are.
"""

import sys

import authors
import gymnasium
import torch
import value_based as common

COMMIT = "takuseno/d3rlpy@38c34b6f99fde82875e2ad81d1ba1f7a7da34137"
OPTIONS = {"device": "cpu", "enable_ddp": False}


def load(folder):
    """Makes the package `d3rlpy` of a checkout importable, in float64."""
    authors.stand_in("structlog", "structlog.contextvars", "dataclasses_json", "colorama", "minari", "tensorboardX")
    authors.stand_in("wandb", "sklearn", "sklearn.neighbors", "gym.version", "gym.wrappers.time_limit")
    authors.stand_in("gym.wrappers.transform_reward")
    sys.modules["dataclasses_json"].dataclass_json = lambda decorated: decorated
    sys.modules["dataclasses_json"].config = lambda **_: {}
    sys.modules["gym.version"].VERSION = "0.26.0"
    sys.modules["gym"] = gymnasium
    for name in ("spaces", "wrappers"):
        sys.modules[f"gym.{name}"] = getattr(gymnasium, name)
    sys.path.insert(0, str(folder))
    from d3rlpy.models.torch.q_functions import ensemble_q_function

    # The sum over critics starts from a float32 zero there, which would round every loss and gradient.
    ensemble_q_function.torch = authors.Shim(torch, float32=torch.float64)


def mini_batch(steps, step):
    """d3rlpy's TorchMiniBatch of one update."""
    from d3rlpy.torch_utility import TorchMiniBatch

    row = {key: value[step] for key, value in steps.items()}
    column = torch.ones(common.BATCH, 1)
    return TorchMiniBatch(
        observations=row["observations"], actions=row["actions"], rewards=row["rewards"][:, None],
        next_observations=row["next_observations"], next_actions=row["next_actions"], returns_to_go=column,
        terminals=row["terminated"][:, None], intervals=column, device="cpu",
    )  # fmt: skip


def encoder():
    from d3rlpy.models import VectorEncoderFactory

    return VectorEncoderFactory([common.WIDTH, common.WIDTH])


def make_critics(count=2):
    """Q-functions as (modules, forwarder)."""
    from d3rlpy.models import MeanQFunctionFactory
    from d3rlpy.models.builders import create_continuous_q_function

    sizes = (common.OBSERVATION_DIM,), common.ACTION_DIM
    return create_continuous_q_function(*sizes, encoder(), MeanQFunctionFactory(), n_ensembles=count, **OPTIONS)


def linears(module):
    return [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)]


def perceptron(layers, value):
    """Linears as one perceptron; `value` takes the numbers out of a parameter (itself, or its gradient)."""
    named = {f"net.{2 * i}.{kind}": getattr(layer, kind) for i, layer in enumerate(layers) for kind in ("weight", "bias")}
    return common.copied({name: value(parameter) for name, parameter in named.items()})


def two_headed(module, value):
    """A network whose last two linears, means and log deviations, read the same features, as one perceptron."""
    *layers, mean, log_std = linears(module)
    joined = {
        f"net.{2 * len(layers)}.{kind}": torch.cat([value(getattr(head, kind)) for head in (mean, log_std)])
        for kind in ("weight", "bias")
    }
    return perceptron(layers, value) | common.copied(joined)


def critics(members, value):
    return common.ensemble([perceptron(linears(member), value) for member in members])


class Recording:
    """An optimiser as d3rlpy's wrapper of one, which keeps the gradients of its first step in our layout."""

    def __init__(self, module, learning_rate, layout):
        self.optimizer = torch.optim.Adam(module.parameters(), lr=learning_rate)
        self.layout, self.first = layout, None

    def zero_grad(self):
        self.optimizer.zero_grad()

    def step(self):
        if self.first is None:
            self.first = self.layout(common.gradient)
        self.optimizer.step()


def itself(parameter):
    return parameter
