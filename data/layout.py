"""What examples look like: the data configuration, and the geometry that a block of examples shares.

Every source reads this file. A block is `block` consecutive indices; geometry (box, kinds of references) is keyed by
the block and content by the index, so that any part of a block can form one batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from burnish.data.degrade import DEGRADATIONS
from burnish.data.errors import DataError
from burnish.data.records import MAX_REFERENCES, Box
from burnish.data.seeding import generator

SPLITS = ("train", "dev", "heldout")
DRAWN = ("text", "logo", "texture")
TEXT_CHANGE = "text_change"
RENAMED = ("parquet", "webdataset", "cases")
ON_DISK = ("folder", "manifest", "dyref", *RENAMED)
RENAMABLE = ("id", "image", "mask", "box", "references", "target", "instruction", "split", "meta")
_LATER_KINDS = ("style", "lighting", "background", "subject")


class SourceConfig(BaseModel):
    """One source of examples and how often it is used."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal[
        "text", "logo", "texture", "photo", "folder", "manifest", "parquet", "webdataset", "dyref", "cases"
    ] = Field(
        description="text, logo, texture: drawn in code; photo: crops of bundled photographs; folder: crops of your "
        "own images; manifest: rows of a JSONL file; parquet: Parquet files, or what `datasets` saved to disk; "
        "webdataset: tar shards; dyref: DyRef's list of records; cases: folders of cases, as RefineEval"
    )
    weight: float = Field(default=1.0, description="share of the blocks, relative to the other sources", gt=0, le=1e6)
    path: str | None = Field(
        default=None,
        description="file or folder of the kinds that are read from disk",
        json_schema_extra={"run_option": True},
    )
    fields: dict[str, str] = Field(
        default={},
        description="burnish's name of a field -> the data set's, for example {image: input, target: edited}; parquet, "
        "webdataset and cases only",
    )

    @model_validator(mode="after")
    def _path_fits_kind(self) -> SourceConfig:
        if (self.path is not None) != (self.kind in ON_DISK):
            allowed = f"a path for {', '.join(ON_DISK)}, nothing for the others"
            raise ValueError(f"path: got {self.path!r}, allowed {allowed}")
        if self.fields and self.kind not in RENAMED:
            raise ValueError(f"fields: got {self.fields}, allowed nothing but for {', '.join(RENAMED)}")
        unknown = sorted(set(self.fields) - set(RENAMABLE))
        if unknown:
            raise ValueError(f"fields: got {', '.join(unknown)}, allowed {', '.join(RENAMABLE)}")
        return self


class DataConfig(BaseModel):
    """Which examples a run trains and evaluates on. Independent of the run's seed: every seed sees the same data."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    sources: tuple[SourceConfig, ...] = Field(
        default=tuple(SourceConfig(kind=kind) for kind in (*DRAWN, "photo")),
        description="mixed by weight",
        min_length=1,
    )
    image_size: int = Field(default=24, description="side of the image in pixels, a multiple of patch", ge=16, le=1024)
    patch: int = Field(default=4, description="side of the grid that boxes sit on, in pixels", ge=1, le=64)
    box_size: int = Field(
        default=12, description="side of the region to restore, in pixels, a multiple of patch", ge=8, le=512
    )
    box: Literal["fixed", "free"] = Field(
        default="fixed",
        description="fixed: the box sits in the middle, rounded down to the grid; free: at a keyed grid place",
    )
    crop: Literal["frame", "focus"] = Field(
        default="frame",
        description="what the model is shown: the whole frame (pretrained families: at image_size^2 pixels), or the "
        "crop round the region that the refiner shows (`refiner`), in fine-tuning, GRPO and evaluation alike",
    )
    masks: Literal["box", "scribble"] = Field(
        default="box",
        description="what is damaged and to be restored in drawn sources, photo and folder: the box, or strokes over "
        "the object in it",
    )
    degradations: tuple[str, ...] = Field(
        default=(*sorted(DEGRADATIONS), TEXT_CHANGE),
        description="defects to draw from, evenly; text_change applies to drawn text only",
        min_length=1,
    )
    reference_weights: tuple[float, ...] = Field(
        default=(0.0, 1.0),
        description="entry n is the weight of n references a block",
        min_length=1,
        max_length=MAX_REFERENCES + 1,
    )
    reference_mode: Literal["copy", "varied"] = Field(
        default="varied", description="copy: the first reference is the clean crop; varied: often another view of it"
    )
    text_length: tuple[int, int] = Field(default=(1, 2), description="least and most characters of drawn text")
    min_defect: float = Field(
        default=0.002,
        description="least mean squared error of a defect inside the box; weaker ones are drawn again",
        gt=0,
        le=0.05,
    )
    group_by_box: bool = Field(
        default=True,
        description="rows from disk share a block only where their boxes are equal; false suits policies whose "
        "reference ids do not depend on the box",
    )
    on_bad_row: Literal["stop", "skip"] = Field(
        default="stop", description="rows and images that cannot be used: refuse the run, or leave them out"
    )
    block: int = Field(default=16, description="consecutive indices that share one geometry", ge=1, le=4096)
    seed: int = Field(default=0, description="seed of the data, apart from the run's seed", ge=0, lt=2**63)

    @property
    def max_references(self) -> int:
        """Most references of an example: len(reference_weights) - 1."""
        return len(self.reference_weights) - 1

    @model_validator(mode="after")
    def _sizes_fit(self) -> DataConfig:
        for name in ("image_size", "box_size"):
            if getattr(self, name) % self.patch:
                raise ValueError(f"{name}: got {getattr(self, name)}, allowed multiples of patch ({self.patch})")
        if self.box_size > self.image_size:
            raise ValueError(f"box_size: got {self.box_size}, allowed at most image_size ({self.image_size})")
        return self

    @model_validator(mode="after")
    def _lists_make_sense(self) -> DataConfig:
        known = (*sorted(DEGRADATIONS), TEXT_CHANGE)
        unknown = [name for name in self.degradations if name not in known]
        if unknown:
            raise ValueError(f"degradations: got {unknown}, allowed {', '.join(known)}")
        if min(self.reference_weights) < 0 or not 0 < sum(self.reference_weights) < float("inf"):
            raise ValueError(f"reference_weights: got {self.reference_weights}, allowed >= 0 with a positive sum")
        low, high = self.text_length
        if not 1 <= low <= high <= self.box_size // 3:
            raise ValueError(f"text_length: got {self.text_length}, allowed 1 <= least <= most <= {self.box_size // 3}")
        if set(self.degradations) == {TEXT_CHANGE} and any(source.kind != "text" for source in self.sources):
            raise ValueError("degradations: got text_change alone, allowed with text sources only: name another one")
        built_in = [source.kind for source in self.sources if source.path is None]
        if len(set(built_in)) < len(built_in):
            raise ValueError(f"sources: got {built_in}, allowed each kind without a path once")
        return self


@dataclass(frozen=True)
class BlockGeometry:
    """What the examples of a block share: the box and the kinds of the references (all `box_size` squares)."""

    box: Box
    kinds: tuple[str, ...]


def check_split(split: str) -> None:
    """Raise DataError for an unknown split."""
    if split not in SPLITS:
        raise DataError(f"split: got {split!r}, allowed {', '.join(SPLITS)}")


def _box(config: DataConfig, place: tuple[float, float]) -> Box:
    cells = (config.image_size - config.box_size) // config.patch
    if config.box == "fixed":
        row = column = cells // 2
    else:
        row, column = (min(cells, int(share * (cells + 1))) for share in place)
    y, x = row * config.patch, column * config.patch
    return x, y, x + config.box_size, y + config.box_size


def block_geometry(config: DataConfig, *, name: str, split: str, index: int) -> BlockGeometry:
    """The geometry of the block that holds `index`, keyed by (data seed, source name, split, block)."""
    rng = generator(config.seed, "data-geometry", name, split, index // config.block)
    draws = rng.random(3)
    weights, total, count = config.reference_weights, 0.0, 0
    for number, weight in enumerate(weights):
        total += weight / sum(weights)
        if weight > 0:
            count = number
            if draws[0] < total:
                break
    later = [_LATER_KINDS[i] for i in rng.permutation(len(_LATER_KINDS))]
    kinds = ("detail", *later, *later)[:count]
    return BlockGeometry(_box(config, (float(draws[1]), float(draws[2]))), kinds)
