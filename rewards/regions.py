"""The part of an image that a reward looks at: the edit region's box, cut out and resized to a fixed side.

Pure numpy, one row at a time. Called by the rewards; knows no encoder. Legend: B batch, D embedding, S side of the
resized crop, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from burnish.data.masks import mask_bbox
from burnish.data.records import Box, Example
from burnish.rewards.encoders import cosine

MIN_SIDE = 4
"""Smallest side in pixels of a crop that is compared."""


@lru_cache(maxsize=256)
def resize_matrix(length: int, size: int) -> np.ndarray:
    """Float32 [size,length] rows of a triangle filter, widened when shrinking; each row sums to 1.

    `matrix @ signal` is bilinear interpolation upwards and antialiased averaging downwards, pixel centres aligned.
    """
    step = length / size
    centres = (np.arange(size) + 0.5) * step
    reach = max(step, 1.0)
    distance = np.abs(np.arange(length)[None] + 0.5 - centres[:, None]) / reach
    weights = np.maximum(1 - distance, 0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def crop_resized(image: np.ndarray, box: Box, *, size: int) -> np.ndarray:
    """Crop a half-open box out of [3,H,W] and resize it to float32 [3,size,size]."""
    x1, y1, x2, y2 = box
    crop = np.ascontiguousarray(image[:, y1:y2, x1:x2])
    return resize_matrix(y2 - y1, size) @ crop @ resize_matrix(x2 - x1, size).T


def grow_box(box: Box, *, min_side: int, height: int, width: int) -> Box:
    """Grow a half-open box to at least `min_side` pixels a side, around its centre and inside the frame."""
    x1, x2 = _grow(box[0], box[2], min_side, width)
    y1, y2 = _grow(box[1], box[3], min_side, height)
    return x1, y1, x2, y2


def _grow(start: int, stop: int, min_side: int, limit: int) -> tuple[int, int]:
    side = min(max(stop - start, min_side), limit)
    start = min(max(start - (side - (stop - start)) // 2, 0), limit - side)
    return start, start + side


def region_box(example: Example, *, height: int, width: int, min_side: int = MIN_SIDE) -> Box | None:
    """Box of the edit region in a frame of `height` x `width`; the frame without a mask, None for an empty mask."""
    if example.mask is None:
        return 0, 0, width, height
    if not (example.mask > 0).any():
        return None
    return grow_box(mask_bbox(example.mask), min_side=min_side, height=height, width=width)


def region_cosine(
    images: np.ndarray,
    examples: Sequence[Example],
    *,
    size: int,
    embed: Callable[[np.ndarray], np.ndarray],
    wanted: Callable[[Example, Box], np.ndarray | None],
) -> np.ndarray:
    """Float32 [B] cosine of each output's region with what its example wants; NaN where that is None.

    Args:
        images: float32 [B,3,H,W] in [0,1].
        examples: B entries; one that stands in several rows is asked once.
        size: S, side in pixels that a region is resized to.
        embed: crops [B,3,S,S] -> embeddings [B,D].
        wanted: (example, its region's box) -> embedding [D], or None where the reward does not apply.
    """
    height, width = images.shape[2:]
    boxes = {id(e): region_box(e, height=height, width=width) for e in examples}
    goals = {key: wanted(e, box) for key, e in {id(e): e for e in examples}.items() if (box := boxes[key]) is not None}
    frame = (0, 0, width, height)
    rows = zip(images, examples, strict=True)
    ours = embed(np.stack([crop_resized(i, boxes[id(e)] or frame, size=size) for i, e in rows]))
    theirs = [goals.get(id(e)) for e in examples]
    known = [goal is not None for goal in theirs]
    values = cosine(ours, np.stack([np.zeros_like(ours[0]) if goal is None else goal for goal in theirs]))
    return np.where(known, values, np.nan).astype(np.float32)
