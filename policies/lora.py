"""LoRA adapters through peft, drawn by parameter name, and the state that training changes.

Adapters stay apart from the weights unless a recipe folds them for sampling (`folding.py`): the forward that samples
and the forward that learns are the same arithmetic.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from burnish.data import seeding
from burnish.data.errors import ConfigError, Problem

ADAPTER = "default"
REFERENCE = "reference"


class AdapterConfig(BaseModel):
    """What GRPO trains."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    rank: int = Field(default=8, description="rank of the LoRA matrices", ge=1)
    alpha: float = Field(default=16.0, description="LoRA scale is alpha / rank", gt=0.0, allow_inf_nan=False)
    target_modules: tuple[str, ...] = Field(
        default=("to_q", "to_k", "to_v", "proj_mlp", "proj_out", "x_embedder", "norm_out.linear"),
        description="names, or ends of names, of the linear layers that get an adapter",
    )
    num_modules: int | None = Field(
        default=None, description="layers the names must bind, or the run is refused; null = any number", ge=1
    )
    init_seed: int = Field(default=0, description="seed of the A matrices; B starts at zero", ge=0)
    start_from: str | None = Field(
        default=None,
        description="safetensors file of a LoRA that training starts from, under the names of diffusers, ComfyUI, "
        "DiffSynth, kohya or PEFT; its layers must be adapted here, its rank at most this one; null = a fresh adapter",
        min_length=1,
    )


def add_adapter(module: Any, config: AdapterConfig) -> int:
    """Freeze the base and add a LoRA adapter to a diffusers model; returns the number of adapted layers.

    Raises:
        ConfigError: no layer bears one of the target names.
    """
    from peft import LoraConfig
    from peft.tuners.tuners_utils import BaseTunerLayer

    targets = _targets(module, config)
    module.requires_grad_(False)
    alpha: Any = config.alpha  # peft says int and takes any number
    module.add_adapter(LoraConfig(r=config.rank, lora_alpha=alpha, target_modules=targets))
    for name, parameter in module.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.float()  # master weights, whatever the base's dtype
        if ".lora_A." in name:
            bound = 1.0 / math.sqrt(parameter.shape[1])
            draw = seeding.generator(config.init_seed, "adapter", name).uniform(-bound, bound, tuple(parameter.shape))
            parameter.data.copy_(torch.from_numpy(draw.astype(np.float32)))
    return sum(isinstance(m, BaseTunerLayer) for m in module.modules())


def _targets(module: Any, config: AdapterConfig) -> list[str]:
    """Full names of the linear layers that the configuration means: `to_out` may also be a list of layers."""
    names = [n.replace(".base_layer", "") for n, m in module.named_modules() if isinstance(m, torch.nn.Linear)]
    names = [n for n in names if ".lora_" not in n]
    found = {t: [n for n in names if n == t or n.endswith(f".{t}")] for t in config.target_modules}
    unknown = [t for t, hits in found.items() if not hits]
    if unknown:
        problem = Problem("grpo.adapter.target_modules", str(unknown), "names of linear layers of the policy")
        raise ConfigError("The adapter fits no layer.", [problem])
    bound = [n for n in names if any(n in hits for hits in found.values())]
    if config.num_modules is not None and len(bound) != config.num_modules:
        problem = Problem("grpo.adapter.num_modules", str(config.num_modules), str(len(bound)), "layers that fit")
        raise ConfigError("The adapter binds another number of layers than the recipe expects.", [problem])
    return bound


def add_reference(module: Any, config: AdapterConfig) -> None:
    """Add a frozen copy of the adapter: the KL reference where a stage continues a trained adapter."""
    from peft import LoraConfig

    flags = {name: p.requires_grad for name, p in module.named_parameters()}
    alpha: Any = config.alpha
    shape = LoraConfig(r=config.rank, lora_alpha=alpha, target_modules=_targets(module, config))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config` attribute")  # a second adapter is meant
        module.add_adapter(shape, adapter_name=REFERENCE)
    parameters = dict(module.named_parameters())
    for name, parameter in parameters.items():
        if f".{REFERENCE}." in name:
            parameter.data = parameters[name.replace(f".{REFERENCE}.", f".{ADAPTER}.")].detach().clone()
    _activate(module, ADAPTER, flags)


@contextmanager
def reference_active(module: Any) -> Iterator[None]:
    """Run the frozen copy instead of the adapter that is trained."""
    flags = {name: p.requires_grad for name, p in module.named_parameters()}
    _activate(module, REFERENCE, flags)
    try:
        yield
    finally:
        _activate(module, ADAPTER, flags)


def _activate(module: Any, name: str, flags: Mapping[str, bool]) -> None:
    """Switch adapters; peft moves requires_grad along, which must stay where the optimiser found it."""
    module.set_adapter(name)
    for key, parameter in module.named_parameters():
        parameter.requires_grad_(flags.get(key, False))


@contextmanager
def adapter_disabled(module: Any) -> Iterator[None]:
    """Run the base without its adapter: the KL reference where the stage started without one."""
    module.disable_adapters()
    try:
        yield
    finally:
        module.enable_adapters()


def trainable(module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Parameters that training changes, by name, in the module's order."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def export_state(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """Copies of the trainable parameters as numpy arrays, by name."""
    return {name: p.detach().cpu().numpy().copy() for name, p in trainable(module).items()}


def import_state(module: torch.nn.Module, state: Mapping[str, np.ndarray]) -> int:
    """Copy a published state into the trainable parameters; returns how many were bound.

    Raises:
        ConfigError: a name or a shape does not fit: nothing is copied then.
    """
    parameters = trainable(module)
    wrong = list(parameters.keys() ^ state.keys())
    wrong += [n for n in parameters.keys() & state.keys() if tuple(parameters[n].shape) != state[n].shape]
    if wrong:
        raise ConfigError(f"published weights do not fit the policy: {sorted(wrong)[:5]}")
    for name, parameter in parameters.items():
        parameter.data.copy_(torch.from_numpy(np.array(state[name])))
    return len(parameters)
