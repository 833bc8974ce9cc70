"""The table of policy families: one entry a family, read by snapshots and recipes. Nothing else knows them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from burnish.policies.flux2 import Flux2Config, Flux2Policy
from burnish.policies.kontext import KontextConfig, KontextPolicy
from burnish.policies.loading import load_pipeline
from burnish.policies.pretrained import PretrainedPolicy
from burnish.policies.protocol import Policy
from burnish.policies.qwen_edit import QwenEditConfig, QwenEditPolicy
from burnish.policies.tiny import TinyConfig, TinyPolicy, build_transformer


@dataclass(frozen=True)
class Family:
    """What burnish must know of a family.

    Args:
        config: its model in a recipe.
        build: a policy at its starting weights.
        pretrained: weights come from a pipeline; a run's base names it instead of copying it.
    """

    config: type[BaseModel]
    build: Callable[[Any], Policy]
    pretrained: bool = True


def _loaded(policy: type[PretrainedPolicy]) -> Callable[[Any], Policy]:
    return lambda config: policy(load_pipeline(policy.pipeline_class, config), config)


LORA_WRITERS = {
    "FluxTransformer2DModel": "FluxLoraLoaderMixin",
    "Flux2Transformer2DModel": "Flux2LoraLoaderMixin",
    "QwenImageTransformer2DModel": "QwenImageLoraLoaderMixin",
}
"""Transformer class -> the class of diffusers that writes its adapters as its pipelines load them."""

FAMILIES: dict[str, Family] = {
    "tiny": Family(TinyConfig, lambda config: TinyPolicy(build_transformer(config), config), pretrained=False),
    "kontext": Family(KontextConfig, _loaded(KontextPolicy)),
    "flux2": Family(Flux2Config, _loaded(Flux2Policy)),
    "qwen_edit": Family(QwenEditConfig, _loaded(QwenEditPolicy)),
}


def family_of(config: BaseModel) -> Family:
    """The family whose configuration this is."""
    return next(family for family in FAMILIES.values() if type(config) is family.config)
