"""Parquet files, and data sets that Hugging Face's `datasets` saved to disk (Arrow streams). Needs pyarrow alone.

Called by `readers.py`. Columns bear the names of a row's fields, or those that `fields` says:

    image, mask, target   `Image` features (bytes and path), plain bytes, or text: a path below the data set's folder
    references            a list of those, or of {"kind", "image"}; `reference_kinds`: a list of text, else detail
    instruction, box, id, split, meta   as in `rows.py`; a row without id is FILE:NUMBER, one without split is
                          of its file's, see `splits.py`

Arrow files are mapped into memory, so a row is read where it lies; of Parquet files the row group is read, and the
newest ones are kept.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish.data.entries import Entry, FolderFiles
from burnish.data.errors import DataError
from burnish.data.images import Picture
from burnish.data.splits import splits_of_files

if TYPE_CHECKING:
    import pyarrow

SUFFIXES = (".parquet", ".arrow")
_PLAIN = ("id", "instruction", "box", "split", "meta")
_SINGLE = ("image", "mask", "target")
_KNOWN = (*_PLAIN, *_SINGLE, "references", "reference_kinds")


@dataclass(frozen=True)
class Cell:
    """A picture in a column of a table.

    Args:
        file, part, row: which Parquet or Arrow file, row group or whole (0), and row of that part.
        column: its name in the file.
        place: which entry of a list, or None.
    """

    file: Path
    part: int
    row: int
    column: str
    place: int | None = None

    @property
    def name(self) -> str:
        """File, part, row and column."""
        return f"{self.file}:{self.part}:{self.row}:{self.column}"

    def read(self) -> bytes:
        """Its bytes; ValueError where the cell holds none."""
        value = _part(self.file, self.part)[self.column][self.row].as_py()
        payload = _payload(value if self.place is None else value[self.place])
        if not isinstance(payload, bytes):
            raise ValueError("the cell holds no bytes")
        return payload


def table_entries(path: Path, fields: Mapping[str, str]) -> Iterator[Entry]:
    """The rows of all files, files by name, labelled FILE row NUMBER (from 0).

    Args:
        path: a Parquet or Arrow file, a folder of Parquet files, or what `save_to_disk` wrote.
        fields: burnish's field -> the column's name.

    Raises:
        DataError: no such file, or one that cannot be read; a column that `fields` names is missing.
    """
    files = table_files(path)
    if not files:
        raise DataError(f"{path}: no Parquet file and no data set saved to disk there")
    root = path if path.is_dir() else path.parent
    for file, split in splits_of_files(files).items():
        yield from _file_entries(file, root, split, fields)


def table_files(path: Path) -> list[Path]:
    """The data files below a path: itself, what `state.json` lists, or all *.parquet files, sorted."""
    if path.is_file():
        return [path]
    saved = sorted(path.glob("**/state.json"))
    if saved:
        return [file for state in saved for file in _saved_files(state)]
    return sorted(path.glob("**/*.parquet"))


def _saved_files(state: Path) -> list[Path]:
    try:
        names = [str(entry["filename"]) for entry in json.loads(state.read_text(encoding="utf-8"))["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{state}: not what `save_to_disk` writes ({error})") from error
    if any(Path(name).name != name for name in names):
        raise DataError(f"{state}: got {names}, allowed names of files beside it")
    return [state.parent / name for name in names]


def _file_entries(file: Path, root: Path, split: str | None, fields: Mapping[str, str]) -> Iterator[Entry]:
    find = FolderFiles(root)
    label = file.relative_to(root).as_posix()
    theirs = {ours: fields.get(ours, ours) for ours in _KNOWN}
    number = 0
    for part in range(_num_parts(file)):
        table = _part(file, part)
        missing = sorted(name for ours, name in theirs.items() if ours in fields and name not in table.column_names)
        if missing:
            raise DataError(f"{file}: has no column {', '.join(missing)}, only {', '.join(table.column_names)}")
        columns = {ours: name for ours, name in theirs.items() if name in table.column_names}
        unused = tuple(sorted(set(table.column_names) - set(columns.values())))
        for row in range(table.num_rows):
            raw, cells = _row(table, row, columns, lambda *where, part=part: Cell(file, part, *where))
            given = {"id": f"{label}:{number}", "split": split}
            raw = given | {name: value for name, value in raw.items() if value is not None}
            yield Entry(f"{label} row {number}", raw, _finder(cells, find), unused)
            number += 1


def _row(
    table: pyarrow.Table, row: int, columns: Mapping[str, str], cell: Any
) -> tuple[dict[str, Any], dict[str, Picture]]:
    """Fields of a row, and its pictures by the names that stand in them."""
    raw: dict[str, Any] = {n: table[columns[n]][row].as_py() for n in _PLAIN if n in columns}
    if isinstance(raw.get("meta"), dict):
        raw["meta"] = {key: value for key, value in raw["meta"].items() if value is not None}
    cells: dict[str, Picture] = {}
    for name in (n for n in _SINGLE if n in columns):
        raw[name] = _place(table[columns[name]][row].as_py(), name, cells, lambda n=name: cell(row, columns[n]))
    if "references" in columns:
        values = table[columns["references"]][row].as_py() or []
        kinds = table[columns["reference_kinds"]][row].as_py() if "reference_kinds" in columns else None
        raw["references"] = [
            {
                "kind": _kind(value, kinds, place),
                "path": _place(
                    value, f"references[{place}]", cells, lambda p=place: cell(row, columns["references"], p)
                ),
            }
            for place, value in enumerate(values)
        ]
    return raw, cells


def _kind(value: object, kinds: list[str] | None, place: int) -> object:
    if isinstance(value, dict) and "kind" in value:
        return value["kind"]
    return "detail" if kinds is None else kinds[place] if place < len(kinds) else None


def _place(value: object, name: str, cells: dict[str, Picture], cell: Any) -> object:
    """What stands in the row for a picture: the cell's name, a path, or None; the cell is noted."""
    payload = _payload(value)
    if isinstance(payload, bytes):
        cells[name] = cell()
        return name
    return payload


def _payload(value: object) -> object:
    """Bytes of an `Image` feature, else its path; a plain value is itself."""
    if isinstance(value, dict):
        inner = value.get("image", value)
        if isinstance(inner, dict):
            return inner.get("path") if inner.get("bytes") is None else inner["bytes"]
        return inner
    return value


def _finder(cells: Mapping[str, Picture], find: FolderFiles) -> Any:
    return lambda name: cells[name] if name in cells else find(name)


@functools.lru_cache(maxsize=64)
def _opened(file: Path) -> Any:
    """A Parquet file, or the table of an Arrow file, mapped into memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if file.suffix == ".parquet":
            return pq.ParquetFile(file, memory_map=True)
        source = pa.memory_map(str(file))
        try:
            return pa.ipc.open_stream(source).read_all()
        except pa.ArrowInvalid:
            return pa.ipc.open_file(source).read_all()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file}: cannot be read ({error})") from error


def _num_parts(file: Path) -> int:
    return _opened(file).num_row_groups if file.suffix == ".parquet" else 1


@functools.lru_cache(maxsize=2)
def _part(file: Path, part: int) -> pyarrow.Table:
    """A row group of a Parquet file, or the whole Arrow table."""
    import pyarrow as pa

    opened = _opened(file)
    try:
        return opened.read_row_group(part) if file.suffix == ".parquet" else opened
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file}: row group {part} cannot be read ({error})") from error
