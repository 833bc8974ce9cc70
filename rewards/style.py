"""Style rewards: how alike two images are in texture and colour, wherever the things in them stand.

Called by the reward server. Legend: B batch, C channels, h w positions, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from burnish.data.records import Box, Example
from burnish.rewards.encoders import ConvEncoder, FeatureCache, unit
from burnish.rewards.regions import crop_resized, region_cosine


def gram_vector(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Unit style vectors [B,D]: each layer's Gram matrix over positions, scaled to length 1, all layers side by side.

    Args:
        maps: a list of [B,C,h,w].
    """
    layers = []
    for values in maps:
        flat = values.reshape(len(values), values.shape[1], -1)
        gram = flat @ flat.transpose(0, 2, 1) / flat.shape[2]
        layers.append(unit(gram.reshape(len(values), -1), axis=1))
    return unit(np.concatenate(layers, axis=1), axis=1)


def style_reference(example: Example) -> np.ndarray | None:
    """The first reference of kind "style", [3,h,w] in [0,1], or None (DyRef's csd_score: not a style record)."""
    return next((r.image for r in example.references if r.kind == "style"), None)


class StyleOptions(BaseModel):
    """How the images are looked at."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    size: int = Field(
        default=24, ge=8, multiple_of=4, description="side in pixels that region and reference are resized to"
    )


class ToyStyle:
    """Cosine of the Gram features of the output's region and of the first style reference; 1 for the same picture.

    Stands in for CSD (DyRef's csd_score); missing where there is no style reference or the mask is empty.
    """

    Options = StyleOptions
    name = "toy_style"
    direction = 1
    range = (-1.0, 1.0)
    needs_weights = False
    preprocessing = 1

    def __init__(self, options: StyleOptions) -> None:
        self.options = options
        self._encoder = ConvEncoder(self.name, size=options.size)
        self._cache: FeatureCache[np.ndarray] = FeatureCache()

    def score(self, images: np.ndarray, examples: Sequence[Example]) -> np.ndarray:
        """Float32 [B] in [-1,1] of images [B,3,H,W] in [0,1]; NaN = missing."""
        size, embed = self.options.size, self._embed
        return region_cosine(images, examples, size=size, embed=embed, wanted=self._wanted)

    def _embed(self, crops: np.ndarray) -> np.ndarray:
        return gram_vector(self._encoder.features(crops))

    def _wanted(self, example: Example, box: Box) -> np.ndarray | None:
        """Style vector [D] of the example's style reference, whole, wherever the region lies."""
        image = style_reference(example)
        if image is None:
            return None
        whole = (0, 0, image.shape[2], image.shape[1])
        return self._cache.get(crop_resized(image, whole, size=self.options.size)[None], self._embed)[0]
