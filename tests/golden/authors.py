"""Shared by the scripts of this folder: imports authors' code from a checkout, and writes safetensors files.

The authors' repositories are not part of this one. Every script takes their folder with `--authors DIR`; the commit
it was run with stands in the script and in README.md. Packages that the authors import but that no number depends on
(gym, d4rl, mujoco_py, wandb, ...) are replaced by empty stand-ins.
"""

import argparse
import collections
import collections.abc
import json
import sys
import types
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import torch
from safetensors.numpy import save_file

HERE = Path(__file__).resolve().parent


def arguments(description, **optional):
    """Parses `--authors DIR` (and further folders) and prepares torch: float64, one thread."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--authors", required=True, type=Path, help="checkout of the authors' repository")
    for name, text in optional.items():
        parser.add_argument(f"--{name}", type=Path, help=text)
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    return parser.parse_args()


def stand_in(*names):
    """Registers stand-ins for modules, so that the authors' import lines pass."""
    for name in names:
        module = types.ModuleType(name)
        module.__getattr__ = lambda key: MagicMock(name=key)
        module.__path__ = []
        sys.modules[name] = module


class Shim:
    """A module with some attributes replaced, for one importing module alone."""

    def __init__(self, module, **replaced):
        self.__dict__.update(replaced)
        self._module = module

    def __getattr__(self, key):
        return getattr(self._module, key)


def import_trajectory_transformer(folder):
    """Makes jannerm's package `trajectory` importable on a machine without gym, d4rl, MuJoCo or CUDA."""
    stand_in("gym", "d4rl", "mujoco_py", "skvideo", "skvideo.io", "git", "matplotlib", "matplotlib.pyplot")
    stand_in("tap")
    sys.modules["tap"].Tap = object
    collections.Mapping = collections.abc.Mapping  # its name in the Python of that time
    sys.path.insert(0, str(folder))
    import trajectory.utils.arrays as arrays

    arrays.DTYPE, arrays.DEVICE = torch.float64, "cpu"


def import_latentplan(folder):
    """The same for `latentplan`, the package of TAP's authors."""
    stand_in(
        "gym", "d4rl", "mujoco_py", "skvideo", "skvideo.io", "git", "matplotlib", "matplotlib.pyplot", "wandb", "tap",
        "einops", "latentplan.utils.rendering", "latentplan.utils.video",
    )  # fmt: skip
    sys.modules["tap"].Tap = object
    sys.modules["gym"].ObservationWrapper = sys.modules["gym"].ActionWrapper = object
    collections.Mapping = collections.abc.Mapping  # its name in the Python of that time
    sys.path.insert(0, str(folder))
    import latentplan.utils.arrays as arrays

    arrays.DTYPE, arrays.DEVICE = torch.float64, "cpu"


def perturb(model, generator, scales):
    """Adds normal noise to every parameter; `scales` maps a suffix of the name to the deviation, first match wins."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = next(value for suffix, value in scales.items() if name.endswith(suffix))
            parameter += scale * torch.randn(parameter.shape, generator=generator)


def parameters(model, prefix):
    """Copies of all parameters, their names behind a prefix."""
    return {f"{prefix}.{name}": value.detach().numpy().copy() for name, value in model.named_parameters()}


def gradients(model, prefix="grad"):
    """Copies of all gradients that backward has set."""
    return {
        f"{prefix}.{name}": value.grad.numpy().copy()
        for name, value in model.named_parameters()
        if value.grad is not None
    }


def save(name, tensors, metadata):
    """Writes NAME.safetensors beside this file: floats as F64, integers and booleans as U32."""
    out = {}
    for key, value in tensors.items():
        value = value.detach().numpy() if torch.is_tensor(value) else np.asarray(value)
        if value.dtype.kind in "iub":
            assert value.min(initial=0) >= 0, key
            value = value.astype(np.uint32)
        else:
            assert np.isfinite(value).all() and value.dtype == np.float64, key
        out[key] = np.ascontiguousarray(value)
    metadata = {"torch": torch.__version__, "numpy": np.__version__, **metadata}
    path = HERE / f"{name}.safetensors"
    save_file(out, path, metadata={"golden": json.dumps(metadata, sort_keys=True)})
    print(f"{path.name}: {len(out)} tensors, {path.stat().st_size / 1e6:.2f} MB")
    assert path.stat().st_size < 3e6, "keep files below 3 MB"
