"""Digests of weights: sha256 over name, shape, type and bytes of every array, in name order.

`policy_digest` is the one identity of weights; a push, a trajectory, a checkpoint and a served version all quote it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import torch


def arrays_digest(arrays: Mapping[str, np.ndarray], *, prefix: str = "") -> str:
    """sha256 over `prefix`, then name, shape, dtype and bytes of every array in name order."""
    digest = hashlib.sha256(prefix.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"|{name}|{array.shape}|{array.dtype}|".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def base_digest(module: torch.nn.Module) -> str:
    """Digest of all weights of a module; adapters on it do not count."""
    weights = {name: t for name, t in module.state_dict().items() if ".lora_" not in name}
    return arrays_digest({name.replace(".base_layer.", "."): bytes_of(t) for name, t in weights.items()})


def policy_digest(base: str, trained: Mapping[str, np.ndarray]) -> str:
    """Digest of a policy: its base's digest and every trained array."""
    return arrays_digest(trained, prefix=base)


def bytes_of(tensor: torch.Tensor) -> np.ndarray:
    """The tensor as an array that numpy knows: bfloat16 as its 16 bits."""
    held = tensor.detach().cpu()
    return (held.view(torch.int16) if held.dtype is torch.bfloat16 else held).numpy()
