"""What a policy is, on disk: the base, the adapter, and the snapshot that names them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from burnish.data.errors import CheckpointError, Problem
from burnish.data.records import SamplerSpec
from burnish.policies.digests import base_digest, bytes_of, policy_digest
from burnish.policies.families import FAMILIES, LORA_WRITERS, family_of
from burnish.policies.lora import ADAPTER, AdapterConfig, add_adapter, add_reference, export_state, import_state
from burnish.policies.whole import train_whole

ADAPTER_FILE = "pytorch_lora_weights.safetensors"
FORMAT_VERSION = 1
START_FILE = "start.safetensors"
WEIGHTS_FILE = "policy.safetensors"
"""A checkpoint's trained arrays by name, float32."""


@dataclass(frozen=True, eq=False)
class Start:
    """Where a stage starts: the policy with its adapter, the base's digest, and whether the adapter was trained."""

    policy: Any
    base: str
    continued: bool


def adapted_digest(module: torch.nn.Module) -> str:
    """`policy_digest` of a module as it is loaded: base and adapter, by whatever name the loader gave the adapter."""
    found = {}
    for name, parameter in module.named_parameters():
        head, lora, tail = name.partition(".lora_")
        if lora:
            side, _, kind = tail.split(".", 2)
            found[f"{head}.lora_{side}.{ADAPTER}.{kind}"] = bytes_of(parameter)
    return policy_digest(base_digest(module), found)


def new_policy(config: Any) -> Any:
    """A policy at its starting weights: freshly drawn (tiny), or those of a pretrained pipeline."""
    return family_of(config).build(config)


def save_base(policy: Any, path: Path, *, whole: bool = False) -> str:
    """Write what `load_base` needs; returns the base digest.

    A policy with weights of its own is written whole. Of a pretrained one only the place and the digest are, unless its
    weights were trained (`whole`): a run does not copy 24 GB that it did not change.
    """
    described = {"family": policy.family, "config": policy.config.model_dump(mode="json")}
    digest = base_digest(policy.module)
    pretrained = FAMILIES[policy.family].pretrained
    if pretrained:
        place = Path(policy.config.path)
        described["config"]["path"] = str(place.resolve()) if place.is_dir() else policy.config.path
        described["base_digest"] = digest
    if whole or not pretrained:
        policy.module.save_pretrained(path / "transformer", safe_serialization=True)
    (path / "policy.json").write_text(json.dumps(described))
    return digest


def load_base(path: Path) -> Any:
    """Load a policy written by `save_base`, without any adapter.

    Raises:
        CheckpointError: the folder does not hold one, or the pretrained weights it names have changed.
    """
    try:
        described = json.loads((path / "policy.json").read_text())
    except FileNotFoundError as error:
        raise CheckpointError(f"no policy in {path.name}: policy.json is missing") from error
    family = FAMILIES[described["family"]]
    config = family.config.model_validate_json(json.dumps(described["config"]))
    policy: Any = family.build(config)
    if not family.pretrained:
        return _with_weights(policy, path)
    if (path / "transformer").is_dir():
        policy.module.load_state_dict(_module(policy, path).state_dict())
    found = base_digest(policy.module)
    if found != described["base_digest"]:
        problem = Problem("policy.path", found[:12], described["base_digest"][:12], "the weights the run started from")
        raise CheckpointError("the pretrained weights have changed", [problem])
    return policy


def _with_weights(policy: Any, path: Path) -> Any:
    """The policy again, over the module that `save_base` wrote whole."""
    return type(policy)(_module(policy, path).eval(), policy.config)


def _module(policy: Any, path: Path) -> Any:
    return type(policy.module).from_pretrained(
        path / "transformer", use_safetensors=True, low_cpu_mem_usage=False, local_files_only=True
    )


def save_start(policy: Any, path: Path) -> None:
    """Write the trained adapter beside the base: GRPO continues it."""
    save_file({name: torch.from_numpy(value) for name, value in export_state(policy.module).items()}, path / START_FILE)


def load_start(path: Path, config: AdapterConfig | None, *, reference: bool = False) -> Start:
    """The base with the adapter that training starts from: the fine-tuned one where there is one, else a fresh one.

    Args:
        path: the base's folder, verified.
        config: shape of the adapter; None = all weights are trained, and there is none.
        reference: keep a frozen second copy of a fine-tuned adapter, for the KL term.
    """
    policy = load_base(path)
    digest = base_digest(policy.module)
    if config is None:
        train_whole(policy.module)
        return Start(policy, digest, continued=False)
    add_adapter(policy.module, config)
    continued = (path / START_FILE).is_file()
    if continued:
        state = {name: value.numpy() for name, value in load_file(path / START_FILE).items()}
        import_state(policy.module, state)
        if reference:
            add_reference(policy.module, config)
    return Start(policy, digest, continued)


def save_adapter(module: Any, path: Path) -> None:
    """Write the adapter as diffusers' pipelines load it, alpha included."""
    captured_adapter(module)(path)


def captured_adapter(module: Any) -> Callable[[Path], None]:
    """A copy of the adapter as it is now; called with a path, it writes what `save_adapter` would have written."""
    from diffusers.loaders import lora_pipeline
    from diffusers.training_utils import _collate_lora_metadata
    from peft import get_peft_model_state_dict

    held: dict[str, Any] = get_peft_model_state_dict(module, adapter_name=ADAPTER)
    layers = {name: tensor.detach().clone() for name, tensor in held.items()}
    writer = getattr(lora_pipeline, LORA_WRITERS[type(module).__name__])
    return partial(
        writer.save_lora_weights,
        transformer_lora_layers=layers,
        weight_name=ADAPTER_FILE,
        **_collate_lora_metadata({"transformer": module}),
    )


def load_adapter(module: Any, path: Path) -> None:
    """Load an exported adapter onto a plain diffusers model, by diffusers' own loader, in float32 as it was trained.

    The loader casts to the base's dtype; the adapter's digest is that of what was trained.
    """
    module.load_lora_adapter(path, weight_name=ADAPTER_FILE, prefix="transformer", use_safetensors=True)
    trained = load_file(path / ADAPTER_FILE)
    for name, parameter in module.named_parameters():
        head, lora, tail = name.partition(".lora_")
        if lora:
            side, _, kind = tail.split(".", 2)
            parameter.data = trained[f"transformer.{head}.lora_{side}.{kind}"].float().to(parameter.device)


def load_trained(module: Any, path: Path, *, whole: bool) -> None:
    """Put what a checkpoint or an export trained onto the base: its adapter, or all weights as float32.

    Args:
        module: the base's.
        path: directory with `adapter/`, or with `policy.safetensors`; verified.
        whole: all weights were trained.
    """
    if not whole:
        load_adapter(module, path / "adapter")
        return
    train_whole(module)
    import_state(module, {name: value.numpy() for name, value in load_file(path / WEIGHTS_FILE).items()})


def snapshot_record(
    *,
    family: str,
    base: str,
    policy: str,
    adapter: AdapterConfig | None,
    sampler: SamplerSpec,
    refiner: Mapping[str, Any],
    weights: str,
) -> dict[str, Any]:
    """Content of `snapshot.json`.

    Args:
        family: policy family.
        base: base digest.
        policy: policy digest.
        adapter: how the adapter was made; None = all weights were trained.
        sampler: the sampler that was evaluated and is to be served.
        refiner: crop, sizes and blending of `Refiner`.
        weights: "raw" or "ema".
    """
    return {
        "format_version": FORMAT_VERSION,
        "family": family,
        "base_digest": base,
        "policy_digest": policy,
        "adapter": None if adapter is None else adapter.model_dump(mode="json", exclude={"start_from"}),
        "sampler": asdict(sampler),
        "refiner": dict(refiner),
        "weights": weights,
    }
