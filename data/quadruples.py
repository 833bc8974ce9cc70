"""Quadruples (input, reference, target, instruction) from plain photographs (OmniRefiner and RefineAnything data).

A window of a photograph is the target; a region with detail is chosen in it, a defect is drawn inside the region's
mask, and the reference is another view of what the region should hold. Every draw is keyed, so the same photographs and
seed give the same quadruples. Called by `making.py`. Legend: H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from burnish.data.crops import cut
from burnish.data.degrade import DEGRADATIONS, bounded, defect, degrade
from burnish.data.filters import contrast, perspective, snap
from burnish.data.images import from_uint8, resize
from burnish.data.photos import Scene, best_crop, scaled
from burnish.data.records import Box
from burnish.data.references import relight
from burnish.data.scribbles import Masks, region_mask
from burnish.data.seeding import generator

ATTEMPTS = 6
REGIONS = 12
MIN_CONTRAST = 0.01
"""Mean difference between neighbouring pixels below which a region counts as flat: nothing can be lost there."""


class MakeConfig(BaseModel):
    """What is made of each photograph."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    count: int = Field(default=64, description="quadruples in all", ge=3, le=1_000_000)
    size: int = Field(default=512, description="side of the frame in pixels", ge=32, le=2048, multiple_of=16)
    region: tuple[float, float] = Field(default=(0.2, 0.5), description="least and most side of the region's box")
    masks: Masks = Field(default="scribble", description="strokes over the object in the box, or the box")
    degradations: tuple[str, ...] = Field(
        default=tuple(sorted(DEGRADATIONS)), description="drawn from evenly", min_length=1
    )
    min_defect: float = Field(default=0.002, description="least mean squared error inside the mask", gt=0, le=0.05)
    max_defect: float = Field(default=0.1, description="most mean squared error inside the mask", gt=0, le=1)
    reference_size: int = Field(default=256, description="side of the reference in pixels", ge=16, multiple_of=16)
    without_reference: float = Field(default=1 / 3, description="share without a reference", ge=0, le=1)
    seed: int = Field(default=0, description="of every draw", ge=0, lt=2**63)

    @model_validator(mode="after")
    def _check(self) -> MakeConfig:
        unknown = [name for name in self.degradations if name not in DEGRADATIONS]
        if unknown:
            raise ValueError(f"degradations: got {unknown}, allowed {', '.join(sorted(DEGRADATIONS))}")
        low, high = self.region
        if not 0.05 <= low <= high <= 0.9:
            raise ValueError(f"region: got {self.region}, allowed 0.05 <= least <= most <= 0.9")
        if self.min_defect * 2 > self.max_defect:
            raise ValueError(
                f"max_defect: got {self.max_defect}, allowed at least twice min_defect ({self.min_defect})"
            )
        return self


@dataclass(frozen=True, eq=False)
class Quadruple:
    """One made example.

    Args:
        image, target: float32 [3,H,W] in [0,1]; equal bit for bit where the mask is 0.
        mask: float32 [1,H,W], 1 = damaged.
        reference: float32 [3,h,w], or None.
        box: the region's box; the mask lies inside it.
        instruction: what a user would ask for.
        degradation: name of the defect.
        error: mean squared error inside the mask.
    """

    image: np.ndarray
    target: np.ndarray
    mask: np.ndarray
    reference: np.ndarray | None
    box: Box
    instruction: str
    degradation: str
    error: float


def has_detail(path: Path, *, size: int) -> bool:
    """Whether some part of a photograph, shrunk to about `size` pixels, holds detail that can be lost."""
    whole = scaled(path, min(scaled(path, 1.0, size).shape[-2:]) / size, size)
    side = size // 4
    tops = [
        (y, x) for y in range(0, whole.shape[1] - side + 1, side) for x in range(0, whole.shape[2] - side + 1, side)
    ]
    return any(contrast(from_uint8(whole[:, y : y + side, x : x + side])) >= 2 * MIN_CONTRAST for y, x in tops)


def make_quadruple(scene: Scene, number: int, config: MakeConfig) -> Quadruple | None:
    """Quadruple `number`, from one photograph; None where none of ATTEMPTS windows has a region with detail.

    A defect that cannot be seen is drawn again, stronger; one that is too strong is faded until it is within bounds.
    """
    for attempt in range(ATTEMPTS):
        rng = generator(config.seed, "make-quadruple", scene.name, number, attempt)
        target = _window(scene, config, rng)
        box = _region(target, config, rng)
        if contrast(cut(target, box)) >= MIN_CONTRAST:
            return _damaged(target, box, config, rng)
    return None


def _window(scene: Scene, config: MakeConfig, rng: np.random.Generator) -> np.ndarray:
    """A window [3,size,size] of the photograph, which is shrunk so that the window shows a good part of it."""
    side = min(scaled(scene.path, 1.0, config.size).shape[-2:])
    factor = max(1.0, side / config.size / (1.0, 1.25, 1.6)[int(rng.integers(3))])
    middle = config.size // 4
    whole = (middle, middle, config.size - middle, config.size - middle)
    return snap(best_crop(scaled(scene.path, factor, config.size), config.size, whole, rng))


def _region(target: np.ndarray, config: MakeConfig, rng: np.random.Generator) -> Box:
    """The one of REGIONS random squares that holds most detail: the stand-in for a saliency model."""
    side = int(config.size * rng.uniform(*config.region))
    side = max(8, side)
    places = rng.integers(0, config.size - side + 1, size=(REGIONS, 2))
    boxes: list[Box] = [(int(x), int(y), int(x) + side, int(y) + side) for x, y in places]
    return max(boxes, key=lambda box: contrast(cut(target, box)))


def _damaged(target: np.ndarray, box: Box, config: MakeConfig, rng: np.random.Generator) -> Quadruple:
    clean = cut(target, box)
    mask = region_mask(config.masks, box, clean, rng, side=config.size)
    name = config.degradations[int(rng.integers(len(config.degradations)))]
    damaged = degrade(target, box, name, rng, floor=config.min_defect, mask=mask)
    image = bounded(target, damaged, mask, ceiling=config.max_defect)
    reference, words = None, "Refine the object in the masked region."
    if rng.random() >= config.without_reference:
        reference = _reference(clean, config.reference_size, rng)
        words = "Restore the masked region so that it matches the reference."
    return Quadruple(image, target, mask, reference, box, words, name, defect(target, image, mask))


def _reference(clean: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Another view of the clean region, float32 [3,side,side], so that copying pixels is not the answer."""
    return snap(resize(relight(perspective(clean, rng), rng), height=side, width=side))
