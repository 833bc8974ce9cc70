"""SSIM and PSNR: against the target in the edit region's box, or against the input around it (RefineEval).

One row at a time, in float64. Called by the reward server. Legend: B batch, C channels, N pixels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from burnish.data.masks import box_mask, mask_bbox
from burnish.data.records import Example
from burnish.rewards.regions import MIN_SIDE, region_box
from burnish.rewards.vision import crop, finite_rows

WINDOW = 7
"""Side in pixels of SSIM's window."""

Pair = tuple[np.ndarray, np.ndarray]


def ssim(output: np.ndarray, wanted: np.ndarray) -> float:
    """Structural similarity in [-1,1]: 7x7 uniform window, sample covariance, data range 1, mean over channels.

    Through scikit-image, not torchmetrics: that one has the population covariance, counts a reflected border, and takes
    many times as long, because its uniform window is a dense convolution.

    Args:
        output: [C,H,W] in [0,1], sides of at least 7 pixels.
        wanted: the same shape.
    """
    from skimage.metrics import structural_similarity

    value: Any = structural_similarity(
        output.astype(np.float64),
        wanted.astype(np.float64),
        win_size=WINDOW,
        gaussian_weights=False,
        use_sample_covariance=True,
        data_range=1.0,
        channel_axis=0,
    )
    return float(np.clip(value, -1, 1))


def psnr(output: np.ndarray, wanted: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(1 / MSE), >= 0; infinite for equal images. Through torchmetrics.

    Args:
        output: any shape with at least one entry, in [0,1].
        wanted: the same shape.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio

    ours, theirs = (torch.from_numpy(np.asarray(image, np.float64)) for image in (output, wanted))
    return float(peak_signal_noise_ratio(ours, theirs, data_range=1.0))


def region_pair(output: np.ndarray, example: Example, *, min_side: int) -> Pair | None:
    """Output and target [C,h,w] in the region's box; None where there is no target or the mask is empty.

    Args:
        output: [C,H,W].
        example: whose target and mask; without a mask the box is the frame.
        min_side: side in pixels that a smaller box is grown to, as far as the frame allows.
    """
    box = region_box(example, height=output.shape[1], width=output.shape[2], min_side=min_side)
    return None if box is None or example.target is None else (crop(output, box), crop(example.target, box))


def outside_box(example: Example) -> np.ndarray | None:
    """Bool [H,W], True outside the mask's tight box; None where there is no mask, an empty one, or no outside."""
    if example.mask is None or not (example.mask > 0).any():
        return None
    height, width = example.mask.shape[1:]
    outside = box_mask(mask_bbox(example.mask), height=height, width=width)[0] == 0
    return outside if outside.any() else None


class FidelityOptions(BaseModel):
    """What is compared with what."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    background: bool = Field(
        default=False,
        description="false = output and target in the edit region's box; true = output and input outside the box",
    )


class PsnrOptions(FidelityOptions):
    """What is compared with what, and where the scale ends."""

    max_db: float = Field(default=60.0, gt=0, le=200, description="highest score, dB; equal images get it")


class Ssim:
    """SSIM in [-1,1], 1 for equal images.

    In the background, the input's box is copied into the output first, and whole images are compared. Missing where
    there is no target (background: no input, no mask, nothing outside its box), the mask is empty, or the frame has a
    side of under 7 pixels.
    """

    Options = FidelityOptions
    name = "ssim"
    direction = 1
    range = (-1.0, 1.0)
    needs_weights = False
    preprocessing = 1

    def __init__(self, options: FidelityOptions) -> None:
        self.options = options

    def score(self, images: np.ndarray, examples: Sequence[Example]) -> np.ndarray:
        """Float32 [B] in [-1,1] of images [B,3,H,W] in [0,1]; NaN = missing."""
        return _scores(images, examples, pair=self._pair, measure=ssim)

    def _pair(self, image: np.ndarray, example: Example) -> Pair | None:
        if min(image.shape[1:]) < WINDOW:
            return None
        if not self.options.background:
            return region_pair(image, example, min_side=WINDOW)
        outside, given = outside_box(example), example.image
        return None if outside is None or given is None else (np.where(outside, image, given), given)


class Psnr:
    """PSNR in dB, in [0, max_db]; equal images get max_db.

    The background counts the pixels outside the box only. Missing where there is no target (background: no input, no
    mask, nothing outside its box) or the mask is empty.
    """

    Options = PsnrOptions
    name = "psnr"
    direction = 1
    range = (0.0, 60.0)  # of the default max_db
    needs_weights = False
    preprocessing = 1

    def __init__(self, options: PsnrOptions) -> None:
        self.options = options
        self.range = (0.0, options.max_db)

    def score(self, images: np.ndarray, examples: Sequence[Example]) -> np.ndarray:
        """Float32 [B] in dB of images [B,3,H,W] in [0,1]; NaN = missing."""
        scores = _scores(images, examples, pair=self._pair, measure=psnr)
        return np.clip(scores, np.float32(0), np.float32(self.options.max_db))

    def _pair(self, image: np.ndarray, example: Example) -> Pair | None:
        if not self.options.background:
            return region_pair(image, example, min_side=MIN_SIDE)
        outside, given = outside_box(example), example.image
        return None if outside is None or given is None else (image[:, outside], given[:, outside])


def _scores(
    images: np.ndarray,
    examples: Sequence[Example],
    *,
    pair: Callable[[np.ndarray, Example], Pair | None],
    measure: Callable[[np.ndarray, np.ndarray], float],
) -> np.ndarray:
    """Float32 [B]: the measure of each row's pair; NaN where there is none or the row is not finite."""
    rows = zip(images, examples, finite_rows(images), strict=True)
    pairs = [pair(image, example) if finite else None for image, example, finite in rows]
    return np.array([np.nan if both is None else measure(*both) for both in pairs], np.float32)
