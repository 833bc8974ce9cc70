"""Rewards that compare pixels: inside the region, outside it, and in the band around its edge.

Pure numpy, one row at a time, so a row's value cannot depend on its neighbours. Called by the reward server; never sees
the image after paste-back. Legend: B batch, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from burnish.data.masks import boundary_band
from burnish.data.records import Example
from burnish.rewards.encoders import FeatureCache


def masked_mse(output: np.ndarray, wanted: np.ndarray, *, mask: np.ndarray) -> float:
    """Mean over the mask's pixels and over channels of the squared difference (OmniRefiner eq. 6 without its sign).

    Args:
        output: [C,H,W] in [0,1].
        wanted: [C,H,W] in [0,1].
        mask: [1,H,W] weights in [0,1]; all zero gives NaN.
    """
    weights = mask.astype(np.float64)
    total = weights.sum() * output.shape[0]
    if total == 0:
        return float("nan")
    squared = np.square(output.astype(np.float64) - wanted.astype(np.float64))
    return float((squared * weights).sum() / total)


def whole_frame(image: np.ndarray) -> np.ndarray:
    """The mask [1,H,W] of ones that stands for "no mask" beside an image [C,H,W]."""
    return np.ones((1, *image.shape[1:]), np.float32)


class NoOptions(BaseModel):
    """The options of a reward that has none."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class MaskedPixel:
    """Negative mean squared error against the target inside the mask (OmniRefiner eq. 6, channel mean).

    The whole frame where there is no mask; missing where there is no target or the mask is empty.
    """

    Options = NoOptions
    name = "masked_pixel"
    direction = 1
    range = (-1.0, 0.0)
    needs_weights = False
    preprocessing = 1

    def __init__(self, options: NoOptions) -> None:
        self.options = options

    def score(self, images: np.ndarray, examples: Sequence[Example]) -> np.ndarray:
        """Float32 [B] in [-1,0] of images [B,3,H,W] in [0,1]; NaN = missing."""
        return np.array([self._row(i, e) for i, e in zip(images, examples, strict=True)], np.float32)

    def _row(self, image: np.ndarray, example: Example) -> float:
        if example.target is None:
            return float("nan")
        mask = whole_frame(image) if example.mask is None else example.mask
        return -masked_mse(image, example.target, mask=mask)


class OutsidePreservation:
    """Negative mean squared change of the input outside the mask (RefineAnything's background MSE).

    Missing where there is no input image or nothing lies outside.
    """

    Options = NoOptions
    name = "outside_preservation"
    direction = 1
    range = (-1.0, 0.0)
    needs_weights = False
    preprocessing = 1

    def __init__(self, options: NoOptions) -> None:
        self.options = options

    def score(self, images: np.ndarray, examples: Sequence[Example]) -> np.ndarray:
        """Float32 [B] in [-1,0] of images [B,3,H,W] in [0,1]; NaN = missing."""
        return np.array([self._row(i, e) for i, e in zip(images, examples, strict=True)], np.float32)

    def _row(self, image: np.ndarray, example: Example) -> float:
        if example.image is None or example.mask is None:
            return float("nan")
        return -masked_mse(image, example.image, mask=1 - example.mask)


class BandOptions(BaseModel):
    """Width of the band around the mask's edge."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    r_out: int = Field(
        default=17, ge=1, description="side of the dilation kernel, pixels; 1 = no band outside the mask"
    )
    r_in: int = Field(default=17, ge=1, description="side of the erosion kernel, pixels; 1 = no band inside the mask")


class BoundaryBand:
    """Negative mean squared error in the band around the mask's edge (RefineAnything eq. 10).

    Against the target, or against the input where there is no target; missing where there is neither, no mask or no
    band.
    """

    Options = BandOptions
    name = "boundary_band"
    direction = 1
    range = (-1.0, 0.0)
    needs_weights = False
    preprocessing = 1

    def __init__(self, options: BandOptions) -> None:
        self.options = options
        self._cache: FeatureCache[np.ndarray] = FeatureCache()

    def score(self, images: np.ndarray, examples: Sequence[Example]) -> np.ndarray:
        """Float32 [B] in [-1,0] of images [B,3,H,W] in [0,1]; NaN = missing."""
        bands = {key: self._band(e) for key, e in {id(e): e for e in examples}.items()}  # a group shares one example
        rows = zip(images, examples, strict=True)
        return np.array([self._row(i, e, band=bands[id(e)]) for i, e in rows], np.float32)

    def _band(self, example: Example) -> np.ndarray | None:
        if example.mask is None:
            return None
        r_out, r_in = self.options.r_out, self.options.r_in
        return self._cache.get(example.mask, lambda mask: boundary_band(mask, r_out=r_out, r_in=r_in))

    def _row(self, image: np.ndarray, example: Example, *, band: np.ndarray | None) -> float:
        wanted = example.image if example.target is None else example.target
        if wanted is None or band is None:
            return float("nan")
        return -masked_mse(image, wanted, mask=band)
