"""Semantic rewards: how alike two images are in what stands where.

Called by the reward server. Legend: B batch, N tokens, D features, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from burnish.data.records import Box, Example
from burnish.rewards.encoders import ConvEncoder, FeatureCache, cosine
from burnish.rewards.regions import crop_resized, region_cosine

Pooling = Literal["flat", "mean_pool"]


def pool_tokens(tokens: np.ndarray, *, mode: Pooling) -> np.ndarray:
    """One vector of token features [...,N,D]: "flat" keeps places apart, [...,N*D]; "mean_pool" averages, [...,D]."""
    if mode == "mean_pool":
        return tokens.mean(axis=-2)
    return tokens.reshape(*tokens.shape[:-2], -1)


def token_similarity(a: np.ndarray, b: np.ndarray, *, mode: Pooling) -> np.ndarray:
    """Cosine in [-1,1] of two images' last hidden states [...,N,D] (DyRef's image_similarity)."""
    return cosine(pool_tokens(a, mode=mode), pool_tokens(b, mode=mode))


class SemanticOptions(BaseModel):
    """How the images are looked at."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    size: int = Field(default=24, ge=8, multiple_of=4, description="side in pixels that the region is resized to")
    mode: Pooling = Field(default="flat", description="flat: place matters; mean_pool: it does not")


class ToySemantic:
    """Cosine of the coarse token features of the output's and the target's region; 1 for the same picture.

    Stands in for SigLIP2 and CLIP (DyRef eq. 8); missing where there is no target or the mask is empty.
    """

    Options = SemanticOptions
    name = "toy_semantic"
    direction = 1
    range = (-1.0, 1.0)
    needs_weights = False
    preprocessing = 1

    def __init__(self, options: SemanticOptions) -> None:
        self.options = options
        self._encoder = ConvEncoder(self.name, size=options.size)
        self._cache: FeatureCache[np.ndarray] = FeatureCache()

    def score(self, images: np.ndarray, examples: Sequence[Example]) -> np.ndarray:
        """Float32 [B] in [-1,1] of images [B,3,H,W] in [0,1]; NaN = missing."""
        size, embed = self.options.size, self._embed
        return region_cosine(images, examples, size=size, embed=embed, wanted=self._wanted)

    def _embed(self, crops: np.ndarray) -> np.ndarray:
        coarse = self._encoder.features(crops)[-1]
        tokens = coarse.reshape(*coarse.shape[:2], -1).transpose(0, 2, 1)
        return pool_tokens(tokens, mode=self.options.mode)

    def _wanted(self, example: Example, box: Box) -> np.ndarray | None:
        """Pooled tokens [D] of the target's region."""
        if example.target is None:
            return None
        return self._cache.get(crop_resized(example.target, box, size=self.options.size)[None], self._embed)[0]
