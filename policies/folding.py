"""Folding an adapter into the weights for sampling: W + (alpha / rank) B A, one product a layer instead of three.

Only rollouters fold, and only where the base is float32: in bfloat16 the sum rounds the adapter away, and the learner,
whose adapter stays apart, would compute another ratio (docs/methods.md has the figures).
"""

from __future__ import annotations

from typing import Any

import torch

from burnish.data.errors import ConfigError, Problem
from burnish.policies.lora import ADAPTER


class Folding:
    """The folded state of a module whose adapter is trained elsewhere.

    Every fold starts from the clean weights, which are kept: what is held does not depend on the versions before.

    Args:
        module: a diffusers model with the adapter `default`; its adapters are switched off from now on.

    Raises:
        ConfigError: an adapted layer is not float32.
    """

    def __init__(self, module: Any) -> None:
        from peft.tuners.tuners_utils import BaseTunerLayer

        self._layers: list[Any] = [m for m in module.modules() if isinstance(m, BaseTunerLayer)]
        dtypes = {layer.get_base_layer().weight.dtype for layer in self._layers} - {torch.float32}
        if dtypes:
            problem = Problem("rollouts.fold_adapter", "true", "false", f"the base is {dtypes.pop()}: folding rounds")
            raise ConfigError("the adapter cannot be folded", [problem])
        self._clean = [layer.get_base_layer().weight.detach().clone() for layer in self._layers]
        self._bare(module)

    def _bare(self, module: Any) -> None:
        """Switch the adapters off without touching who is trained: the state is still read and written by name."""
        flags = {name: p.requires_grad for name, p in module.named_parameters()}
        module.disable_adapters()
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(flags[name])

    @torch.no_grad()
    def fold(self) -> None:
        """Fold the adapter's weights as they are now."""
        for layer, clean in zip(self._layers, self._clean, strict=True):
            layer.get_base_layer().weight.copy_(clean + layer.get_delta_weight(ADAPTER))


@torch.no_grad()
def merge_adapter(module: Any) -> None:
    """Put the adapter into the weights for good and take it off; summed in float32, rounded once to the base's type.

    Args:
        module: a diffusers model with one adapter, which becomes a plain one.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for layer in [m for m in module.modules() if isinstance(m, BaseTunerLayer)]:
        held: Any = layer
        (name,) = held.active_adapters
        weight = held.get_base_layer().weight
        weight.copy_(weight.float() + held.get_delta_weight(name).float())
    module.unload_lora()
