"""Defects that refinement has to undo (OmniRefiner data pipeline, RefineAnything data pipeline).

Each is a pure function (crop [3,h,w] float32 in [0,1], generator, strength) -> crop, with one entry in DEGRADATIONS.
`degrade` changes the box only and makes sure that the defect can be seen. Called by every source.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image

from burnish.data.crops import cut, put
from burnish.data.errors import DataError
from burnish.data.filters import gaussian_blur, luminance, sample, snap
from burnish.data.images import from_uint8, resize, to_uint8
from burnish.data.masks import dilate, erode
from burnish.data.records import Box

Degradation = Callable[[np.ndarray, np.random.Generator, float], np.ndarray]
ATTEMPTS = 5


def blur(crop: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Gaussian blur, sigma 1 to 4 px."""
    return gaussian_blur(crop, sigma=strength * float(rng.uniform(1.0, 4.0)))


def grey_blur(crop: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Mean of the channels, blurred with sigma 3 px: colour and detail are both lost."""
    grey = crop.mean(axis=0, keepdims=True).repeat(3, axis=0)
    return gaussian_blur(grey, sigma=3.0 * strength)


def jpeg(crop: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """JPEG compression, quality 8 to 40."""
    quality = max(1, int(rng.integers(8, 41) / strength**2))
    stream = BytesIO()
    Image.fromarray(to_uint8(crop).transpose(1, 2, 0)).save(stream, format="JPEG", quality=quality, subsampling=2)
    with Image.open(stream, formats=("JPEG",)) as image:
        return from_uint8(np.asarray(image, np.uint8)).transpose(2, 0, 1)


def downup(crop: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Area down-scaling by 2 to 8, then bicubic up-scaling."""
    height, width = crop.shape[-2:]
    factor = strength * float(rng.uniform(2.0, 8.0))
    small = resize(crop, height=max(1, int(height / factor)), width=max(1, int(width / factor)), method="area")
    return resize(small, height=height, width=width, method="bicubic")


def erosion(crop: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Strokes eaten away or grown: luminance eroded or dilated with a 3 to 5 px square."""
    size = int(rng.integers(3, 6)) + 2 * int(strength - 1)
    grey = luminance(crop)
    change = (erode if rng.random() < 0.5 else dilate)(grey, size=size) - grey
    return crop + change


def light(crop: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Light shift: gain 0.6 to 1.4 and gamma 0.7 to 1.5, away from no change."""
    sign = 1.0 if rng.random() < 0.5 else -1.0
    gain = max(0.1, 1.0 + sign * strength * float(rng.uniform(0.2, 0.4)))
    gamma = max(0.2, 1.0 - sign * strength * float(rng.uniform(0.1, 0.3 if sign > 0 else 0.5)))
    return gain * crop.astype(np.float64) ** gamma


def colour(crop: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Colour shift: red and blue gains of opposite sign up to 15 %, and saturation 0 to 0.6."""
    tint = strength * float(rng.uniform(0.08, 0.15)) * (1.0 if rng.random() < 0.5 else -1.0)
    grey = luminance(crop)
    faded = grey + (crop - grey) * float(rng.uniform(0.0, 0.6))
    return faded * np.array([1.0 + tint, 1.0, 1.0 - tint])[:, None, None]


def patch_shuffle(crop: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Cells of a quarter to a third of the side (4 to 16 px in large crops) change places."""
    side = min(crop.shape[-2:])
    size = int(np.clip(rng.integers(max(2, side // 4), max(3, side // 3 + 1)), 2, 16))
    tops = [
        (y, x) for y in range(0, crop.shape[-2] - size + 1, size) for x in range(0, crop.shape[-1] - size + 1, size)
    ]
    shuffled = crop.copy()
    for (y, x), other in zip(tops, rng.permutation(len(tops)), strict=True):
        v, u = tops[other]
        shuffled[:, y : y + size, x : x + size] = crop[:, v : v + size, u : u + size]
    return shuffled


def warp(crop: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Local sine warp of 2 to 6 px (at most a quarter of the side)."""
    height, width = crop.shape[-2:]
    rows, columns = np.mgrid[0.0:height, 0.0:width]
    reach = strength * np.minimum(rng.uniform(2.0, 6.0, size=2), min(height, width) / 4)
    phase = rng.uniform(0.0, 2 * np.pi, size=2)
    waves = 2 * np.pi * rng.uniform(1.0, 2.0, size=2) / np.array([width, height])
    moved = rows + reach[0] * np.sin(waves[0] * columns + phase[0])
    shifted = columns + reach[1] * np.sin(waves[1] * rows + phase[1])
    return sample(crop, rows=moved, columns=shifted)


def removal(crop: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """The content is gone: local mean colour plus noise."""
    mean = crop.mean(axis=(1, 2), keepdims=True)
    return mean + rng.normal(0.0, 0.05 * strength, size=crop.shape)


DEGRADATIONS: dict[str, Degradation] = {
    function.__name__: function
    for function in (blur, colour, downup, erosion, grey_blur, jpeg, light, patch_shuffle, removal, warp)
}


def defect(before: np.ndarray, after: np.ndarray, inside: np.ndarray | None = None) -> float:
    """Mean squared error between two crops [3,h,w], over the pixels where `inside` [1,h,w] is 1, or over all."""
    error = (before.astype(np.float64) - after) ** 2
    return float(error.mean() if inside is None else error[:, inside[0] > 0].mean())


def visible(before: np.ndarray, after: np.ndarray, floor: float, inside: np.ndarray | None = None) -> bool:
    """Whether the mean squared error between two crops (inside the mask) is at least `floor`."""
    return defect(before, after, inside) >= floor


def degrade_crop(
    crop: np.ndarray,
    name: str,
    rng: np.random.Generator,
    *,
    floor: float = 0.002,
    inside: np.ndarray | None = None,
) -> np.ndarray:
    """A visibly damaged crop, float32 [3,h,w] on the 8-bit grid.

    The named defect is drawn up to ATTEMPTS times, stronger each time; a crop that withstands it (a flat one) is
    replaced by ever louder `removal`, which always ends.

    Args:
        crop: float32 [3,h,w] in [0,1] on the 8-bit grid.
        name: a key of DEGRADATIONS.
        rng: keyed generator.
        floor: least mean squared error, inside the mask where there is one.
        inside: float32 [1,h,w], 1 = damaged; None = all of the crop.

    Raises:
        DataError: unknown name.
    """
    if name not in DEGRADATIONS:
        raise DataError(f"degradation: got {name!r}, allowed {', '.join(DEGRADATIONS)}")

    def damaged(how: Degradation, strength: float) -> np.ndarray:
        found = snap(how(crop, rng, strength))
        return found if inside is None else np.where(inside > 0, found, crop)

    for attempt in range(ATTEMPTS):
        result = damaged(DEGRADATIONS[name], 1.3**attempt)
        if visible(crop, result, floor, inside):
            return result
    for loudness in range(2, 100, 2):
        result = damaged(removal, float(loudness))
        if visible(crop, result, floor, inside):
            return result
    raise DataError(f"degradation: floor {floor} cannot be reached")


def degrade(
    image: np.ndarray,
    box: Box,
    name: str,
    rng: np.random.Generator,
    *,
    floor: float = 0.002,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Damage the box of an image, or what the mask covers of it; every other pixel stays the same, bit for bit.

    Args:
        image: float32 [3,H,W] in [0,1] on the 8-bit grid.
        box: half-open, inside the image.
        name: a key of DEGRADATIONS.
        rng: keyed generator.
        floor: least mean squared error inside the box, or inside the mask.
        mask: float32 [1,H,W], 1 = damaged; it covers something of the box; None = the whole box.
    """
    inside = None if mask is None else cut(mask, box)
    return put(image, degrade_crop(cut(image, box), name, rng, floor=floor, inside=inside), box)


def bounded(clean: np.ndarray, damaged: np.ndarray, inside: np.ndarray, *, ceiling: float) -> np.ndarray:
    """The damaged image, faded towards the clean one where its defect exceeds the ceiling; on the 8-bit grid.

    Args:
        clean, damaged: float32 [3,H,W] in [0,1].
        inside: float32 [1,H,W], where they differ.
        ceiling: most mean squared error inside.
    """
    result, share = damaged, 1.0
    while defect(clean, result, inside) > ceiling:
        share = min(0.95 * share, float(np.sqrt(ceiling / defect(clean, damaged, inside))))
        result = snap(clean + share * (damaged - clean))
    return result
