"""A data set of quadruples on disk, made from a folder of photographs. `burnish data make` calls it.

    OUT/rows.jsonl      a manifest that `burnish train` reads
    OUT/pictures/       NUMBER-image.png, -mask.png, -target.png, -reference.png
    OUT/preview.png     a sheet of the first rows, to be looked at

The manifest is written last, so a folder without one is not a data set.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from burnish.data.errors import DataError
from burnish.data.images import save_png, sha256_file
from burnish.data.photos import Scene, deal, scan_folder
from burnish.data.preview import preview_sheet
from burnish.data.quadruples import MakeConfig, Quadruple, has_detail, make_quadruple

MANIFEST, PICTURES, PREVIEW = "rows.jsonl", "pictures", "preview.png"
PREVIEW_ROWS = 10


@dataclass(frozen=True)
class Made:
    """What was made.

    Args:
        rows: in the manifest.
        splits, degradations: name -> rows.
        flat: photographs without detail; nothing was made of them.
        skipped: files that cannot be used.
    """

    rows: int
    splits: Mapping[str, int]
    degradations: Mapping[str, int]
    flat: tuple[str, ...]
    skipped: int


def make_data(
    images: Path,
    out: Path,
    config: MakeConfig,
    *,
    skip_bad: bool = False,
    advance: Callable[[int], None] = lambda steps: None,
) -> Made:
    """Make quadruples of the photographs below a folder.

    Args:
        images: PNG, JPEG and WebP files, found recursively; equal files count once, and are dealt to the splits by
            their sha256, so that no photograph is in two.
        out: must not exist, or be empty.
        config: how many, and what they are like.
        skip_bad: leave files out that cannot be used, instead of refusing the folder.
        advance: told of every row made.

    Raises:
        DataError: files that cannot be used (all at once), fewer than three photographs with detail, or `out` holds
            something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: got a folder that holds something, allowed an empty one or none")
    files, flat, skipped = _photographs(images, config, skip_bad=skip_bad)
    turns = _turns(files, config.count)
    (out / PICTURES).mkdir(parents=True)
    rows, shown = [], []
    for number, (split, scene) in turns:
        made = make_quadruple(scene, number, config)
        if made is None:
            continue
        rows.append(_write(out, number, made, scene=scene, split=split))
        shown += [made] if len(shown) < PREVIEW_ROWS else []
        advance(1)
    preview_sheet(shown, out / PREVIEW)
    aside = out / f".{MANIFEST}"
    aside.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    aside.replace(out / MANIFEST)
    degradations = Counter(row["meta"]["degradation"] for row in rows)
    return Made(len(rows), Counter(row["split"] for row in rows), degradations, flat, skipped)


def _photographs(folder: Path, config: MakeConfig, *, skip_bad: bool) -> tuple[dict[str, Path], tuple[str, ...], int]:
    """sha256 -> file of every photograph with detail, the names of those without, and how many cannot be used."""
    paths, problems = scan_folder(folder)
    if problems and not skip_bad:
        raise DataError(f"{len(problems)} of {len(paths) + len(problems)} images cannot be used", problems)
    files = {sha256_file(path): path for path in reversed(paths)}
    flat = {sha for sha, path in files.items() if not has_detail(path, size=config.size)}
    kept = {sha: path for sha, path in files.items() if sha not in flat}
    return kept, tuple(sorted(files[sha].name for sha in flat)), len(problems)


def _turns(files: Mapping[str, Path], count: int) -> Iterator[tuple[int, tuple[str, Scene]]]:
    """Number, split and photograph of each quadruple: all photographs in turn, the splits mixed from the start."""
    dealt = deal(list(files))
    columns = ([(split, Scene(sha, files[sha], sha[:16])) for sha in shas] for split, shas in dealt.items())
    order = [pair for pair in chain.from_iterable(zip_longest(*columns)) if pair is not None]
    return ((number, order[number % len(order)]) for number in range(count))


def _write(out: Path, number: int, made: Quadruple, *, scene: Scene, split: str) -> dict[str, Any]:
    """Write a quadruple's pictures; gives its row."""
    name = f"{number:06d}"
    pictures = {"image": made.image, "mask": made.mask, "target": made.target}
    if made.reference is not None:
        pictures["reference"] = made.reference
    for kind, image in pictures.items():
        save_png(out / PICTURES / f"{name}-{kind}.png", image)
    row: dict[str, Any] = {"id": name, "instruction": made.instruction, "split": split}
    row |= {kind: f"{PICTURES}/{name}-{kind}.png" for kind in ("image", "mask", "target")}
    if made.reference is not None:
        row["references"] = [{"kind": "detail", "path": f"{PICTURES}/{name}-reference.png"}]
    measured = {"degradation": made.degradation, "defect": round(made.error, 6), "cluster": scene.cluster}
    return row | {"meta": measured | {"region": ",".join(map(str, made.box))}}
