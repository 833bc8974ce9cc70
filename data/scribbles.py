"""Scribble masks: what a user paints over an object (RefineAnything, data construction).

One to four strokes inside the dilated object, each 2 to 12 % of its side wide, together 2 to 40 % of its area.
Called by the drawn and the photographed sources and by `quadruples.py`. Legend: H W pixels.
"""

from __future__ import annotations

import itertools
from typing import Any, Literal

import numpy as np

from burnish.data.crops import put
from burnish.data.filters import gaussian_blur, luminance
from burnish.data.masks import box_mask, dilate, mask_bbox
from burnish.data.records import Box

Masks = Literal["box", "scribble"]

WIDTH = (0.02, 0.12)
AREA = (0.02, 0.40)
MAX_STROKES = 4
_SAMPLES = 48
_BINS = 64


def otsu_threshold(values: np.ndarray) -> float:
    """The level in [0,1] that splits values in [0,1] into two classes of largest variance between them (Otsu 1979)."""
    counts, edges = np.histogram(values, bins=_BINS, range=(0.0, 1.0))
    centres = (edges[:-1] + edges[1:]) / 2
    below, above = counts.cumsum()[:-1], counts.sum() - counts.cumsum()[:-1]
    moment = (counts * centres).cumsum()
    means = moment[:-1] / np.maximum(below, 1), (moment[-1] - moment[:-1]) / np.maximum(above, 1)
    between = below * above * (means[0] - means[1]) ** 2
    return float(edges[1:-1][between.argmax()])


def object_mask(crop: np.ndarray, *, least: float = 0.1, most: float = 0.95) -> np.ndarray:
    """The object of a crop: the class of luminance that touches the border less, its largest component, dilated.

    Args:
        crop: float32 [3,h,w] in [0,1].
        least, most: share of the crop; an object outside these is taken to fill the crop.

    Returns:
        float32 [1,h,w], 1 = object.
    """
    from scipy.ndimage import label

    grey = gaussian_blur(luminance(crop), sigma=1.0)[0]
    bright = grey > otsu_threshold(grey)
    border = np.concatenate([bright[0], bright[-1], bright[:, 0], bright[:, -1]])
    inside = ~bright if border.mean() > 0.5 else bright
    found: Any = label(inside)
    labels, count = found
    whole = np.ones((1, *grey.shape), np.float32)
    if not count:
        return whole
    largest = 1 + int(np.bincount(labels.ravel())[1:].argmax())
    grown = dilate((labels == largest).astype(np.float32), size=1 + 2 * (min(grey.shape) // 16))
    return grown[None] if least <= grown.mean() <= most else whole


def scribble_mask(thing: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Strokes over an object.

    Args:
        thing: float32 [1,h,w], 1 = the dilated object; not empty.
        rng: keyed generator.

    Returns:
        float32 [1,h,w]: 1 on the strokes, which lie in the object and cover 2 to 40 % of it (at least one pixel).
    """
    x1, y1, x2, y2 = mask_bbox(thing)
    side, area = max(x2 - x1, y2 - y1), float(thing.sum())
    mask = np.zeros_like(thing)
    wanted = int(rng.integers(1, MAX_STROKES + 1))
    drawn = 0
    for attempt in range(4 * MAX_STROKES):
        width = max(1.5, side * float(rng.uniform(*WIDTH)))
        points = rng.uniform((x1, y1), (x2, y2), size=(int(rng.integers(2, 5)), 2))
        curve = _bezier(points) if rng.random() < 0.5 else _polyline(points)
        candidate = np.maximum(mask, _stamp(curve, width / 2, thing.shape) * thing)
        if candidate.sum() <= AREA[1] * area and candidate.sum() > mask.sum():
            mask, drawn = candidate, drawn + 1
        if mask.sum() >= max(1.0, AREA[0] * area) and (drawn >= wanted or attempt >= 2 * MAX_STROKES):
            return mask
    return _nearest(thing, (x1 + x2) / 2, (y1 + y2) / 2, count=max(1, int(AREA[1] / 2 * area)))


def region_mask(how: Masks, box: Box, clean: np.ndarray, rng: np.random.Generator, *, side: int) -> np.ndarray:
    """The region to restore, float32 [1,side,side].

    Args:
        how: "box": all of it; "scribble": strokes over the object in it.
        box: half-open, inside the frame.
        clean: float32 [3,h,w], what the box should hold.
        rng: keyed generator; not asked where `how` is "box".
        side: of the frame, in pixels.
    """
    whole = box_mask(box, height=side, width=side)
    return whole if how == "box" else put(0 * whole, scribble_mask(object_mask(clean), rng), box)


def _bezier(points: np.ndarray) -> np.ndarray:
    """Positions [n,2] along the Bezier curve of control points [k,2] (de Casteljau)."""
    t = np.linspace(0.0, 1.0, _SAMPLES)[:, None]
    levels = [np.repeat(point[None], _SAMPLES, axis=0) for point in points]
    while len(levels) > 1:
        levels = [(1 - t) * a + t * b for a, b in itertools.pairwise(levels)]
    return levels[0]


def _polyline(points: np.ndarray) -> np.ndarray:
    """Positions [n,2] along the straight lines between points [k,2]."""
    place = np.linspace(0.0, len(points) - 1, _SAMPLES)
    first = np.minimum(place.astype(np.int64), len(points) - 2)
    share = (place - first)[:, None]
    return (1 - share) * points[first] + share * points[first + 1]


def _stamp(curve: np.ndarray, radius: float, shape: tuple[int, ...]) -> np.ndarray:
    """Float32 [1,h,w]: 1 within `radius` pixels of the line through the positions [n,2] (x, y)."""
    covered = np.zeros(shape[-2:], np.float32)
    for (ax, ay), (bx, by) in itertools.pairwise(curve):
        left, right = int(max(0, min(ax, bx) - radius)), int(max(ax, bx) + radius) + 1
        top, bottom = int(max(0, min(ay, by) - radius)), int(max(ay, by) + radius) + 1
        near = covered[top:bottom, left:right]
        rows, columns = np.mgrid[0 : near.shape[0], 0 : near.shape[1]] + 0.5
        rows, columns = rows + top, columns + left
        length = (bx - ax) ** 2 + (by - ay) ** 2
        share = ((columns - ax) * (bx - ax) + (rows - ay) * (by - ay)) / length if length else 0.0
        share = np.clip(share, 0.0, 1.0)
        away = (columns - ax - share * (bx - ax)) ** 2 + (rows - ay - share * (by - ay)) ** 2
        near[away <= radius**2] = 1.0
    return covered[None]


def _nearest(thing: np.ndarray, x: float, y: float, *, count: int) -> np.ndarray:
    """The `count` pixels of an object that are nearest to a place, float32 [1,h,w]."""
    rows, columns = np.mgrid[0 : thing.shape[-2], 0 : thing.shape[-1]] + 0.5
    away = np.where(thing[0] > 0, (columns - x) ** 2 + (rows - y) ** 2, np.inf).ravel()
    mask = np.zeros(away.size, np.float32)
    mask[np.argsort(away, kind="stable")[:count]] = 1.0
    return mask.reshape(thing.shape) * thing
