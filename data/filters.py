"""Small image filters shared by degradations and references: blur, re-sampling, perspective. Pure numpy.

All take and give float32 [C,h,w] in [0,1] and compute in float64, so that the 8-bit results agree between machines.
"""

from __future__ import annotations

import numpy as np


def snap(image: np.ndarray) -> np.ndarray:
    """Clip to [0,1] and round to the 8-bit grid, float32; data sets hold only such values, as files would."""
    return (np.floor(np.clip(image, 0.0, 1.0) * 255.0 + 0.5) / 255.0).astype(np.float32)


def _blur_matrix(length: int, sigma: float) -> np.ndarray:
    """[length,length] rows that average with a Gaussian; pixels outside repeat the edge."""
    reach = int(3 * sigma + 1)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-(offsets**2) / (2 * sigma**2))
    sources = np.clip(np.arange(length)[:, None] + offsets, 0, length - 1)
    matrix = np.zeros((length, length))
    np.add.at(matrix, (np.arange(length)[:, None], sources), weights / weights.sum())
    return matrix


def gaussian_blur(image: np.ndarray, *, sigma: float) -> np.ndarray:
    """Gaussian blur with repeated edges; sigma in pixels, > 0."""
    height, width = image.shape[-2:]
    rows = _blur_matrix(height, sigma)
    columns = rows if width == height else _blur_matrix(width, sigma)
    return (rows @ image.astype(np.float64) @ columns.T).astype(np.float32)


def luminance(image: np.ndarray) -> np.ndarray:
    """Rec. 601 luminance [1,h,w] of an RGB image [3,h,w]."""
    weights = np.array([0.299, 0.587, 0.114])[:, None, None]
    return (image * weights).sum(axis=0, keepdims=True).astype(np.float32)


def sample(image: np.ndarray, *, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Bilinear values of an image [C,h,w] at float positions rows, columns [h2,w2]; edges repeat; float32 [C,h2,w2]."""
    height, width = image.shape[-2:]
    rows, columns = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
    top, left = rows.astype(np.int64), columns.astype(np.int64)
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    down, across = rows - top, columns - left
    upper = image[:, top, left] * (1 - across) + image[:, top, right] * across
    lower = image[:, bottom, left] * (1 - across) + image[:, bottom, right] * across
    return (upper * (1 - down) + lower * down).astype(np.float32)


def perspective(image: np.ndarray, rng: np.random.Generator, *, strength: float = 0.12) -> np.ndarray:
    """The image seen from a slightly different place: each corner moves inwards by at most `strength` of the side."""
    height, width = image.shape[-2:]
    shifts = rng.uniform(0.0, strength, size=(2, 2, 2))
    v, u = np.mgrid[0.0 : 1.0 : height * 1j, 0.0 : 1.0 : width * 1j]
    sign = np.array([1.0, -1.0])
    corner = np.array([0.0, 1.0])
    y = corner[:, None] + sign[:, None] * shifts[0]
    x = corner[None, :] + sign[None, :] * shifts[1]
    weights = ((1 - v) * (1 - u), (1 - v) * u, v * (1 - u), v * u)
    rows = sum(w * value for w, value in zip(weights, y.ravel(), strict=True))
    columns = sum(w * value for w, value in zip(weights, x.ravel(), strict=True))
    return sample(image, rows=rows * (height - 1), columns=columns * (width - 1))


def contrast(image: np.ndarray) -> float:
    """Mean absolute difference between neighbouring pixels: how much detail an image [C,h,w] holds."""
    return float(np.abs(np.diff(image, axis=-1)).mean() + np.abs(np.diff(image, axis=-2)).mean())
