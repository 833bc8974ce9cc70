"""What a forward and an update cost before any weight is loaded: the recipe's own code on tensors without content.

The transformer is built from its `config.json` without memory and run on fake tensors: floating-point operations are
counted kernel by kernel, and memory by the storages that are alive. Nothing here is a rule of thumb.
Legend: B rows of a forward.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from burnish.data.errors import ConfigError, Problem
from burnish.data.records import Conditions, Geometry
from burnish.policies.loading import DTYPES
from burnish.policies.lora import AdapterConfig, add_adapter
from burnish.policies.pretrained import PretrainedPolicy
from burnish.policies.protocol import HasGuidance, Policy


@dataclass(frozen=True)
class Usage:
    """What one call costs.

    Args:
        flops: floating-point operations, two a multiply-add.
        bytes: most memory beyond weights, gradients and optimiser.
    """

    flops: int
    bytes: int


class LiveBytes(TorchDispatchMode):
    """Bytes of the storages that operations make, now and at most; what was there before does not count.

    Args:
        module: whose weights do not count.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.now = self.most = 0
        self._seen: weakref.WeakKeyDictionary[Any, None] = weakref.WeakKeyDictionary()
        for tensor in (*module.parameters(), *module.buffers()):
            self._seen[tensor.untyped_storage()] = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and note the storages that it made."""
        made = func(*args, **(kwargs or {}))
        for storage in {t.untyped_storage() for t in tree_leaves(made) if isinstance(t, torch.Tensor)}:
            if storage not in self._seen:
                self._seen[storage] = None
                self.now += storage.nbytes()
                weakref.finalize(storage, self._gone, storage.nbytes())
        self.most = max(self.most, self.now)
        return made

    def _gone(self, size: int) -> None:
        self.now -= size


@contextmanager
def hollow_policy(policy: type[PretrainedPolicy], config: Any, adapter: AdapterConfig) -> Iterator[PretrainedPolicy]:
    """A policy with its adapter whose weights have shapes and types but no content; inside, tensors are fake.

    Args:
        policy: the family's class.
        config: the family's.
        adapter: what is trained.

    Raises:
        ConfigError: `path` is not a pipeline's directory, or the adapter does not fit.
    """
    import diffusers
    from accelerate import init_empty_weights
    from torch._subclasses.fake_tensor import FakeTensorMode

    folder = Path(config.path)
    try:
        shape = json.loads((folder / "transformer" / "config.json").read_text())
        vae = json.loads((folder / "vae" / "config.json").read_text())
    except (OSError, ValueError) as error:
        problem = Problem("policy.path", config.path, "directory of a diffusers pipeline", str(error)[:200])
        raise ConfigError("nothing to estimate from", [problem]) from error
    with init_empty_weights():
        module = getattr(diffusers, shape["_class_name"]).from_config(shape)
        add_adapter(module, adapter)
    ways = vae.get("temperal_downsample")
    factor = 2 ** (len(ways) if ways is not None else len(vae["block_out_channels"]) - 1)
    with FakeTensorMode(allow_non_fake_inputs=True):
        for part in module.modules():
            for name, p in part._parameters.items():
                if p is not None:
                    kind = torch.float32 if p.requires_grad else DTYPES[config.dtype]
                    part._parameters[name] = torch.nn.Parameter(torch.empty(p.shape, dtype=kind), p.requires_grad)
        bare = config.model_copy(update={"encoder_cache": None})
        yield policy(SimpleNamespace(transformer=module, vae_scale_factor=factor), bare)


def placeholder(policy: PretrainedPolicy, geometry: Geometry) -> Conditions:
    """Conditions of a geometry, all zeros: only their shapes matter."""
    channels, token = int(policy.pipeline.transformer.config.in_channels), policy.token
    tokens = [height // token * (width // token) for height, width in geometry.references]
    count = geometry.height // token * (geometry.width // token)
    arrays = {name: np.zeros(shape, np.float32) for name, shape in policy.text_shapes(geometry).items()}
    arrays["context"] = np.zeros((sum(tokens), channels), np.float32)
    arrays["region"] = np.zeros((count, channels), np.float32)
    return Conditions("estimate", geometry, arrays)


def sampling(policy: Policy, conditions: Conditions, *, rows: int) -> Usage:
    """One sampling forward of B = `rows`, guidance included."""
    live = LiveBytes(policy.module)
    with live, FlopCounterMode(display=False) as counter, torch.no_grad():
        policy.velocity(*_inputs(policy, conditions, rows))
    return Usage(counter.get_total_flops(), live.most)


def training(policy: Policy, conditions: Conditions, *, rows: int, guided: bool, checkpointing: bool) -> Usage:
    """One forward and backward of B = `rows`.

    Args:
        policy: with its adapter.
        conditions: of one example.
        rows: B.
        guided: with the guidance of sampling, as GRPO replays it; else as fine-tuning predicts.
        checkpointing: activations are computed twice, block by block.
    """
    module: Any = policy.module
    whole = _forward(policy, conditions, rows, guided=guided, backward=True)
    if not checkpointing:
        return Usage(whole.flops, whole.most)
    module.enable_gradient_checkpointing()
    thin = _forward(policy, conditions, rows, guided=guided, backward=False)
    module.disable_gradient_checkpointing()
    return Usage(whole.flops + thin.flops, thin.kept + whole.block + whole.most - whole.kept)


@dataclass(frozen=True)
class _Pass:
    """Operations; bytes kept for the backward, by all and by the largest block; most bytes at all."""

    flops: int
    kept: int
    block: int
    most: int


def _forward(policy: Policy, conditions: Conditions, rows: int, *, guided: bool, backward: bool) -> _Pass:
    live, blocks, before = LiveBytes(policy.module), [0], {}
    names = set(getattr(policy.module, "_repeated_blocks", None) or ())
    hooks = []
    for part in policy.module.modules():
        if type(part).__name__ in names:
            hooks.append(part.register_forward_pre_hook(lambda m, _: before.__setitem__(m, live.now)))
            hooks.append(part.register_forward_hook(lambda m, *_: blocks.append(live.now - before[m])))
    predict = policy.plain_velocity if isinstance(policy, HasGuidance) and not guided else policy.velocity
    with live, FlopCounterMode(display=False) as counter:
        loss = predict(*_inputs(policy, conditions, rows)).square().mean()
        kept = live.now
        if backward:
            loss.backward()
    for hook in hooks:
        hook.remove()
    policy.module.zero_grad(set_to_none=True)
    return _Pass(counter.get_total_flops(), kept, max(blocks), live.most)


def _inputs(policy: Policy, conditions: Conditions, rows: int) -> tuple[torch.Tensor, torch.Tensor, list[Conditions]]:
    return torch.zeros(rows, *policy.latent_shape(conditions)), torch.full((rows,), 0.5), [conditions] * rows


def frozen_bytes(folder: Path, dtype: str) -> int:
    """Bytes of the weights of a pipeline's other parts as they will be loaded, from the files' headers."""
    numbers = 0
    for file in sorted(folder.glob("*/*.safetensors")):
        if file.parent.name != "transformer":
            with safe_open(file, framework="np") as opened:
                numbers += sum(int(np.prod(opened.get_slice(key).get_shape())) for key in opened.keys())  # noqa: SIM118
    return numbers * DTYPES[dtype].itemsize
