"""Reading adapters that other programs wrote; `interchange.py` writes them.

Called where a stage starts from a file, and by whatever proves an export. Files are safetensors: nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from burnish.data.errors import ConfigError, Problem
from burnish.policies.families import LORA_WRITERS
from burnish.policies.interchange import (
    COMFYUI,
    DIFFSYNTH,
    DIFFSYNTH_MARK,
    Lora,
    linear_sizes,
    start_adapter,
    swapped,
)
from burnish.policies.lora import AdapterConfig, add_adapter
from burnish.policies.lora_names import layers_of

_KOHYA = "lora_unet_"
_MARKS = {COMFYUI: ("diffusion_model.",), DIFFSYNTH: (DIFFSYNTH_MARK,)}


def starting_adapter(module: torch.nn.Module, config: AdapterConfig) -> None:
    """Add the adapter that a stage starts with: a fresh one, or that of `config.start_from`.

    Raises:
        ConfigError: the adapter fits no layer, or the file does not fit the adapter.
    """
    add_adapter(module, config)
    if config.start_from is not None:
        start_adapter(module, read_lora(Path(config.start_from), module), config)


def read_lora(path: Path, module: torch.nn.Module) -> dict[str, Lora]:
    """The adapter in a file, by diffusers' names of the layers, whichever program wrote it.

    Known are diffusers (alpha from its metadata), ComfyUI and DiffSynth as `save_lora` writes them, PEFT's names
    and kohya's `lora_unet_` names, which diffusers converts.

    Raises:
        ConfigError: no safetensors file, or layers that the model does not have; every one that is wrong.
    """
    tensors, metadata = _opened(path)
    if any(name.startswith(_KOHYA) for name in tensors):
        tensors, metadata = _converted(tensors, module), {}
    style = next((s for s, marks in _MARKS.items() if any(m in n for n in tensors for m in marks)), None)
    pairs = _pairs(tensors)
    if style is None:
        scales = _scales(metadata)
        prefixes = ("transformer.", "base_model.model.")
        found = {_without(name, prefixes): replace(x, scale=scales(name, x)) for name, x in pairs.items()}
    else:
        names = {name.removeprefix("diffusion_model."): lora for name, lora in pairs.items()}
        found = _taken_apart(names, style, module)
    _check_fit(path, found, module)
    return found


def _opened(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        problem = Problem("start_from", str(path), "a safetensors file with a LoRA", str(error)[:120])
        raise ConfigError("the adapter cannot be read", [problem]) from error


def _converted(tensors: dict[str, torch.Tensor], module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Kohya's names turned into diffusers' by diffusers itself, which puts alpha into the weights."""
    from diffusers.loaders import lora_pipeline

    loader: Any = getattr(lora_pipeline, LORA_WRITERS[type(module).__name__])
    try:
        return loader.lora_state_dict(tensors)
    except (ValueError, KeyError) as error:
        problem = Problem("start_from", "lora_unet_ names", "names that diffusers can convert", str(error)[:200])
        raise ConfigError("the adapter cannot be read", [problem]) from error


def _pairs(tensors: Mapping[str, torch.Tensor]) -> dict[str, Lora]:
    """Layer -> change, by the file's own names; alpha from the file where it has one."""
    found = {}
    for name, down in tensors.items():
        for mark, other in ((".lora_A.", ".lora_B."), (".lora_down.", ".lora_up.")):
            if mark in name:
                layer = name.split(mark)[0]
                up = tensors.get(name.replace(mark, other))
                if up is None or up.shape[1] != down.shape[0]:
                    raise ConfigError(
                        "the adapter cannot be read", [Problem(layer, "half a LoRA", "A and B of a rank")]
                    )
                alpha = tensors.get(f"{layer}.alpha")
                scale = 1.0 if alpha is None else float(alpha) / down.shape[0]
                found[layer] = Lora(down.float(), up.float(), scale)
    return found


def _scales(metadata: Mapping[str, str]) -> Callable[[str, Lora], float]:
    """(layer, change) -> alpha / rank by diffusers' metadata; without it, what the file itself said."""
    held = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    alpha, patterns = held.get("transformer.lora_alpha"), held.get("transformer.alpha_pattern") or {}

    def scale(name: str, lora: Lora) -> float:
        own = next((v for key, v in patterns.items() if name.endswith(key)), alpha)
        return lora.scale if own is None else float(own) / lora.rank

    return scale


def _without(name: str, prefixes: Sequence[str]) -> str:
    return next((name.removeprefix(prefix) for prefix in prefixes if name.startswith(prefix)), name)


def _taken_apart(found: Mapping[str, Lora], style: str, module: torch.nn.Module) -> dict[str, Lora]:
    """Changes of our layers; each keeps those columns of a fused B that say something about it."""
    sizes = linear_sizes(module)
    layers = {layer.name: layer for layer in layers_of(style, type(module).__name__, set(sizes))}
    apart = {name: lora for name, lora in found.items() if name not in layers}
    for name in found.keys() & layers.keys():
        layer, lora = layers[name], found[name]
        rows = swapped(lora.up) if layer.swapped else lora.up
        if rows.shape[0] != sum(sizes[part] for part in layer.parts):
            apart[name] = lora
            continue
        for part, up in zip(layer.parts, rows.split([sizes[part] for part in layer.parts]), strict=True):
            used = up.abs().amax(dim=0) > 0 if len(layer.parts) > 1 else torch.ones(lora.rank, dtype=torch.bool)
            if bool(used.any()):
                apart[part] = Lora(lora.down[used], up[:, used], lora.scale)
    return apart


def _check_fit(path: Path, found: Mapping[str, Lora], module: torch.nn.Module) -> None:
    inputs = {n.removesuffix(".base_layer"): m for n, m in module.named_modules() if isinstance(m, torch.nn.Linear)}
    problems = [Problem(str(path), "no adapter", "layers with lora_A and lora_B")] if not found else []
    for name, lora in sorted(found.items()):
        shape = (lora.up.shape[0], lora.down.shape[1])
        layer = inputs.get(name)
        if layer is None or tuple(layer.weight.shape) != shape:
            allowed = "a linear layer of the policy" if layer is None else f"{tuple(layer.weight.shape)}"
            problems.append(Problem(name, f"a change of {shape}", allowed))
    if problems:
        raise ConfigError("the adapter does not fit the policy", problems[:20])
