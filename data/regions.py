"""Regions of an image: where to edit, held by their boxes so that many of them on a large image stay small.

Called by the refiner, which crops round each of them. Pure arithmetic on boxes and arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from burnish.data.crops import cut
from burnish.data.masks import mask_bbox
from burnish.data.records import Box


@dataclass(frozen=True, eq=False)
class Region:
    """One region to edit.

    Args:
        box: where it lies in the image.
        mask: float32 [1,h,w] of the box's size, > 0 = edit; None = all of the box.
    """

    box: Box
    mask: np.ndarray | None = None

    def within(self, frame: Box) -> np.ndarray:
        """Float32 [1,h,w] of the frame's size, 1 = edit; the frame holds the box."""
        (x1, y1, x2, y2), (left, top, right, bottom) = self.box, frame
        painted = np.zeros((1, bottom - top, right - left), np.float32)
        inside = 1.0 if self.mask is None else self.mask > 0
        painted[:, y1 - top : y2 - top, x1 - left : x2 - left] = inside
        return painted


def region_of(mask: np.ndarray) -> Region:
    """The region of a mask [1,H,W].

    Raises:
        DataError: the mask is empty.
    """
    box = mask_bbox(mask)
    return Region(box, (cut(mask, box) > 0).astype(np.float32))


def join_regions(regions: Sequence[Region], *, reach: int) -> tuple[Region, ...]:
    """Regions of which no two can touch the same pixel; those that could are one, at the place of their first.

    Args:
        regions: in the caller's order.
        reach: how far a region's blend mask goes beyond its box, in pixels.
    """
    joined: list[Region] = []
    for region in regions:
        place = len(joined)
        while True:  # a grown box may meet regions that its parts did not
            met = [i for i, other in enumerate(joined) if _meet(region.box, other.box, 2 * reach)]
            if not met:
                break
            for index in reversed(met):
                region = _union(joined.pop(index), region)
            place = min(place, met[0])
        joined.insert(place, region)
    return tuple(joined)


def _meet(first: Box, second: Box, gap: int) -> bool:
    across = first[0] < second[2] + gap and second[0] < first[2] + gap
    return across and first[1] < second[3] + gap and second[1] < first[3] + gap


def _union(first: Region, second: Region) -> Region:
    (a1, b1, a2, b2), (c1, d1, c2, d2) = first.box, second.box
    box = (min(a1, c1), min(b1, d1), max(a2, c2), max(b2, d2))
    return Region(box, np.maximum(first.within(box), second.within(box)))
