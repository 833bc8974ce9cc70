"""What a layout says of one example before anything is checked, and how its files are found.

Made by the layouts (`manifest.py`, `archives.py`, `tables.py`, `dyref.py`, `cases.py`), read by `rows.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.data.errors import DataError, Problem
from burnish.data.images import Picture

Find = Callable[[str], Picture]
"""The file of a name; raises a DataError whose message says what names are allowed."""


@dataclass(frozen=True)
class Entry:
    """What a layout says of one example, unchecked.

    Args:
        label: how problems call it, for example "row 12".
        raw: its fields, or the problem that kept it from being read.
        find: looks its files up.
        unused: names in the data set that no field takes.
    """

    label: str
    raw: dict[str, Any] | Problem
    find: Find
    unused: tuple[str, ...] = ()


class FolderFiles:
    """Finds files below a folder by their relative path.

    Args:
        folder: nothing outside it is opened, links included.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    def __call__(self, name: str) -> Path:
        """The file's path, whether or not it exists.

        Raises:
            DataError: the name is no plain path, or leaves the folder.
        """
        if not name.isprintable() or any(len(part.encode()) > 255 for part in Path(name).parts):
            raise DataError("a printable path with parts of at most 255 bytes")
        path = (self._folder / name).resolve()
        if Path(name).is_absolute() or not path.is_relative_to(self._folder):
            raise DataError("a path inside the data set's folder")
        return path


def read_text(path: Path) -> str:
    """The text of a file; raises DataError where it is missing or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def parse_object(text: str, label: str) -> dict[str, Any] | Problem:
    """A JSON object without repeated keys and without NaN, or what is wrong with it."""
    try:
        raw = parse_json(text)
    except (ValueError, RecursionError) as error:
        return Problem(label, text[:80], "a JSON object", str(error))
    return raw if isinstance(raw, dict) else Problem(label, text[:80], "a JSON object")


def parse_json(text: str) -> Any:
    """Strict JSON; raises ValueError (repeated key, NaN, no JSON) or RecursionError."""
    return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)
