"""Focus crops of a whole picture: what is cut out for the model, and how what it made is put back.

The two halves of Focus-and-Refine (RefineAnything section 3.2) round the model, called by the refiner and by serving.
Nothing here knows a policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import Field

from burnish.data.errors import DataError
from burnish.data.images import resize
from burnish.data.masks import blend_reach
from burnish.data.paste import paste_crop
from burnish.data.records import Box, Example
from burnish.data.regions import Region, join_regions, region_of
from burnish.policies.focus import FocusConfig, focus_box, focus_view


class RefinerConfig(FocusConfig):
    """How an image of any size meets a model of one size, and how the result is blended in."""

    dilate_size: int = Field(
        default=7, description="side of the square that grows the mask before blending, pixels", ge=1
    )
    blur_size: int = Field(default=11, description="side of the Gaussian that softens the mask, pixels, odd", ge=1)


@dataclass(frozen=True, eq=False)
class Piece:
    """One region on its way through the policy.

    Args:
        region: where to edit.
        crop: what is cut out round it, a box of the image.
        view: the crop as the model sees it.
    """

    region: Region
    crop: Box
    view: Example


def least_margin(config: RefinerConfig) -> int:
    """Source pixels round a region within which paste-back comes to nothing: a crop has at least these."""
    return blend_reach(config.dilate_size, config.blur_size) + 1


class Focus:
    """Cuts regions out of a picture and pastes them back.

    Args:
        config: crop, sizes and blending.
    """

    def __init__(self, config: RefinerConfig) -> None:
        self.config = config

    def cut_out(self, example: Example, regions: Sequence[Region] = ()) -> tuple[Piece, ...]:
        """What the model is to see, one piece a region; see `Refiner.refine`."""
        if example.image is None:
            raise DataError(f"{example.id!r} has no image to refine")
        height, width = example.image.shape[1:]
        if not regions:
            mask = np.ones((1, height, width), np.float32) if example.mask is None else example.mask
            regions = (region_of(mask),)
        pieces = []
        reach = blend_reach(self.config.dilate_size, self.config.blur_size)
        for index, region in enumerate(join_regions(regions, reach=reach)):
            least = least_margin(self.config)
            crop = focus_box(region.box, self.config, height=height, width=width, min_margin=least)
            keyed = replace(example, id=f"{example.id}#{index}" if index else example.id, target=None)
            pieces.append(Piece(region, crop, focus_view(keyed, self.config, box=crop, mask=region.within(crop))))
        return tuple(pieces)

    def paste(self, image: np.ndarray, pieces: Sequence[Piece], made: Sequence[np.ndarray]) -> np.ndarray:
        """The image [3,H,W] with what was generated for each piece blended in."""
        sizes = {"dilate_size": self.config.dilate_size, "blur_size": self.config.blur_size}
        for piece, generated in zip(pieces, made, strict=True):
            x1, y1, x2, y2 = piece.crop
            full = resize(generated, height=y2 - y1, width=x2 - x1)
            image = paste_crop(image, full, piece.region.within(piece.crop), box=piece.crop, **sizes)
        return image
