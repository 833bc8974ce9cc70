"""Focus crops: which part of the image the model sees (RefineAnything, Focus-and-Refine).

Called by the refiner, by supervised fine-tuning and by evaluation, so that all three see the same crop. Pure
arithmetic on boxes and arrays; resizing stands in `images.py`.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from burnish.data.errors import DataError
from burnish.data.records import Box

MarginFrame = Literal["area1024", "pixels"]
VIRTUAL_AREA = 1024 * 1024


def focus_scale(*, height: int, width: int, margin_frame: MarginFrame = "area1024") -> float:
    """s = sqrt(1024^2 / (W H)): virtual pixels a source pixel; 1 where margins are counted in source pixels."""
    return math.sqrt(VIRTUAL_AREA / (width * height)) if margin_frame == "area1024" else 1.0


def focus_crop(
    box: Box,
    *,
    height: int,
    width: int,
    margin: int = 64,
    margin_frame: MarginFrame = "area1024",
    min_margin: int = 0,
) -> Box:
    """Crop around a box: edges floor(max(0, a s - m) / s) and ceil(min(N s, b s + m) / s), clamped to the image.

    Args:
        box: half-open, inside the image.
        height, width: size of the image in pixels.
        margin: m, in the frame named by `margin_frame`.
        margin_frame: "area1024" counts in an image scaled to 1024^2 pixels, "pixels" in source pixels (s = 1).
        min_margin: least margin in source pixels, for example `masks.blend_reach()`.

    Raises:
        DataError: the box is empty or leaves the image.
    """
    check_box(box, height=height, width=width)
    scale = focus_scale(height=height, width=width, margin_frame=margin_frame)

    def edges(low: int, high: int, length: int) -> tuple[int, int]:
        first = min(math.floor(max(0.0, low * scale - margin) / scale), low - min_margin)
        last = max(math.ceil(min(length * scale, high * scale + margin) / scale), high + min_margin)
        return max(0, first), min(length, last)

    (x1, x2), (y1, y2) = edges(box[0], box[2], width), edges(box[1], box[3], height)
    return x1, y1, x2, y2


def check_box(box: Box, *, height: int, width: int) -> None:
    """Raise DataError unless the half-open box is not empty and lies inside the image."""
    x1, y1, x2, y2 = box
    if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
        raise DataError(f"box: got {list(box)}, allowed 0 <= x1 < x2 <= {width} and 0 <= y1 < y2 <= {height}")


def cut(image: np.ndarray, box: Box) -> np.ndarray:
    """Copy of the box [...,y2-y1,x2-x1] of an image [...,H,W]."""
    x1, y1, x2, y2 = box
    return image[..., y1:y2, x1:x2].copy()


def put(image: np.ndarray, part: np.ndarray, box: Box) -> np.ndarray:
    """Copy of an image [...,H,W] whose box holds `part`; every other pixel is the same, bit for bit."""
    x1, y1, x2, y2 = box
    result = image.copy()
    result[..., y1:y2, x1:x2] = part
    return result


def model_size(*, height: int, width: int, area: int, multiple: int) -> tuple[int, int]:
    """(height, width) nearest to `area` pixels at this aspect, each a positive multiple of `multiple`."""
    scale = math.sqrt(area / (height * width)) / multiple
    return max(1, int(height * scale + 0.5)) * multiple, max(1, int(width * scale + 0.5)) * multiple
