"""Adapters for other programs, and adapters from them: the same product, under other names, in one file.

A layer that another program keeps as one (q, k and v, say) gets one adapter made of ours: A stacked, B as a block
diagonal, so that the product is the same. `lora_files.py` reads such files and takes these layers
apart again, `lora_names.py` has the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from burnish.data.errors import ConfigError, Problem
from burnish.policies.lora import ADAPTER, AdapterConfig
from burnish.policies.lora_names import Layer, layers_of

COMFYUI, DIFFSYNTH = "comfyui", "diffsynth"
PREFIXES = {COMFYUI: "diffusion_model.", DIFFSYNTH: ""}
DIFFSYNTH_MARK = ".lora_A.default.weight"


@dataclass(frozen=True, eq=False)
class Lora:
    """The change of one linear layer: `scale * up @ down` is added to its weight.

    Args:
        down: A, [r,in] float32.
        up: B, [out,r] float32.
        scale: alpha / r.
    """

    down: torch.Tensor
    up: torch.Tensor
    scale: float

    @property
    def rank(self) -> int:
        """Rows of A."""
        return self.down.shape[0]


def adapter_of(module: torch.nn.Module, *, scale: float) -> dict[str, Lora]:
    """The adapter that is trained on a module, by layer.

    Args:
        module: with the adapter `default`.
        scale: alpha / rank of that adapter.
    """
    found = {}
    state = dict(module.named_parameters())
    mark = f".lora_A.{ADAPTER}.weight"
    for name in sorted(state):
        if name.endswith(mark):
            layer = name.removesuffix(mark)
            up = state[f"{layer}.lora_B.{ADAPTER}.weight"]
            found[layer] = Lora(state[name].detach().float().cpu(), up.detach().float().cpu(), scale)
    return found


def linear_sizes(module: torch.nn.Module) -> dict[str, int]:
    """Outputs of every linear layer of a diffusers model, by name, whether it has adapters or not."""
    layers = {n: m for n, m in module.named_modules() if isinstance(m, torch.nn.Linear) and ".lora_" not in n}
    return {name.removesuffix(".base_layer"): layer.out_features for name, layer in layers.items()}


def save_lora(path: Path, adapter: Mapping[str, Lora], *, style: str, module: torch.nn.Module) -> None:
    """Write an adapter under another program's names.

    ComfyUI's file has `lora_down`, `lora_up` and `alpha`; DiffSynth reads no alpha of its own layers, so its `lora_B`
    holds the scale.

    Args:
        path: safetensors file to write.
        adapter: layer -> change.
        style: "comfyui" or "diffsynth".
        module: the model that the adapter belongs to.

    Raises:
        ConfigError: the format has no name for a layer of the adapter.
    """
    sizes = linear_sizes(module)
    layers = [
        x for x in layers_of(style, type(module).__name__, set(sizes)) if any(part in adapter for part in x.parts)
    ]
    unnamed = sorted(set(adapter) - {part for layer in layers for part in layer.parts})
    if unnamed:
        raise ConfigError("the adapter cannot be written", [Problem("--format", style, "diffusers", str(unnamed[:3]))])
    tensors: dict[str, torch.Tensor] = {}
    for layer in layers:
        name, lora = f"{PREFIXES[style]}{layer.name}", _fused(layer, adapter, sizes)
        if style == COMFYUI:
            tensors[f"{name}.lora_down.weight"], tensors[f"{name}.lora_up.weight"] = lora.down, lora.up
            tensors[f"{name}.alpha"] = torch.tensor(lora.scale * lora.rank)
        else:
            tensors[f"{name}{DIFFSYNTH_MARK}"] = lora.down
            tensors[f"{name}.lora_B.default.weight"] = lora.up * lora.scale
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, {"format": "pt"})


def _fused(layer: Layer, adapter: Mapping[str, Lora], sizes: Mapping[str, int]) -> Lora:
    """One change of the layer elsewhere: A's stacked, B's as blocks; parts without an adapter stay zero."""
    present = [adapter[part] for part in layer.parts if part in adapter]
    scale = present[0].scale
    up = torch.zeros(sum(sizes[part] for part in layer.parts), sum(lora.rank for lora in present))
    row = column = 0
    for part in layer.parts:
        if part in adapter:
            lora = adapter[part]
            up[row : row + sizes[part], column : column + lora.rank] = lora.up * (lora.scale / scale)
            column += lora.rank
        row += sizes[part]
    return Lora(torch.cat([lora.down for lora in present]), swapped(up) if layer.swapped else up, scale)


def swapped(rows: torch.Tensor) -> torch.Tensor:
    """Outputs [out,r] with their halves the other way round."""
    return rows.roll(rows.shape[0] // 2, dims=0)


@torch.no_grad()
def start_adapter(module: torch.nn.Module, adapter: Mapping[str, Lora], config: AdapterConfig) -> int:
    """Put a read adapter into the one that training starts from; returns how many layers it fills.

    A lower rank leaves the other rows of A as they were drawn and the other columns of B zero: they change nothing yet
    and can be trained. Layers without a change in the file start as a fresh adapter.

    Args:
        module: with the adapter `default`, fresh.
        adapter: from `read_lora`.
        config: of the adapter.

    Raises:
        ConfigError: it has layers that the recipe does not adapt, or a higher rank; every problem.
    """
    state = dict(module.named_parameters())
    problems = []
    for name, lora in sorted(adapter.items()):
        if f"{name}.lora_A.{ADAPTER}.weight" not in state:
            problems.append(Problem("adapter.target_modules", "without " + name, "every layer of the file"))
        elif lora.rank > config.rank:
            problems.append(Problem("adapter.rank", str(config.rank), f">= {lora.rank}, the file's rank at {name}"))
    if problems:
        raise ConfigError("the adapter to start from does not fit the recipe", problems[:20])
    for name, lora in adapter.items():
        down, up = state[f"{name}.lora_A.{ADAPTER}.weight"], state[f"{name}.lora_B.{ADAPTER}.weight"]
        down[: lora.rank] = lora.down.to(down)
        up.zero_()
        up[:, : lora.rank] = (lora.up * (lora.scale / (config.alpha / config.rank))).to(up)
    return len(adapter)
