"""What a policy is, on disk: digests, the base, the adapter, and the snapshot that names them.

`policy_digest` is the one identity of weights; a push, a trajectory, a checkpoint and a served version all quote it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from burnish.data.errors import CheckpointError
from burnish.data.records import SamplerSpec
from burnish.policies.lora import ADAPTER, AdapterConfig
from burnish.policies.tiny import TinyConfig, TinyPolicy, build_transformer

ADAPTER_FILE = "pytorch_lora_weights.safetensors"
FORMAT_VERSION = 1


def arrays_digest(arrays: Mapping[str, np.ndarray], *, prefix: str = "") -> str:
    """sha256 over `prefix`, then name, shape, dtype and bytes of every array in name order."""
    digest = hashlib.sha256(prefix.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"|{name}|{array.shape}|{array.dtype}|".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def base_digest(module: torch.nn.Module) -> str:
    """Digest of all weights of a module without adapters."""
    return arrays_digest({name: t.detach().cpu().numpy() for name, t in module.state_dict().items()})


def policy_digest(base: str, trained: Mapping[str, np.ndarray]) -> str:
    """Digest of a policy: its base's digest and every trained array."""
    return arrays_digest(trained, prefix=base)


def new_policy(config: TinyConfig) -> TinyPolicy:
    """A policy with freshly drawn weights."""
    return TinyPolicy(build_transformer(config), config)


def save_base(policy: TinyPolicy, path: Path) -> str:
    """Write weights and config where `load_base` finds them; returns the base digest."""
    module: Any = policy.module
    module.save_pretrained(path / "transformer", safe_serialization=True)
    (path / "policy.json").write_text(json.dumps({"family": policy.family, "config": policy.config.model_dump()}))
    return base_digest(module)


def load_base(path: Path) -> TinyPolicy:
    """Load a policy written by `save_base`.

    Raises:
        CheckpointError: the folder does not hold one.
    """
    from diffusers import FluxTransformer2DModel

    try:
        described = json.loads((path / "policy.json").read_text())
    except FileNotFoundError as error:
        raise CheckpointError(f"no policy in {path.name}: policy.json is missing") from error
    config = TinyConfig.model_validate_json(json.dumps(described["config"]))
    module = FluxTransformer2DModel.from_pretrained(
        path / "transformer", use_safetensors=True, low_cpu_mem_usage=False, local_files_only=True
    )
    return TinyPolicy(module.eval(), config)


def save_adapter(module: Any, path: Path) -> None:
    """Write the adapter as diffusers' pipelines load it, alpha included."""
    from diffusers.loaders import FluxLoraLoaderMixin
    from diffusers.training_utils import _collate_lora_metadata
    from peft import get_peft_model_state_dict

    layers: dict[str, Any] = get_peft_model_state_dict(module, adapter_name=ADAPTER)
    FluxLoraLoaderMixin.save_lora_weights(
        path,
        transformer_lora_layers=layers,
        weight_name=ADAPTER_FILE,
        **_collate_lora_metadata({"transformer": module}),
    )


def load_adapter(module: Any, path: Path) -> None:
    """Load an exported adapter onto a plain diffusers model, by diffusers' own loader."""
    module.load_lora_adapter(path, weight_name=ADAPTER_FILE, prefix="transformer", use_safetensors=True)


def snapshot_record(
    *,
    family: str,
    base: str,
    policy: str,
    adapter: AdapterConfig,
    sampler: SamplerSpec,
    refiner: Mapping[str, Any],
    weights: str,
) -> dict[str, Any]:
    """Content of `snapshot.json`.

    Args:
        family: policy family.
        base: base digest.
        policy: policy digest.
        adapter: how the adapter was made.
        sampler: the sampler that was evaluated and is to be served.
        refiner: crop, sizes and blending of `Refiner`.
        weights: "raw" or "ema".
    """
    return {
        "format_version": FORMAT_VERSION,
        "family": family,
        "base_digest": base,
        "policy_digest": policy,
        "adapter": adapter.model_dump(mode="json"),
        "sampler": asdict(sampler),
        "refiner": dict(refiner),
        "weights": weights,
    }
