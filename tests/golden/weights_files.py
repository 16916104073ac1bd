"""Weights files as people have them, written by PyTorch and safetensors themselves.

python tests/golden/weights_files.py

Writes weights/ (a handful of tensors in every way of storing them) with what they hold in weights_files.safetensors, and
hub/decision_transformer_*: the tiny model of hub/decision_transformer once more, split over several files (safetensors and
pickles, each with its index), with masks as transformers 4.27 to 4.30 saved them, and as a checkpoint of a compiled model
in a DataParallel. Run with torch 2.15.0, transformers 5.24.0, safetensors 0.8.0.
"""

import collections
import json
import shutil

import torch
from safetensors.torch import load_file, save_file, save_model
from transformers import DecisionTransformerModel

from authors import HERE, save

FOLDER = HERE / "weights"
# All numbers of 4 exponent bits but the two that are none.
FINITE = [byte for byte in range(256) if byte & 0x7F != 0x7F]
TINY = HERE / "hub" / "decision_transformer"


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Linear(3, 2)
        self.b = torch.nn.Linear(3, 2)
        self.b.weight = self.a.weight


def plain():
    generator = torch.Generator().manual_seed(5)
    normal = lambda *shape: torch.randn(*shape, generator=generator)
    return collections.OrderedDict(
        {
            "single": normal(3, 4),
            "double": normal(2).double(),
            "half": normal(5).half(),
            "brain": normal(2, 2).bfloat16(),
            "long": torch.arange(6).view(2, 3),
            "int": torch.tensor([7, 300], dtype=torch.int32),
            "short": torch.tensor([1, 2], dtype=torch.int16),
            "char": torch.tensor([3, 100], dtype=torch.int8),
            "byte": torch.tensor([0, 255], dtype=torch.uint8),
            "flags": torch.tensor([True, False, True]),
            "scalar": torch.tensor(2.5),
            "empty": torch.zeros(0, 3),
        }
    )


def views():
    """Tensors that lie in their storages in other ways than one number after the other."""
    base = torch.randn(6, 4, generator=torch.Generator().manual_seed(6))
    cube = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(7))
    return {
        "whole": base,
        "transposed": base.t(),
        "rows": base[2:5],
        "every_other": base[1::2, ::3],
        "column": base[:, 2],
        "permuted": cube.permute(2, 0, 1),
        "repeated": torch.arange(3.0)[:, None].expand(3, 5),
        "again": base,
        "parameter": torch.nn.Parameter(base[:2]),
    }


def write_pickles():
    tensors = plain()
    for protocol in (1, 2, 3, 4, 5):
        torch.save(tensors, FOLDER / f"protocol_{protocol}.bin", pickle_protocol=protocol)
    for protocol in (2, 4):
        torch.save(tensors, FOLDER / f"old_protocol_{protocol}.bin", pickle_protocol=protocol, _use_new_zipfile_serialization=False)
    torch.save(views(), FOLDER / "views.bin")
    torch.save(views(), FOLDER / "old_views.bin", _use_new_zipfile_serialization=False)
    # What PyTorch has no class of storages for.
    small = {
        "e4m3": torch.arange(256, dtype=torch.uint8)[FINITE].view(torch.float8_e4m3fn),
        "e5m2": torch.tensor([0.5, -3.0, 57344.0]).to(torch.float8_e5m2),
        "uint16": torch.tensor([1, 65535], dtype=torch.uint16),
    }
    torch.save(small, FOLDER / "small.bin")
    save_file(small, FOLDER / "small.safetensors")
    save_file(plain(), FOLDER / "plain.safetensors", metadata={"format": "mlx"})
    return tensors, views(), small


def write_refused():
    """Files that must be named, not read."""
    net = Net()
    torch.save(net, FOLDER / "module.bin")
    torch.save({"w": torch.eye(3).to_sparse()}, FOLDER / "sparse.bin")
    torch.save({"w": torch.zeros(2, dtype=torch.complex64)}, FOLDER / "complex.bin")
    torch.save({"epoch": 3, "optimizer": {"lr": 0.1}}, FOLDER / "nothing.bin")
    torch.jit.script(torch.nn.Linear(2, 1)).save(FOLDER / "script.bin")
    save_file({"w": torch.zeros(2, dtype=torch.complex64)}, FOLDER / "complex.safetensors")
    save_file({"w": torch.zeros(2)}, FOLDER / "tensorflow.safetensors", metadata={"format": "tf"})
    # Masks of types that are not read don't matter.
    save_file({"h.0.attn.bias": torch.zeros(2, dtype=torch.complex64), "w": torch.ones(2)}, FOLDER / "masks.safetensors")
    torch.save({"h.0.attn.bias": torch.zeros(2, dtype=torch.complex64), "w": torch.ones(2)}, FOLDER / "masks.bin")


def write_tied():
    torch.manual_seed(8)
    net = Net()
    save_model(net, FOLDER / "tied.safetensors")
    return net.state_dict()


def copy_of_tiny(name):
    folder = HERE / "hub" / f"decision_transformer_{name}"
    folder.mkdir(exist_ok=True)
    shutil.copy(TINY / "config.json", folder)
    return folder


def write_tiny():
    tensors = load_file(TINY / "model.safetensors")
    DecisionTransformerModel.from_pretrained(TINY).save_pretrained(copy_of_tiny("split"), max_shard_size="15KB")

    folder = copy_of_tiny("split_pickles")
    names = sorted(tensors)
    parts = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
    for file, keys in parts.items():
        torch.save({key: tensors[key] for key in keys}, folder / file)
    index = {"metadata": {"total_size": 0}, "weight_map": {key: file for file, keys in parts.items() for key in keys}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")

    masked = dict(tensors)
    for layer in range(2):
        masked[f"encoder.h.{layer}.attn.bias"] = torch.tril(torch.ones(16, 16, dtype=torch.bool)).view(1, 1, 16, 16)
        masked[f"encoder.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(masked, copy_of_tiny("masks") / "model.safetensors", metadata={"format": "pt"})

    compiled = torch.compile(torch.nn.DataParallel(DecisionTransformerModel.from_pretrained(TINY)))
    state = {f"model.{key}": value for key, value in compiled.state_dict().items()}
    assert "model._orig_mod.module.encoder.wpe.weight" in state
    checkpoint = {"epoch": 3, "global_step": 100, "pytorch-lightning_version": "2.5.0", "state_dict": state,
                  "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}}]}  # fmt: skip
    torch.save(checkpoint, copy_of_tiny("checkpoint") / "pytorch_model.bin", pickle_protocol=4)


def main():
    FOLDER.mkdir(exist_ok=True)
    kinds = write_pickles()
    write_refused()
    expected = {}
    for prefix, tensors in zip(["plain", "views", "small", "tied"], [*kinds, write_tied()]):
        for name, value in tensors.items():
            expected[f"{prefix}.{name}"] = value.detach().to(torch.float64).contiguous()
    save("weights_files", expected, {})
    write_tiny()


if __name__ == "__main__":
    main()
