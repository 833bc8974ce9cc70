"""Paste-back: put the generated crop into the original and leave everything else untouched (RefineAnything eq. 8-9).

Called by the refiner alone. Rewards and gold metrics see the output before it comes here.
"""

from __future__ import annotations

import numpy as np

from burnish.data.crops import check_box, cut, put
from burnish.data.errors import DataError
from burnish.data.images import from_uint8, to_uint8
from burnish.data.masks import blend_mask
from burnish.data.records import Box


def alpha_uint8(mask: np.ndarray, *, dilate_size: int = 7, blur_size: int = 11) -> np.ndarray:
    """The 8-bit blend mask floor(255 alpha + 0.5), uint8 [1,H,W]; where it is 0 nothing changes."""
    return np.floor(blend_mask(mask, dilate_size=dilate_size, blur_size=blur_size) * 255 + 0.5).astype(np.uint8)


def _check_crop_border(alpha: np.ndarray, box: Box, height: int, width: int) -> None:
    x1, y1, x2, y2 = box
    edges = ((x1 > 0, alpha[..., 0]), (x2 < width, alpha[..., -1]))
    edges += ((y1 > 0, alpha[..., 0, :]), (y2 < height, alpha[..., -1, :]))
    if any(inner and edge.any() for inner, edge in edges):
        raise DataError(f"the blend mask reaches the border of the crop {list(box)}: take a larger crop margin")


def composite(original: np.ndarray, generated: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """floor(a generated + (1 - a) original + 0.5) in 8 bits, a = alpha / 255 (RefineAnything eq. 9).

    Args:
        original, generated: float32 [3,H,W]; `generated` is clipped to [0,1].
        alpha: uint8 [1,H,W].

    Returns:
        float32 [3,H,W]; the original's own float where alpha is 0 or where the 8-bit value did not change.
    """
    before = to_uint8(original)
    weight = alpha.astype(np.float64) / 255.0
    mixed = weight * to_uint8(generated) + (1.0 - weight) * before
    after = np.floor(mixed + 0.5).astype(np.uint8)
    return np.where((alpha == 0) | (after == before), original, from_uint8(after))


def paste_back(
    original: np.ndarray,
    generated: np.ndarray,
    mask: np.ndarray,
    *,
    box: Box | None = None,
    dilate_size: int = 7,
    blur_size: int = 11,
) -> np.ndarray:
    """Blend `generated` into `original` around the mask (RefineAnything eq. 8-9, SPEC step 5).

    Args:
        original: float32 [3,H,W] in [0,1].
        generated: float32 [3,h,w], the size of `box`; values outside [0,1] are clipped.
        mask: [1,H,W], > 0 = edit.
        box: the crop that was generated; None = the whole image.
        dilate_size, blur_size: sides of the square dilation and of the Gaussian, in pixels; 1 and 1 paste hard.

    Returns:
        float32 [3,H,W]. Equal to `original` bit for bit wherever the 8-bit blend mask is 0, and everywhere where
        `generated` equals the original.

    Raises:
        DataError: sizes differ, `generated` holds NaN, or the blend mask reaches a crop border inside the image.
    """
    box = (0, 0, original.shape[-1], original.shape[-2]) if box is None else box
    check_box(box, height=original.shape[-2], width=original.shape[-1])
    sizes = {"dilate_size": dilate_size, "blur_size": blur_size}
    return paste_crop(original, generated, cut(mask, box), box=box, **sizes)


def paste_crop(
    original: np.ndarray,
    generated: np.ndarray,
    mask: np.ndarray,
    *,
    box: Box,
    dilate_size: int = 7,
    blur_size: int = 11,
) -> np.ndarray:
    """As `paste_back`, with the mask [1,h,w] of the crop alone."""
    height, width = original.shape[-2:]
    crop = cut(original, box)
    if generated.shape != crop.shape:
        raise DataError(f"generated must have the crop's shape {list(crop.shape)}, got {list(generated.shape)}")
    if np.isnan(generated).any():
        raise DataError("generated holds NaN")
    alpha = alpha_uint8(mask, dilate_size=dilate_size, blur_size=blur_size)
    _check_crop_border(alpha, box, height, width)
    return put(original, composite(crop, generated, alpha), box)
