"""A detector of pasted references: outputs that look like the reference where the target does not.

Reference-guided refinement can be gamed by pasting the reference's pixels in place of rendering what it shows in the
target's view. Called by the reward server. Legend: B batch, H W pixels, h w and k l pixels of two compared images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from burnish.data.filters import luminance
from burnish.data.images import resize
from burnish.data.records import Box, Example
from burnish.rewards.regions import MIN_SIDE, region_box
from burnish.rewards.vision import crop, finite_rows

PASTED_KINDS = ("detail", "subject")
"""Kinds of references that show the object itself, so that they can be pasted."""
FLAT = 1e-3
"""Standard deviation, in units of [0,1], below which a part has no pattern: a quarter of an 8-bit level."""


def best_match(first: np.ndarray, second: np.ndarray, *, overlap: float = 0.5) -> float:
    """Normalised cross-correlation at the best shift, in [-1,1]; 0 where no shift has a pattern in both.

    Every whole-pixel shift is tried; means and deviations are those of the part that overlaps there (D. Padfield,
    "Masked Object Registration in the Fourier Domain", 2012, with whole images as masks).

    Args:
        first: [h,w] in [0,1].
        second: [k,l] in [0,1].
        overlap: least share of the smaller image's pixels that must overlap.
    """
    from scipy.signal import fftconvolve

    a, b = (image.astype(np.float64) - image.mean(dtype=np.float64) for image in (first, second))
    flipped, ones_a, ones_b = b[::-1, ::-1], np.ones_like(a), np.ones_like(b)
    count = np.maximum(np.rint(fftconvolve(ones_a, ones_b)), 1)
    mean_a, mean_b = fftconvolve(a, ones_b) / count, fftconvolve(ones_a, flipped) / count
    var_a = fftconvolve(a * a, ones_b) / count - mean_a**2
    var_b = fftconvolve(ones_a, flipped * flipped) / count - mean_b**2
    covariance = fftconvolve(a, flipped) / count - mean_a * mean_b
    usable = (count >= overlap * min(a.size, b.size)) & (var_a > FLAT**2) & (var_b > FLAT**2)
    if not usable.any():
        return 0.0
    return float(np.clip(covariance[usable] / np.sqrt(var_a[usable] * var_b[usable]), -1, 1).max())


def fitted(height: int, width: int, *, inside: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of an image scaled to fit into `inside` at its aspect; sides of at least 4 pixels."""
    scale = min(inside[0] / height, inside[1] / width)
    return max(round(height * scale), MIN_SIDE), max(round(width * scale), MIN_SIDE)


@dataclass(frozen=True, eq=False)
class _Look:
    """What outputs of one example are held against: luminance [k,l] of references, and the target's own likeness."""

    box: Box
    references: list[np.ndarray]
    own: list[float]


def _grey(image: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Luminance [h,w] of [3,H,W], resized."""
    return resize(luminance(image), height=size[0], width=size[1], method="bilinear")[0]


class CopyPasteOptions(BaseModel):
    """How the region is compared with references."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    side: int = Field(
        default=64, ge=8, le=512, description="longer side in pixels that a larger region is shrunk to; references fit"
    )
    overlap: float = Field(
        default=0.5, gt=0, le=1, description="least share of the smaller image that a shift leaves on the other"
    )


class CopyPaste:
    """Minus the likeness of output and reference beyond that of target and reference, in [-2,0]; 0 = nothing pasted.

    Likeness is the normalised cross-correlation of luminance at the best shift, between the edit region's box and the
    reference scaled to fit it. The worst reference of kind detail or subject counts. Missing where there is no target
    or no such reference, the mask is empty, or the frame has a side of under 4 pixels.
    """

    Options = CopyPasteOptions
    name = "copy_paste"
    direction = 1
    range = (-2.0, 0.0)
    needs_weights = False
    preprocessing = 1

    def __init__(self, options: CopyPasteOptions) -> None:
        self.options = options

    def score(self, images: np.ndarray, examples: Sequence[Example]) -> np.ndarray:
        """Float32 [B] in [-2,0] of images [B,3,H,W] in [0,1]; NaN = missing."""
        height, width = images.shape[2:]
        unique = {id(e): e for e in examples}  # a group shares one example: its target is looked at once
        looks = {key: self._look(e, height=height, width=width) for key, e in unique.items()}
        rows = zip(images, examples, finite_rows(images), strict=True)
        return np.array([self._row(i, looks[id(e)] if f else None) for i, e, f in rows], np.float32)

    def _row(self, image: np.ndarray, look: _Look | None) -> float:
        if look is None:
            return float("nan")
        seen = self._seen(image, look.box)
        excess = [self._likeness(seen, r) - own for r, own in zip(look.references, look.own, strict=True)]
        return 0.0 - max(0.0, *excess)

    def _look(self, example: Example, *, height: int, width: int) -> _Look | None:
        box = region_box(example, height=height, width=width)
        images = [r.image for r in example.references if r.kind in PASTED_KINDS]
        if box is None or example.target is None or not images or min(height, width) < MIN_SIDE:
            return None
        seen = self._seen(example.target, box)
        references = [_grey(image, fitted(*image.shape[1:], inside=(seen.shape[0], seen.shape[1]))) for image in images]
        return _Look(box, references, [self._likeness(seen, reference) for reference in references])

    def _seen(self, image: np.ndarray, box: Box) -> np.ndarray:
        """Luminance [h,w] of the box, its longer side at most `side` pixels."""
        part = crop(image, box)
        size, side = part.shape[1:], self.options.side
        return _grey(part, size if max(size) <= side else fitted(*size, inside=(side, side)))

    def _likeness(self, seen: np.ndarray, reference: np.ndarray) -> float:
        return best_match(seen, reference, overlap=self.options.overlap)
