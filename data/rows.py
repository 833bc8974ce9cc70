"""Rows of a data set: what a layout gives for each example, checked whole and turned into a `Row`.

Every layout (`readers.py`) gives entries with the fields below; here they are checked, all bad rows at once. Files are
names that the entry's own `find` looks up: paths below a folder, members of an archive, cells of a table.

    id           text, unique
    image        the picture to refine; without one the target is generated from the references
    mask or box  a mask (white = edit), or [x1, y1, x2, y2], half-open; both missing where there is no image
    references   list of {"kind": ..., "path": ...}, at most 8, may be missing
    target       the wished result, may be missing where there is an image
    instruction  text of at most 2000 characters
    split        train, dev or heldout; where it is missing, rows are dealt by a hash of their id
    meta         flat object of text and numbers, may be missing
    sha256       object name -> hex sha256, may be missing; verified where present
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from burnish.data.crops import check_box
from burnish.data.entries import Entry
from burnish.data.errors import DataError, Problem
from burnish.data.images import Picture, image_size, load_image, load_mask, picture_name, sha256_picture
from burnish.data.layout import SPLITS
from burnish.data.masks import mask_bbox
from burnish.data.records import MAX_REFERENCES, REFERENCE_KINDS, Box

FIELDS = ("id", "image", "mask", "box", "references", "target", "instruction", "split", "meta", "sha256")
MAX_INSTRUCTION = 2000
_HEX = re.compile("[0-9a-f]{64}")
Geometry = tuple[int, int, Box | None, tuple[tuple[int, int], ...]]


@dataclass(frozen=True)
class Row:
    """A checked row: files exist, sizes agree, checksums hold."""

    id: str
    instruction: str
    image: Picture | None
    box: Box | None
    mask: Picture | None
    references: tuple[tuple[str, Picture], ...]
    target: Picture | None
    split: str | None
    geometry: Geometry
    meta: dict[str, Any] = field(default_factory=dict)


class _RowReader:
    """Turns one entry into a `Row`, collecting what is wrong with it."""

    def __init__(self, entry: Entry, raw: dict[str, Any], *, thorough: bool, needs: Collection[str]) -> None:
        self.problems: list[Problem] = []
        self._label = entry.label
        self._raw = raw
        self._find = entry.find
        self._thorough = thorough
        self._needs = needs
        self._hashes = self._checksums()

    def problem(self, name: str, got: object, allowed: str) -> None:
        """Note one thing that is wrong."""
        self.problems.append(Problem(f"{self._label}: {name}", repr(got)[:200], allowed))

    def text(self, name: str, limit: int) -> str:
        """A printable text field, or "" and a problem."""
        value = self._raw.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= limit or not value.isprintable():
            self.problem(name, value, f"printable text of 1 to {limit} characters")
            return ""
        return value

    def file(self, name: str, value: object) -> Picture | None:
        """A file whose checksum holds, or None and a problem."""
        if not isinstance(value, str) or not value:
            self.problem(name, value, "the name of a picture")
            return None
        try:
            found = self._find(value)
        except DataError as error:
            self.problem(name, value, error.message)
            return None
        wished = self._hashes.pop(value, None)
        if wished is not None and (not isinstance(found, Path) or found.is_file()):
            have = sha256_picture(found)
            if have != wished:
                self.problem(f"sha256.{value}", have, str(wished))
        return found

    def optional(self, name: str) -> Picture | None:
        """The file of a field that may be missing."""
        given = self._raw.get(name)
        if given is None and name in self._needs:
            self.problem(name, given, "a picture: this run cannot do without")
        return None if given is None else self.file(name, given)

    def _checksums(self) -> dict[str, str]:
        given = self._raw.get("sha256") or {}
        if not isinstance(given, dict) or any(not _HEX.fullmatch(str(value)) for value in given.values()):
            self.problem("sha256", given, "an object of path -> 64 lower-case hex digits")
            return {}
        return dict(given)

    def size(self, name: str, picture: Picture | None, *, min_side: int = 16) -> tuple[int, int] | None:
        """(height, width) of a usable image, or None and a problem."""
        if picture is None:
            return None
        try:
            if self._thorough:
                return load_image(picture, min_side=min_side).shape[1:]
            return image_size(picture, min_side=min_side)
        except DataError as error:
            got = self._raw.get(name, picture_name(picture))
            self.problem(name, got, f"a usable image ({error.message})")
            return None

    def region(self, size: tuple[int, int] | None) -> tuple[Box | None, Picture | None] | None:
        """The box, and the mask file if there is one; neither where the whole frame is generated."""
        given = [name for name in ("mask", "box") if self._raw.get(name) is not None]
        if self._raw.get("image") is None:
            if given:
                self.problem(given[0], self._raw[given[0]], "nothing: without an image the whole frame is generated")
            return None, None
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

    def _mask(self, size: tuple[int, int]) -> tuple[Box, Picture] | None:
        path = self.file("mask", self._raw["mask"])
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

    def references(self) -> list[tuple[str, Picture, tuple[int, int]]]:
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
            path = self.file(name, entry["path"])
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
        image, target = self.optional("image"), self.optional("target")
        if self._raw.get("image") is None and self._raw.get("target") is None:
            self.problem("image or target", None, "one of the two, or both: they say the size")
        size, wished = self.size("image", image), self.size("target", target)
        if None not in (size, wished) and size != wished:
            self.problem("target", self._raw["target"], "an image of the same size as image")
        region = self.region(size)
        references = self.references()
        split, meta = self.extras()
        for name in sorted(self._hashes):
            self.problem(f"sha256.{name}", self._hashes[name], "names of files that the row uses, written the same way")
        frame = size or wished
        if self.problems or frame is None or region is None:
            return None
        geometry = (*frame, region[0], tuple(entry[2] for entry in references))
        pairs = tuple((kind, path) for kind, path, _ in references)
        return Row(identity, instruction, image, *region, pairs, target, split, geometry, meta)


def _plain(value: object) -> bool:
    return type(value) in (str, int) or (type(value) is float and math.isfinite(value))


@dataclass(frozen=True)
class Scan:
    """A data set as it was found: the good rows, and one problem for each thing that is wrong.

    Args:
        rows: usable rows in the data set's order.
        problems: their fields start with the entry's label.
        num_rows: rows in the data set, good and bad.
        unused: names that no field takes, sorted.
    """

    rows: tuple[Row, ...]
    problems: tuple[Problem, ...]
    num_rows: int
    unused: tuple[str, ...] = ()

    @property
    def num_bad(self) -> int:
        """Rows that cannot be used."""
        return self.num_rows - len(self.rows)


def check_entries(entries: Iterable[Entry], *, thorough: bool = True, needs: Collection[str] = ()) -> Scan:
    """Check every entry; bad rows are described, not raised.

    Args:
        entries: in the data set's order.
        thorough: decode every image; False looks at headers (masks are always decoded).
        needs: of "image" and "target", what no row may lack.
    """
    rows: list[Row] = []
    problems: list[Problem] = []
    unused: set[str] = set()
    seen: set[str] = set()
    count = 0
    for entry in entries:
        count += 1
        unused.update(entry.unused)
        if isinstance(entry.raw, Problem):
            problems.append(entry.raw)
            continue
        reader = _RowReader(entry, entry.raw, thorough=thorough, needs=needs)
        row = reader.row()
        problems += reader.problems
        if row is not None and row.id in seen:
            problems.append(Problem(f"{entry.label}: id", repr(row.id), "an id that no other row has"))
        elif row is not None:
            seen.add(row.id)
            rows.append(row)
    return Scan(tuple(rows), tuple(problems), count, tuple(sorted(unused)))
