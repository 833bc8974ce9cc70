"""Colour and light of the region: the lighting consistency of DyRef's OmniRef-Bench, between 0 and 1.

The formulas take brightness and mean colour as arrays; pixels become those at one place, `light_of`. Called by the
reward server. Legend: B batch, H W pixels, h w pixels after resizing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from burnish.data.records import Box, Example
from burnish.rewards.regions import region_box
from burnish.rewards.vision import CountedCache, crop, finite_rows, to_pil

if TYPE_CHECKING:
    from PIL.Image import Image

WEIGHTS = {"luminance": 0.2, "contrast": 0.15, "color_temp": 0.2, "light_dist": 0.25, "shadow_dist": 0.2}
"""Part of lighting consistency -> its share (OmniRef-Bench)."""
GRID = 3
BINS = 64
FLAT = 1e-6
"""Standard deviation of the grid's shares below which the light counts as even."""


@dataclass(frozen=True, eq=False)
class Light:
    """What is compared of an image.

    Args:
        lab: float64 [3], mean of its 8-bit LAB (OpenCV's scale: L 0-255, a and b around 128).
        contrast: (p95 - p5) / (p95 + p5), brightness.
        grid: float64 [9], each cell's share of the brightness, row-major; zeros for a black image.
        histogram: float64 [64], each bin's share of the pixels.
    """

    lab: np.ndarray
    contrast: float
    grid: np.ndarray
    histogram: np.ndarray


def make_light(grey: np.ndarray, lab: np.ndarray) -> Light:
    """The figures of one image.

    Args:
        grey: [h,w] brightness, 0-255; sides of at least 3. What the grid's whole cells leave over is not in the grid.
        lab: [3] mean of its 8-bit LAB.
    """
    values = grey.astype(np.float64)
    low, high = np.percentile(values, [5, 95])
    rows, columns = (side // GRID for side in values.shape)
    cells = values[: rows * GRID, : columns * GRID].reshape(GRID, rows, GRID, columns).mean(axis=(1, 3)).ravel()
    counts, _ = np.histogram(values, bins=BINS, range=(0, 256))
    return Light(
        np.asarray(lab, np.float64),
        float((high - low) / (high + low + 1e-6)),
        cells / cells.sum() if cells.any() else cells,
        counts / values.size,
    )


def grid_similarity(first: np.ndarray, second: np.ndarray) -> float:
    """(correlation + 1) / 2 of two grids' shares [9], in [0,1]; 1 where both are even, 0 where one is."""
    flat = [bool(shares.std() < FLAT) for shares in (first, second)]
    if any(flat):
        return float(all(flat))
    a, b = first - first.mean(), second - second.mean()
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1, 1) + 1) / 2


def histogram_similarity(first: np.ndarray, second: np.ndarray) -> float:
    """1 - Bhattacharyya distance of two histograms' shares, in [0,1] (OpenCV's form of the distance)."""
    return 1 - float(np.sqrt(max(0.0, 1 - np.sqrt(first * second).sum())))


def lighting_parts(first: Light, second: Light) -> dict[str, float]:
    """The five similarities of two images, each in [0,1], by the names in `WEIGHTS`."""
    lightness, *tint = first.lab - second.lab
    return {
        "luminance": max(0.0, 1 - abs(float(lightness)) / 50),
        "contrast": max(0.0, 1 - 2 * abs(first.contrast - second.contrast)),
        "color_temp": max(0.0, 1 - float(np.hypot(*tint)) / 50),
        "light_dist": grid_similarity(first.grid, second.grid),
        "shadow_dist": histogram_similarity(first.histogram, second.histogram),
    }


def lighting_consistency(first: Light, second: Light) -> float:
    """Weighted mean of `lighting_parts`, in [0,1] (OmniRef-Bench, which prints 100 times as much)."""
    return sum(WEIGHTS[name] * value for name, value in lighting_parts(first, second).items())


def lab8(pixels: np.ndarray) -> np.ndarray:
    """8-bit LAB as OpenCV has it, float64 [h,w,3]: L 255/100, a + 128, b + 128, rounded.

    Through scikit-image: single values are up to two levels from those of OpenCV 5.0, lighting consistency up to 0.001.

    Args:
        pixels: uint8 [h,w,3], sRGB.
    """
    from skimage.color import rgb2lab

    return np.clip(np.rint(rgb2lab(pixels) * (2.55, 1, 1) + (0, 128, 128)), 0, 255)


def light_of(picture: Image, *, side: int) -> Light:
    """The figures of an 8-bit RGB image, resized to `side` x `side` pixels (bilinear, averaging where it shrinks)."""
    from PIL.Image import Resampling

    pixels = np.asarray(picture.resize((side, side), Resampling.BILINEAR))
    grey = np.rint(pixels @ np.array([0.299, 0.587, 0.114]))
    return make_light(grey, lab8(pixels).mean(axis=(0, 1)))


class ColourLightOptions(BaseModel):
    """What outputs are compared with."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    against: Literal["target", "reference"] = Field(
        default="target",
        description="target = the target's same region; reference = the first lighting reference, whole",
    )
    side: int = Field(
        default=512, ge=24, le=2048, description="side in pixels that both are resized to; 512 is the bench's"
    )


class ColourLight:
    """Lighting consistency of the output's region with the target's, or with a lighting reference, in [0,1].

    Missing where there is nothing to compare with or the mask is empty.
    """

    Options = ColourLightOptions
    name = "colour_light"
    direction = 1
    range = (0.0, 1.0)
    needs_weights = False
    preprocessing = 1

    def __init__(self, options: ColourLightOptions) -> None:
        self.options = options
        self._goals: CountedCache[Light] = CountedCache(self._light, limit=256)
        self.take_counters = self._goals.take_counters

    def score(self, images: np.ndarray, examples: Sequence[Example]) -> np.ndarray:
        """Float32 [B] in [0,1] of images [B,3,H,W] in [0,1]; NaN = missing."""
        height, width = images.shape[2:]
        unique = {id(e): e for e in examples}  # a group shares one example: its goal is looked at once
        boxes = {key: region_box(e, height=height, width=width) for key, e in unique.items()}
        goals = {key: self._goal(e, boxes[key]) for key, e in unique.items()}
        rows = zip(images, examples, finite_rows(images), strict=True)
        return np.array([self._row(i, boxes[id(e)], goals[id(e)] if f else None) for i, e, f in rows], np.float32)

    def _row(self, image: np.ndarray, box: Box | None, goal: Light | None) -> float:
        if box is None or goal is None:
            return float("nan")
        return lighting_consistency(self._light(crop(image, box)), goal)

    def _goal(self, example: Example, box: Box | None) -> Light | None:
        wanted = self._wanted(example, box)
        return None if wanted is None else self._goals.get(wanted)

    def _wanted(self, example: Example, box: Box | None) -> np.ndarray | None:
        if box is None:
            return None
        if self.options.against == "reference":
            return next((r.image for r in example.references if r.kind == "lighting"), None)
        if example.mask is None or example.target is None:
            return example.target  # whole: without a mask a target may have its own size
        return crop(example.target, box)

    def _light(self, image: np.ndarray) -> Light:
        return light_of(to_pil(image), side=self.options.side)
