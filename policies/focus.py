"""Focus crops of a whole picture: what is cut out for the model, and how what it made is put back.

The two halves of Focus-and-Refine (RefineAnything section 3.2) round the model, called by the refiner and by serving.
Nothing here knows a policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from burnish.data.crops import cut, focus_crop, model_size
from burnish.data.errors import DataError
from burnish.data.images import resize
from burnish.data.masks import blend_reach
from burnish.data.paste import paste_crop
from burnish.data.records import Box, Example, Reference
from burnish.data.regions import Region, join_regions, region_of


class RefinerConfig(BaseModel):
    """How an image of any size meets a model of one size."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    margin: float = Field(
        default=0.5, description="context round the edit box, in the frame below", ge=0.0, allow_inf_nan=False
    )
    margin_frame: Literal["box", "pixels", "area1024"] = Field(
        default="box",
        description="what margin counts: box sides, source pixels, or pixels of an image scaled to 1024^2 pixels",
    )
    area: int = Field(default=576, description="pixels of the crop as the model sees it", ge=16)
    multiple: int = Field(default=4, description="sides that the model sees are multiples of this", ge=1)
    reference_area: int = Field(default=144, description="pixels of a reference as the model sees it", ge=16)
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
            crop = self._crop(region.box, height, width)
            keyed = replace(example, id=f"{example.id}#{index}") if index else example
            pieces.append(Piece(region, crop, self._model_view(keyed, region.within(crop), crop)))
        return tuple(pieces)

    def paste(self, image: np.ndarray, pieces: Sequence[Piece], made: Sequence[np.ndarray]) -> np.ndarray:
        """The image [3,H,W] with what was generated for each piece blended in."""
        sizes = {"dilate_size": self.config.dilate_size, "blur_size": self.config.blur_size}
        for piece, generated in zip(pieces, made, strict=True):
            x1, y1, x2, y2 = piece.crop
            full = resize(generated, height=y2 - y1, width=x2 - x1)
            image = paste_crop(image, full, piece.region.within(piece.crop), box=piece.crop, **sizes)
        return image

    def _crop(self, box: Box, height: int, width: int) -> Box:
        frame, margin = self.config.margin_frame, self.config.margin
        if frame == "box":
            margin, frame = margin * max(box[2] - box[0], box[3] - box[1]), "pixels"
        reach = blend_reach(self.config.dilate_size, self.config.blur_size)
        return focus_crop(
            box, height=height, width=width, margin=round(margin), margin_frame=frame, min_margin=reach + 1
        )

    def _model_view(self, example: Example, mask: np.ndarray, box: Box) -> Example:
        """The crop at the model's size; mask: [1,h,w] of the crop."""
        assert example.image is not None
        config = self.config

        def fitted(image: np.ndarray, area: int, method: str) -> np.ndarray:
            size = model_size(height=image.shape[1], width=image.shape[2], area=area, multiple=config.multiple)
            same = size == image.shape[1:]
            return image if same else resize(image, height=size[0], width=size[1], method=method)

        return replace(
            example,
            image=fitted(cut(example.image, box), config.area, "bicubic"),
            mask=(fitted(mask, config.area, "area") > 0).astype(np.float32),
            references=tuple(
                Reference(r.kind, fitted(r.image, config.reference_area, "bicubic")) for r in example.references
            ),
            target=None,
        )
