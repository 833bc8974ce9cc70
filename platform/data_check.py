"""What `burnish data check` finds in a data set of any layout, and how it says it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.data.errors import ConfigError, DataError, Problem
from burnish.data.images import image_size
from burnish.data.layout import RENAMABLE, RENAMED
from burnish.data.photos import SUFFIXES, scan_folder
from burnish.data.readers import READERS, guess_layout, scan_rows
from burnish.platform.console import table
from burnish.platform.lookup import did_you_mean

LAYOUTS = ("auto", *READERS, "folder")


@dataclass(frozen=True)
class Checked:
    """A data set that was read whole.

    Args:
        path, layout: what was read, and as what.
        num_rows, num_bad: rows, or images of a folder; and those that cannot be used.
        problems: one for each thing that is wrong.
        splits: split -> usable rows.
        shapes: ((height, width), number of references) -> usable rows.
        without: "image" and "target" -> usable rows that have none.
        unused: names in the data set that no field takes.
    """

    path: Path
    layout: str
    num_rows: int
    num_bad: int
    problems: tuple[Problem, ...]
    splits: Mapping[str, int]
    shapes: Mapping[tuple[tuple[int, int], int], int]
    without: Mapping[str, int]
    unused: tuple[str, ...]

    def refuse(self) -> None:
        """Raise a DataError with all problems, if there are any."""
        if self.problems:
            raise DataError(f"{self.path}: {self.num_bad} of {self.num_rows} rows cannot be used", list(self.problems))

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "layout": self.layout,
            "rows": self.num_rows,
            "bad": self.num_bad,
            "splits": dict(self.splits),
            "without": dict(self.without),
            "unused": list(self.unused),
            "problems": [vars(problem) for problem in self.problems],
        }

    def text(self) -> str:
        """A table of shapes, the splits, what is left out and why, and a last line with the count."""
        rows = [[f"{h} x {w}", str(count), str(number)] for ((h, w), count), number in sorted(self.shapes.items())]
        lines = [f"layout: {self.layout}", table(["size", "references", "rows"], rows)]
        lines.append(", ".join(f"{name}: {number}" for name, number in sorted(self.splits.items())))
        lines += [f"without {name}: {number} rows" for name, number in self.without.items() if number]
        if self.unused:
            lines.append(f"not used: {', '.join(self.unused)}")
        lines += [f"left out: {p.field}: got {p.got}, allowed {p.allowed}" for p in self.problems]
        return "\n".join([*lines, f"{self.num_rows - self.num_bad} of {self.num_rows} rows can be used"])


def check_data(path: Path, *, layout: str = "auto", fields: Mapping[str, str] | None = None) -> Checked:
    """Read every row and decode every picture.

    Args:
        path: of the data set.
        layout: one of LAYOUTS; auto looks at the path, and takes a folder of loose images for what it is.
        fields: burnish's field -> the data set's name for it.

    Raises:
        DataError: the data set as a whole cannot be read.
    """
    chosen = _guess(path) if layout == "auto" else layout
    if chosen == "folder":
        return _check_folder(path)
    if fields and chosen not in RENAMED:
        raise ConfigError(
            "option refused", [Problem("--field", str(dict(fields)), f"a layout of {', '.join(RENAMED)}")]
        )
    scan = scan_rows(chosen, path, fields=fields)
    return Checked(
        path,
        chosen,
        scan.num_rows,
        scan.num_bad,
        scan.problems,
        splits=Counter(row.split or "dealt by id" for row in scan.rows),
        shapes=Counter((row.geometry[:2], len(row.references)) for row in scan.rows),
        without={name: sum(getattr(row, name) is None for row in scan.rows) for name in ("image", "target")},
        unused=scan.unused,
    )


def _guess(path: Path) -> str:
    layout = guess_layout(path)
    loose = layout == "cases" and any(file.suffix.lower() in SUFFIXES for file in path.iterdir())
    return "folder" if loose else layout


def _check_folder(path: Path) -> Checked:
    good, problems = scan_folder(path)
    return Checked(
        path,
        "folder",
        len(good) + len(problems),
        len(problems),
        tuple(problems),
        splits={"dealt by sha256": len(good)},
        shapes=Counter((image_size(file), 0) for file in good),
        without={},
        unused=(),
    )


def parse_fields(given: Sequence[str]) -> dict[str, str]:
    """{"image": "input"} of ["image=input"].

    Raises:
        ConfigError: a text of another shape, or a field that no row has; all at once.
    """
    pairs = [text.partition("=") for text in given]
    problems = [
        Problem("--field", text, f"FIELD=NAME with one of {', '.join(RENAMABLE)}", did_you_mean(field, RENAMABLE))
        for text, (field, _, name) in zip(given, pairs, strict=True)
        if field not in RENAMABLE or not name
    ]
    if problems:
        raise ConfigError("option refused", problems)
    return {field: name for field, _, name in pairs}
