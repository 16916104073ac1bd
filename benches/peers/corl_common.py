"""What the peers from https://github.com/corl-team/CORL share: its `train` sets everything up, on a made-up dataset.

None of CORL's code stands here: a file of a checkout is imported, and its own `train` runs up to its loop, so that sizes,
networks, optimisers and constants are its own. Written for commit eeeeef2671235fcce3a3eb255576a207d78840e6. No figure
depends on the packages that are replaced: gym, d4rl, pyrallis and wandb.
"""

import contextlib
import importlib.util
import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
from common import EPISODE, STEPS

os.environ["TQDM_DISABLE"] = "1"  # no progress bars


def add_authors(parser):
    parser.add_argument("--authors", type=Path, required=True, help="checkout of CORL")


def dataset(observation_dim, action_dim):
    """Transitions as CORL gets them from D4RL."""
    rng = np.random.default_rng(0)
    return {
        "observations": rng.standard_normal((STEPS, observation_dim), np.float32),
        "actions": rng.uniform(-1, 1, (STEPS, action_dim)).astype(np.float32),
        "rewards": rng.standard_normal(STEPS, np.float32),
        "next_observations": rng.standard_normal((STEPS, observation_dim), np.float32),
        "next_actions": rng.uniform(-1, 1, (STEPS, action_dim)).astype(np.float32),
        "terminals": np.arange(STEPS) % EPISODE == EPISODE - 1,
    }


def load(args, algorithm):
    """CORL's module of this name. Call it after the other imports: the replaced packages are for CORL alone."""
    environment = MagicMock()
    environment.observation_space.shape = (args.observations,)
    environment.action_space.shape, environment.action_space.high = (args.actions,), np.ones(args.actions)
    wrappers = SimpleNamespace(TransformObservation=lambda env, _: env)
    sys.modules |= {
        "gym": MagicMock(make=lambda _: environment, wrappers=wrappers),
        "d4rl": MagicMock(qlearning_dataset=lambda _: dataset(args.observations, args.actions)),
        "pyrallis": MagicMock(wrap=lambda: lambda function: function),
        "wandb": MagicMock(log=lambda *_, **__: None),  # called in every turn of a loop
    }
    path = args.authors / "algorithms" / "offline" / f"{algorithm}.py"
    spec = importlib.util.spec_from_file_location(f"corl_{algorithm}", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Reached(Exception):
    """Raised by what CORL's loop calls first."""


def variables(owner, name, train, config, calls=1, before=lambda call, found: None):
    """Runs CORL's `train` until it calls `owner.name` so often and returns the variables that it has by then.

    Each call is preceded by `before` with its number, from 0, and a function that gives the variables.
    """
    original, call = owner.__dict__[name], 0

    def stop(*arguments, **named):
        nonlocal call
        caller = sys._getframe(1)
        before(call, lambda: caller.f_locals)
        call += 1
        if call == calls:
            raise Reached
        return original(*arguments, **named)

    setattr(owner, name, stop)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # standard output is for figures
            train(config)
    except Reached as reached:
        return dict(reached.__traceback__.tb_next.tb_frame.f_locals)
    finally:
        setattr(owner, name, original)
    raise RuntimeError(f"CORL's training ended without {name}")
