"""The focused view: what a model sees of an example (Focus-and-Refine, RefineAnything section 3.2).

The refiner crops an image of any size this way, and with `data.crop: focus` so do fine-tuning, GRPO and evaluation:
one function, so that a model is trained on what it is later shown.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from burnish.data.crops import cut, focus_crop, model_size
from burnish.data.images import resize
from burnish.data.masks import mask_bbox
from burnish.data.records import Box, Example, Reference
from burnish.data.sources import Source

_PIXEL_META = ("box", "text", "font")
"""What `meta` says in the frame's pixels; drawn text that was resized is no longer read by its font."""


class FocusConfig(BaseModel):
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


def focus_box(box: Box, config: FocusConfig, *, height: int, width: int, min_margin: int = 0) -> Box:
    """The crop round a region's box, inside an image of height x width.

    Args:
        box: where to edit.
        config: margin and its frame.
        height, width: of the image, pixels.
        min_margin: least margin in source pixels.
    """
    frame, margin = config.margin_frame, config.margin
    if frame == "box":
        margin, frame = margin * max(box[2] - box[0], box[3] - box[1]), "pixels"
    return focus_crop(box, height=height, width=width, margin=round(margin), margin_frame=frame, min_margin=min_margin)


def focus_view(example: Example, config: FocusConfig, *, box: Box, mask: np.ndarray | None) -> Example:
    """The example cropped to a box and resized to the model's sizes; where a size already fits, bit for bit the crop.

    Args:
        example: image and target of one size, references of any size.
        config: the model's sizes.
        box: see `focus_box`.
        mask: [1,h,w] of the box, > 0 = edit.
    """

    def fitted(crop: np.ndarray, method: str) -> np.ndarray:
        return _fitted(crop, config.area, config.multiple, method)

    def cropped(image: np.ndarray | None) -> np.ndarray | None:
        return None if image is None else fitted(cut(image, box), "bicubic")

    references = (
        Reference(r.kind, _fitted(r.image, config.reference_area, config.multiple, "bicubic"))
        for r in example.references
    )
    return replace(
        example,
        image=cropped(example.image),
        mask=None if mask is None else (fitted(mask, "area") > 0).astype(np.float32),
        references=tuple(references),
        target=cropped(example.target),
    )


def focused(example: Example, config: FocusConfig, *, box: Box | None = None, min_margin: int = 0) -> Example:
    """The focused view of an example and its target, `meta` in the view's pixels; one without a mask is taken whole.

    Args:
        example: a whole frame.
        config: the model's sizes, and the crop where `box` is None.
        box: the crop that the refiner chose.
        min_margin: see `focus_box`.
    """
    known = next((a for a in (example.mask, example.image, example.target) if a is not None), None)
    if known is None:
        return example
    height, width = known.shape[1:]
    mask = example.mask
    if box is None:
        whole = (0, 0, width, height)
        box = (
            whole
            if mask is None
            else focus_box(mask_bbox(mask), config, height=height, width=width, min_margin=min_margin)
        )
    mask = None if mask is None else cut(mask, box)
    view = focus_view(example, config, box=box, mask=mask)
    meta = {name: value for name, value in example.meta.items() if name not in _PIXEL_META}
    if view.mask is not None:
        meta["box"] = ",".join(map(str, mask_bbox(view.mask)))
    return replace(view, meta=meta)


class FocusedSource:
    """A source whose examples are focused views: fine-tuning, GRPO and evaluation see what the refiner shows.

    Args:
        source: gives whole frames.
        config: the recipe's crop and sizes.
        min_margin: of the refiner, source pixels (`pieces.least_margin`).
        whole: crop nothing: only sizes are fitted, and what fits stays as it is.
    """

    def __init__(self, source: Source, config: FocusConfig, *, min_margin: int = 0, whole: bool = False) -> None:
        self.name = source.name
        self._source = source
        self._config, self._min_margin, self._whole = config, min_margin, whole

    def count(self, split: str) -> int | None:
        """See `Source.count`."""
        return self._source.count(split)

    def repeats(self, split: str) -> Container[int]:
        """See `Source.repeats`."""
        return self._source.repeats(split)

    def example(self, split: str, index: int) -> Example:
        """Example number `index`, focused."""
        example = self._source.example(split, index)
        if not self._whole:
            return focused(example, self._config, min_margin=self._min_margin)
        return example if _fits(example, self._config) else focused(example, self._config, box=_frame(example))


def _frame(example: Example) -> Box | None:
    """All of it; None where no picture says the size."""
    known = next((a for a in (example.image, example.target) if a is not None), None)
    return None if known is None else (0, 0, known.shape[2], known.shape[1])


def _fits(example: Example, config: FocusConfig) -> bool:
    """True if every picture has the size that the model sees already."""
    frames = [(a, config.area) for a in (example.image, example.target) if a is not None]
    pictures = [*frames, *((r.image, config.reference_area) for r in example.references)]
    return all(_size(image, area, config.multiple) == image.shape[1:] for image, area in pictures)


def _size(image: np.ndarray, area: int, multiple: int) -> tuple[int, int]:
    return model_size(height=image.shape[1], width=image.shape[2], area=area, multiple=multiple)


def _fitted(image: np.ndarray, area: int, multiple: int, method: str) -> np.ndarray:
    size = _size(image, area, multiple)
    return image if size == image.shape[1:] else resize(image, height=size[0], width=size[1], method=method)
