"""Pictures of the report: chosen examples before and after, kept as PNG beside a run and inlined into its page.

The training loop calls `choose` before an evaluation, `collect` after it, `save` into the run directory; the report
calls `load`. Nothing is scaled up here: the page does it, pixelated.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from burnish.data.errors import DataError
from burnish.data.images import load_image, resize, save_png, to_uint8
from burnish.data.masks import mask_bbox
from burnish.data.records import Box, Example
from burnish.rollouts.evaluation import EvalPart

INDEX = "pictures.json"
MAX_SIDE = 384


@dataclass(frozen=True, eq=False)
class Picture:
    """One example of the gallery.

    Args:
        example_id, source, caption: what it is; caption is the instruction.
        note: the defect, or what else a reader should know.
        box: the edit region.
        input: float32 [3,H,W] or None; target: float32 [3,H,W]; references: float32 [3,h,w] each.
        outputs: stage label -> output float32 [3,H,W] before paste-back, in order of the stages.
        errors: "input" and stage labels -> masked error.
    """

    example_id: str
    source: str
    caption: str
    note: str
    box: Box
    input: np.ndarray | None
    target: np.ndarray
    references: tuple[np.ndarray, ...] = ()
    outputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)


def choose(examples: Sequence[Example], count: int) -> tuple[str, ...]:
    """Ids of `count` examples, sources in turn, each source's in order: the same for every run, never by result."""
    by_source: dict[str, list[str]] = {}
    for example in examples:
        by_source.setdefault(str(example.meta.get("source", "")), []).append(example.id)
    depth = max((len(ids) for ids in by_source.values()), default=0)
    turns = [ids[row] for row in range(depth) for ids in by_source.values() if row < len(ids)]
    return tuple(turns[:count])


def collect(examples: Sequence[Example], parts: Mapping[str, EvalPart]) -> list[Picture]:
    """Pictures of the examples whose output every part kept.

    Args:
        examples: with targets.
        parts: stage label -> an evaluation of the same examples with `keep`, in order of the stages.
    """
    pictures = []
    for example in examples:
        if not parts or example.target is None or any(example.id not in part.images for part in parts.values()):
            continue
        height, width = example.target.shape[1:]
        rows = {label: part.ids.index(example.id) for label, part in parts.items()}
        errors = {label: float(part.values["masked_mse"][rows[label]]) for label, part in parts.items()}
        label, part = next(iter(parts.items()))
        pictures.append(
            Picture(
                example_id=example.id,
                source=str(example.meta.get("source", "")),
                caption=example.instruction,
                note=str(example.meta.get("degradation", "")),
                box=(0, 0, width, height) if example.mask is None else mask_bbox(example.mask),
                input=example.image,
                target=example.target,
                references=tuple(r.image for r in example.references),
                outputs={label: part.images[example.id] for label, part in parts.items()},
                errors={"input": float(part.values["input_masked_mse"][rows[label]]), **errors},
            )
        )
    return pictures


def _files(picture: Picture, number: int) -> dict[str, np.ndarray]:
    named = {"target": picture.target, **{f"out-{i}": im for i, im in enumerate(picture.outputs.values())}}
    named |= {f"ref-{i}": image for i, image in enumerate(picture.references)}
    if picture.input is not None:
        named["input"] = picture.input
    return {f"{number:02d}-{name}.png": image for name, image in named.items()}


def save(folder: Path, pictures: Sequence[Picture]) -> None:
    """Write the pictures as 8-bit PNG with an index; the index comes last, so a half-written folder is empty."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for number, picture in enumerate(pictures):
        for name, image in _files(picture, number).items():
            save_png(folder / name, image)
        entries.append(
            {
                "example_id": picture.example_id,
                "source": picture.source,
                "caption": picture.caption,
                "note": picture.note,
                "box": list(picture.box),
                "input": picture.input is not None,
                "references": len(picture.references),
                "outputs": list(picture.outputs),
                "errors": {k: v if np.isfinite(v) else None for k, v in picture.errors.items()},
            }
        )
    aside = folder / f".{INDEX}"
    aside.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    aside.replace(folder / INDEX)


def load(folder: Path) -> list[Picture]:
    """The pictures of a run, none where there is no index.

    Raises:
        DataError: the index or a picture cannot be read.
    """
    if not (folder / INDEX).is_file():
        return []
    try:
        entries = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        return [_read(folder, number, entry) for number, entry in enumerate(entries)]
    except DataError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder / INDEX}: not an index of pictures ({error})") from error


def _read(folder: Path, number: int, entry: Mapping[str, Any]) -> Picture:
    def image(name: str) -> np.ndarray:
        return load_image(folder / f"{number:02d}-{name}.png", min_side=1)

    x1, y1, x2, y2 = entry["box"]
    return Picture(
        example_id=entry["example_id"],
        source=entry["source"],
        caption=entry["caption"],
        note=entry["note"],
        box=(x1, y1, x2, y2),
        input=image("input") if entry["input"] else None,
        target=image("target"),
        references=tuple(image(f"ref-{i}") for i in range(entry["references"])),
        outputs={label: image(f"out-{i}") for i, label in enumerate(entry["outputs"])},
        errors={k: float("nan") if v is None else float(v) for k, v in entry["errors"].items()},
    )


def data_uri(image: np.ndarray) -> str:
    """float [3,H,W] in [0,1] as a PNG data URI; the longer side is at most MAX_SIDE pixels."""
    height, width = image.shape[1:]
    scale = MAX_SIDE / max(height, width)
    if scale < 1:
        size = {"height": max(1, round(height * scale)), "width": max(1, round(width * scale))}
        image = resize(image.astype(np.float32), **size, method="area")
    stream = BytesIO()
    Image.fromarray(to_uint8(image).transpose(1, 2, 0)).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
