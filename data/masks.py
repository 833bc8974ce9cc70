"""Binary masks, their boundary bands and blend masks, in plain numpy.

Called by paste-back, losses and rewards. Never draws and never reads a file. Legend: H W pixels, k kernel side.
Every function takes [...,H,W] and works on the last two axes; 1 = edit here, 0 = leave alone.
"""

from __future__ import annotations

import numpy as np

from burnish.data.errors import DataError
from burnish.data.records import Box


def mask_bbox(mask: np.ndarray) -> Box:
    """Tight half-open box of `mask > 0` (RefineAnything, Focus-and-Refine step 1).

    Args:
        mask: [...,H,W].

    Raises:
        DataError: the mask is empty.
    """
    inside = (mask > 0).reshape(-1, *mask.shape[-2:]).max(axis=0)
    rows, columns = np.flatnonzero(inside.max(axis=1)), np.flatnonzero(inside.max(axis=0))
    if rows.size == 0:
        raise DataError("the mask is empty: mark at least one pixel to edit")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def box_mask(box: Box, *, height: int, width: int) -> np.ndarray:
    """float32 [1,H,W] that is 1 inside a half-open box."""
    x1, y1, x2, y2 = box
    mask = np.zeros((1, height, width), np.float32)
    mask[:, y1:y2, x1:x2] = 1.0
    return mask


def _slide(mask: np.ndarray, size: int, axis: int, *, largest: bool) -> np.ndarray:
    """Running maximum or minimum over offsets -(k//2) .. k-1-k//2; outside the image nothing wins."""
    if size < 1:
        raise DataError(f"kernel size must be >= 1, got {size}")
    anchor = size // 2
    padding = [(0, 0)] * mask.ndim
    padding[axis] = (anchor, size - 1 - anchor)
    padded = np.pad(mask, padding, constant_values=-np.inf if largest else np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, size, axis=axis)
    return windows.max(axis=-1) if largest else windows.min(axis=-1)


def dilate(mask: np.ndarray, *, size: int) -> np.ndarray:
    """Dilation with a k x k square and OpenCV's anchor k//2, float32 [...,H,W]; outside counts as background."""
    values = np.asarray(mask, np.float32)
    return _slide(_slide(values, size, values.ndim - 2, largest=True), size, values.ndim - 1, largest=True)


def erode(mask: np.ndarray, *, size: int) -> np.ndarray:
    """Erosion with a k x k square and OpenCV's anchor k//2, float32 [...,H,W]; outside counts as foreground."""
    values = np.asarray(mask, np.float32)
    return _slide(_slide(values, size, values.ndim - 2, largest=False), size, values.ndim - 1, largest=False)


def boundary_band(mask: np.ndarray, *, r_out: int = 16, r_in: int = 16) -> np.ndarray:
    """Band around the mask's edge, `dilate(mask, r_out) - erode(mask, r_in)` (RefineAnything eq. 10).

    Args:
        mask: [...,H,W].
        r_out, r_in: kernel sides in pixels; an even side is off-centre by one.

    Returns:
        float32 [...,H,W]; 0 everywhere for an empty mask and for a mask that fills the image.
    """
    return dilate(mask, size=r_out) - erode(mask, size=r_in)


def gaussian_kernel(size: int, *, sigma: float | None = None) -> np.ndarray:
    """Normalised 1-D Gaussian, float64 [k].

    Args:
        size: k, odd.
        sigma: standard deviation in pixels; None = OpenCV's rule 0.3 ((k - 1) / 2 - 1) + 0.8.
    """
    if size < 1 or size % 2 == 0:
        raise DataError(f"blur kernel size must be odd and >= 1, got {size}")
    spread = 0.3 * ((size - 1) * 0.5 - 1) + 0.8 if sigma is None else sigma
    offsets = np.arange(size) - (size - 1) / 2
    weights = np.exp(-(offsets**2) / (2 * spread**2))
    return weights / weights.sum()


def _convolve(values: np.ndarray, kernel: np.ndarray, axis: int) -> np.ndarray:
    reach = kernel.size // 2
    padding = [(0, 0)] * values.ndim
    padding[axis] = (reach, reach)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, padding, mode="edge"), kernel.size, axis=axis)
    return (windows * kernel).sum(axis=-1)


def blur_mask(mask: np.ndarray, *, size: int = 11, sigma: float | None = None) -> np.ndarray:
    """Separable Gaussian blur, float64 [...,H,W] in [0,1] (RefineAnything eq. 8).

    The mask goes on beyond the image as it is at its edge: the image's edge is no edge of the region.
    """
    kernel = gaussian_kernel(size, sigma=sigma)
    values = np.asarray(mask, np.float64)
    return np.clip(_convolve(_convolve(values, kernel, values.ndim - 2), kernel, values.ndim - 1), 0.0, 1.0)


def blend_mask(mask: np.ndarray, *, dilate_size: int = 7, blur_size: int = 11) -> np.ndarray:
    """Blend weight `blur(dilate(mask))`, float64 [...,H,W] in [0,1] (RefineAnything eq. 8).

    It is 0 further than `blend_reach(dilate_size, blur_size)` pixels from the mask.
    """
    return blur_mask(dilate((np.asarray(mask) > 0).astype(np.float32), size=dilate_size), size=blur_size)


def blend_reach(dilate_size: int = 7, blur_size: int = 11) -> int:
    """How many pixels beyond the mask the blend mask can be non-zero: k_d//2 + (k_b - 1)/2 (8 for 7 and 11)."""
    return dilate_size // 2 + (blur_size - 1) // 2


def mask_to_grid(mask: np.ndarray, *, patch: int, reduce: str = "mean") -> np.ndarray:
    """Down-sample a mask to the patch grid.

    Args:
        mask: [...,H,W]; H and W multiples of `patch`.
        patch: side of a cell in pixels.
        reduce: "mean" = covered share of the cell, "max" = 1 where any pixel is covered.

    Returns:
        float32 [...,H/patch,W/patch].

    Raises:
        DataError: H or W is not a multiple of `patch`, or `reduce` is unknown.
    """
    height, width = mask.shape[-2:]
    if height % patch or width % patch:
        raise DataError(f"mask of {height}x{width} px is no multiple of the patch, {patch} px")
    if reduce not in ("mean", "max"):
        raise DataError(f"reduce must be mean or max, got {reduce!r}")
    cells = np.asarray(mask, np.float32).reshape(*mask.shape[:-2], height // patch, patch, width // patch, patch)
    return cells.mean(axis=(-3, -1)) if reduce == "mean" else cells.max(axis=(-3, -1))
