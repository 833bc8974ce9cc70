"""Training all weights of a policy instead of an adapter on them.

Masters are float32 whatever the base's dtype; a base in bfloat16 computes under autocast as before. Sampler and learner
prepare the module by the same call, so that their forwards are the same arithmetic.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

Types = Mapping[str, torch.dtype]


def train_whole(module: torch.nn.Module) -> Types:
    """Make every weight a float32 master that is trained; returns what type each was."""
    types = {name: tensor.dtype for name, tensor in _tensors(module)}
    if set(types.values()) - {torch.float32}:  # norms of float32 under autocast take torch's plain kernel: expected
        warnings.filterwarnings("ignore", "Mismatch dtype between input and weight")
    module.float().requires_grad_(True)
    return types


def settle(module: torch.nn.Module, types: Types) -> None:
    """Round trained weights to the types they had before, once, for good; what `types` does not name stays."""
    for name, tensor in _tensors(module):
        tensor.data = tensor.data.to(types.get(name, tensor.dtype))


def _tensors(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def frozen_copy(module: torch.nn.Module) -> torch.nn.Module:
    """The module as it is now, never trained: the KL reference where there is no adapter to switch off."""
    return copy.deepcopy(module).requires_grad_(False).eval()


@contextmanager
def standing_in(policy: Any, module: torch.nn.Module) -> Iterator[None]:
    """Run another module in the place of the policy's own."""
    own = policy.module
    policy.module = module
    try:
        yield
    finally:
        policy.module = own
