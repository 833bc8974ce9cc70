"""SigLIP2 similarity of output and target (DyRef's image_similarity, eq. 8), through transformers or open_clip.

Called by the reward server. Legend: B batch, N tokens, D features, S side of the input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from burnish.data.errors import ConfigError, Problem
from burnish.data.records import Example
from burnish.rewards.against import compared_image
from burnish.rewards.encoders import cosine
from burnish.rewards.open_clip_towers import SIGLIP_LOOK, OpenClipOptions, open_clip_tower
from burnish.rewards.semantic import token_similarity
from burnish.rewards.towers import Tower, transformers_tower
from burnish.rewards.vision import FrozenEncoder, encoder_cosine, place

KIND = "siglip"
MODELS = {"siglip": "SiglipVisionModel", "siglip_vision_model": "SiglipVisionModel"}
"""`model_type` in a directory of transformers -> the class of its vision tower alone."""
CACHED = 128
"""Images whose features are kept; the tokens of one take 1.8 MB (ViT-B/16 at 384) to 4.7 MB (SO400M/16 at 512)."""


class SiglipOptions(OpenClipOptions):
    """Which SigLIP, and how its features are compared."""

    backend: Literal["transformers", "open_clip"] = Field(
        default="transformers", description="package that loads the files; they differ in layout, not in features"
    )
    mode: Literal["flat", "mean_pool", "pooler"] = Field(
        default="flat",
        description="flat: all tokens side by side, place matters (DyRef); mean_pool: their mean; pooler: the model's "
        "own attention pooling",
    )


@dataclass(frozen=True)
class _Backend:
    """A package: how it loads a tower, and the functions (model, [B,3,S,S]) -> tokens [B,N,D], -> pooled [B,D]."""

    load: Callable[[SiglipOptions], Tower]
    tokens: Callable[[Any, torch.Tensor], torch.Tensor]
    pooled: Callable[[Any, torch.Tensor], torch.Tensor]


def _load_transformers(options: SiglipOptions) -> Tower:
    for field in ("model", "tag"):
        if value := getattr(options, field):
            problem = Problem(f"options.{field}", repr(value), "'' with transformers: config.json decides")
            raise ConfigError(f"reward kind {KIND!r}: options contradict each other", [problem])
    hint = "SigLIP2's checkpoints of fixed resolution are of type siglip; the NaFlex ones (siglip2) are not supported"
    return transformers_tower(options.weights, models=MODELS, kind=KIND, hint=hint)


def _load_open_clip(options: SiglipOptions) -> Tower:
    tower = open_clip_tower(options, kind=KIND, look=SIGLIP_LOOK)
    trunk = getattr(tower.model, "trunk", None)
    if getattr(trunk, "attn_pool", None) is None:
        problem = Problem("options.weights", f"a {type(tower.model).__name__} without attention pooling", "a SigLIP")
        raise ConfigError(f"reward kind {KIND!r}: the weights are of another model", [problem])
    return tower


BACKENDS: Mapping[str, _Backend] = {
    "transformers": _Backend(
        _load_transformers,
        tokens=lambda model, pixels: model(pixel_values=pixels).last_hidden_state,
        pooled=lambda model, pixels: model(pixel_values=pixels).pooler_output,
    ),
    "open_clip": _Backend(
        _load_open_clip,
        tokens=lambda model, pixels: model.trunk.forward_features(pixels),
        pooled=lambda model, pixels: model(pixels),
    ),
}
SIMILARITIES: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "flat": partial(token_similarity, mode="flat"),
    "mean_pool": partial(token_similarity, mode="mean_pool"),
    "pooler": cosine,
}


class Siglip:
    """Cosine of the SigLIP features of output and target; 1 for the same picture.

    Missing where there is nothing to compare with or the mask is empty.
    """

    Options = SiglipOptions
    name = KIND
    direction = 1
    range = (-1.0, 1.0)
    needs_weights = True
    preprocessing = 1

    def __init__(self, options: SiglipOptions) -> None:
        self.options = options
        placement, backend = place(options), BACKENDS[options.backend]
        tower = backend.load(options)
        model = placement.put(tower.model)
        features = backend.pooled if options.mode == "pooler" else backend.tokens
        self.weights_digest = tower.digest
        self._encoder = FrozenEncoder(tower.preprocess, partial(features, model), placement=placement, limit=CACHED)
        self.take_counters = self._encoder.take_counters

    def score(self, images: np.ndarray, examples: Sequence[Example]) -> np.ndarray:
        """Float32 [B] in [-1,1] of images [B,3,H,W] in [0,1]; NaN = missing."""
        return encoder_cosine(
            images,
            examples,
            encoder=self._encoder,
            options=self.options,
            wanted=partial(compared_image, options=self.options),
            similarity=SIMILARITIES[self.options.mode],
        )
