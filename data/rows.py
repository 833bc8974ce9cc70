"""Rows of a manifest: one JSON object a line, with paths relative to the manifest's folder.

Called by `manifest.py` and by `burnish data check`. All bad rows are reported at once. Fields of a row:

    id           text, unique
    image        path of the picture to refine
    mask or box  path of a mask (white = edit), or [x1, y1, x2, y2], half-open
    references   list of {"kind": ..., "path": ...}, at most 8, may be missing
    target       path of the wished result, may be missing
    instruction  text of at most 2000 characters
    split        train, dev or heldout; where it is missing, rows are dealt by a hash of their id
    meta         flat object of text and numbers, may be missing
    sha256       object path -> hex sha256, may be missing; verified where present
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from burnish.data.crops import check_box
from burnish.data.errors import DataError, Problem
from burnish.data.images import image_size, load_image, load_mask, sha256_file
from burnish.data.layout import SPLITS
from burnish.data.masks import mask_bbox
from burnish.data.records import MAX_REFERENCES, REFERENCE_KINDS, Box

FIELDS = ("id", "image", "mask", "box", "references", "target", "instruction", "split", "meta", "sha256")
MAX_INSTRUCTION = 2000
_HEX = re.compile("[0-9a-f]{64}")
Geometry = tuple[int, int, Box, tuple[tuple[int, int], ...]]


@dataclass(frozen=True)
class Row:
    """A checked row: files exist, sizes agree, checksums hold."""

    id: str
    instruction: str
    image: Path
    box: Box
    mask: Path | None
    references: tuple[tuple[str, Path], ...]
    target: Path | None
    split: str | None
    geometry: Geometry
    meta: dict[str, Any] = field(default_factory=dict)


class _RowReader:
    """Turns one parsed object into a `Row`, collecting what is wrong with it."""

    def __init__(self, number: int, raw: dict[str, Any], folder: Path, *, thorough: bool) -> None:
        self.problems: list[Problem] = []
        self._number = number
        self._raw = raw
        self._folder = folder
        self._thorough = thorough
        self._hashes = self._checksums()

    def problem(self, name: str, got: object, allowed: str) -> None:
        """Note one thing that is wrong."""
        self.problems.append(Problem(f"row {self._number}: {name}", repr(got)[:200], allowed))

    def text(self, name: str, limit: int) -> str:
        """A printable text field, or "" and a problem."""
        value = self._raw.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= limit or not value.isprintable():
            self.problem(name, value, f"printable text of 1 to {limit} characters")
            return ""
        return value

    def path(self, name: str, value: object) -> Path | None:
        """A path inside the folder whose checksum holds, or None and a problem."""
        if not isinstance(value, str) or not value:
            self.problem(name, value, "a path relative to the manifest's folder")
            return None
        if not value.isprintable() or any(len(part.encode()) > 255 for part in Path(value).parts):
            self.problem(name, value, "a printable path with parts of at most 255 bytes")
            return None
        path = (self._folder / value).resolve()
        if Path(value).is_absolute() or not path.is_relative_to(self._folder):
            self.problem(name, value, "a path inside the manifest's folder")
            return None
        wished = self._hashes.pop(value, None)
        if wished is not None and path.is_file() and sha256_file(path) != wished:
            self.problem(f"sha256.{value}", sha256_file(path), str(wished))
        return path

    def _checksums(self) -> dict[str, str]:
        given = self._raw.get("sha256") or {}
        if not isinstance(given, dict) or any(not _HEX.fullmatch(str(value)) for value in given.values()):
            self.problem("sha256", given, "an object of path -> 64 lower-case hex digits")
            return {}
        return dict(given)

    def size(self, name: str, path: Path | None, *, min_side: int = 16) -> tuple[int, int] | None:
        """(height, width) of a usable image, or None and a problem."""
        if path is None:
            return None
        try:
            if self._thorough:
                return load_image(path, min_side=min_side).shape[1:]
            return image_size(path, min_side=min_side)
        except DataError as error:
            self.problem(name, self._raw.get(name, path.name), f"a usable image ({error.message})")
            return None

    def region(self, size: tuple[int, int] | None) -> tuple[Box, Path | None] | None:
        """The box, and the mask file if there is one."""
        given = [name for name in ("mask", "box") if self._raw.get(name) is not None]
        if len(given) != 1:
            self.problem("mask or box", given, "exactly one of the two")
            return None
        if size is None:
            return None
        return self._box(size) if given == ["box"] else self._mask(size)

    def _box(self, size: tuple[int, int]) -> tuple[Box, None] | None:
        value = self._raw["box"]
        if not isinstance(value, list) or len(value) != 4 or any(type(n) is not int for n in value):
            self.problem("box", value, "four integers [x1, y1, x2, y2]")
            return None
        box: Box = (value[0], value[1], value[2], value[3])
        try:
            check_box(box, height=size[0], width=size[1])
        except DataError as error:
            self.problem("box", value, error.message.split("allowed ")[-1])
            return None
        return box, None

    def _mask(self, size: tuple[int, int]) -> tuple[Box, Path] | None:
        path = self.path("mask", self._raw["mask"])
        if path is None:
            return None
        try:
            mask = load_mask(path)
            if mask.shape[1:] != size:
                raise DataError(f"{mask.shape[2]}x{mask.shape[1]} px, the image has {size[1]}x{size[0]}")
            return mask_bbox(mask), path
        except DataError as error:
            self.problem("mask", self._raw["mask"], f"a mask of the image's size with a marked pixel ({error.message})")
            return None

    def references(self) -> list[tuple[str, Path, tuple[int, int]]]:
        """(kind, file, size) of every usable reference."""
        given = self._raw.get("references") or []
        if not isinstance(given, list) or len(given) > MAX_REFERENCES:
            self.problem("references", given, f"a list of at most {MAX_REFERENCES}")
            return []
        found = []
        for place, entry in enumerate(given):
            name = f"references[{place}]"
            if not isinstance(entry, dict) or set(entry) != {"kind", "path"} or entry["kind"] not in REFERENCE_KINDS:
                self.problem(name, entry, f"kind ({', '.join(REFERENCE_KINDS)}) and path")
                continue
            path = self.path(name, entry["path"])
            size = self.size(name, path, min_side=1)
            if path is not None and size is not None:
                found.append((entry["kind"], path, size))
        return found

    def extras(self) -> tuple[str | None, dict[str, Any]]:
        """Split and meta; unknown fields are problems."""
        for name in sorted(set(self._raw) - set(FIELDS)):
            self.problem(name, self._raw[name], f"only the fields {', '.join(FIELDS)}")
        split, meta = self._raw.get("split"), self._raw.get("meta") or {}
        if split is not None and split not in SPLITS:
            self.problem("split", split, ", ".join(SPLITS))
        if not isinstance(meta, dict) or not all(map(_plain, meta.values())):
            self.problem("meta", meta, "a flat object of text and numbers")
        return split, meta

    def row(self) -> Row | None:
        """The checked row, or None where there are problems."""
        identity, instruction = self.text("id", 200), self.text("instruction", MAX_INSTRUCTION)
        image = self.path("image", self._raw.get("image"))
        size = self.size("image", image)
        region = self.region(size)
        references = self.references()
        target = self.path("target", self._raw["target"]) if self._raw.get("target") is not None else None
        wished = self.size("target", target)
        if target is not None and None not in (size, wished) and size != wished:
            self.problem("target", self._raw["target"], "an image of the same size as image")
        split, meta = self.extras()
        for name in sorted(self._hashes):
            self.problem(f"sha256.{name}", self._hashes[name], "paths that the row names, written the same way")
        if self.problems or image is None or size is None or region is None:
            return None
        geometry = (*size, region[0], tuple(entry[2] for entry in references))
        pairs = tuple((kind, path) for kind, path, _ in references)
        return Row(identity, instruction, image, *region, pairs, target, split, geometry, meta)


def _plain(value: object) -> bool:
    return type(value) in (str, int) or (type(value) is float and math.isfinite(value))


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


@dataclass(frozen=True)
class Scan:
    """A manifest as it was found: the good rows, and one problem for each thing that is wrong.

    Args:
        rows: usable rows in file order.
        problems: their fields start with "row N".
        num_rows: rows in the file, good and bad.
    """

    rows: tuple[Row, ...]
    problems: tuple[Problem, ...]
    num_rows: int

    @property
    def num_bad(self) -> int:
        """Rows that cannot be used."""
        return self.num_rows - len(self.rows)


def read_manifest(path: Path, *, thorough: bool = True, on_bad_row: str = "stop") -> tuple[Row, ...]:
    """The usable rows of a manifest.

    Args:
        path, thorough: see `scan_manifest`; with `skip` every file is decoded, so that all processes skip the same.
        on_bad_row: "stop" refuses a manifest with bad rows; "skip" leaves them out.

    Raises:
        DataError: no such file, not UTF-8, no usable rows, or (stop) bad rows, with all their problems.
    """
    scan = scan_manifest(path, thorough=thorough or on_bad_row == "skip")
    if scan.problems and (on_bad_row == "stop" or not scan.rows):
        raise DataError(f"{path}: {scan.num_bad} of {scan.num_rows} rows cannot be used", list(scan.problems))
    if not scan.rows:
        raise DataError(f"{path}: holds no rows")
    return scan.rows


def scan_manifest(path: Path, *, thorough: bool = True) -> Scan:
    """Read and check every row of a manifest; bad rows are described, not raised.

    Args:
        path: the JSONL file; paths in it are relative to its folder and stay inside it.
        thorough: decode every image; False looks at headers (masks are always decoded).

    Raises:
        DataError: no such file, or not UTF-8.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    rows: list[Row] = []
    problems: list[Problem] = []
    seen: set[str] = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row, found = _read_row(number, line, path.parent.resolve(), thorough)
        problems += found
        if row is not None and row.id in seen:
            problems.append(Problem(f"row {number}: id", repr(row.id), "an id that no other row has"))
        elif row is not None:
            seen.add(row.id)
            rows.append(row)
    return Scan(tuple(rows), tuple(problems), sum(bool(line.strip()) for line in lines))


def _read_row(number: int, line: str, folder: Path, thorough: bool) -> tuple[Row | None, list[Problem]]:
    try:
        raw = json.loads(line, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        return None, [Problem(f"row {number}", line[:80], "a JSON object", str(error))]
    if not isinstance(raw, dict):
        return None, [Problem(f"row {number}", line[:80], "a JSON object")]
    reader = _RowReader(number, raw, folder, thorough=thorough)
    return reader.row(), reader.problems
