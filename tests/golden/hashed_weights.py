"""Weights that Python and Rust compute alike, so that models of real size need no file.

Number i of the tensor NAME is u = (h >> 8) 2^-23 - 1 in -1..1, where h is murmur3's finaliser of
FNV-1a(NAME) + i * 0x9E3779B9 (all in 32 bits). Norms' weights are 1 + u / 8, everything else u / 16: exact in f32.
The same formula is in tests/it/hashed_weights.rs.
"""

import numpy as np
import torch


def fnv1a(name):
    value = 0x811C9DC5
    for byte in name.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def tensor(name, shape):
    count = int(np.prod(shape, dtype=np.int64))
    with np.errstate(over="ignore"):
        h = np.uint32(fnv1a(name)) + np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B9)
        h ^= h >> np.uint32(16)
        h *= np.uint32(0x85EBCA6B)
        h ^= h >> np.uint32(13)
        h *= np.uint32(0xC2B2AE35)
        h ^= h >> np.uint32(16)
    u = (h >> np.uint32(8)).astype(np.float64) / 2**23 - 1.0
    norm = name.endswith(".weight") and any(part.startswith(("ln", "embed_ln")) for part in name.split("."))
    values = 1.0 + u / 8.0 if norm else u / 16.0
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def fill(model):
    """Sets every parameter, and returns the model, ready to evaluate."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensor(name, tuple(parameter.shape)))
    return model.eval()
