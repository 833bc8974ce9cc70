"""Manifests: a JSONL file with one row a line, its paths relative to the file's folder. Fields stand in `rows.py`.

Called by `readers.py`. A field that a row may not have is a problem of that row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from burnish.data.entries import Entry, FolderFiles, parse_object, read_text


def manifest_entries(path: Path, fields: Mapping[str, str]) -> Iterator[Entry]:
    """The lines of a manifest that are not blank, labelled by their number.

    Args:
        path: the JSONL file.
        fields: nothing; a manifest's fields have their own names.

    Raises:
        DataError: no such file, or not UTF-8.
    """
    find = FolderFiles(path.parent)
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield Entry(f"row {number}", parse_object(line, f"row {number}"), find)
