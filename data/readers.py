"""The layouts of data sets that burnish reads, one entry each, and the one way to check and to read them.

Called by `sources.py` and by `burnish data check`. Every layout gives the same rows (`rows.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Literal

from burnish.data import dyref
from burnish.data.archives import archive_entries
from burnish.data.cases import case_entries
from burnish.data.entries import Entry
from burnish.data.errors import DataError
from burnish.data.manifest import manifest_entries
from burnish.data.rows import Row, Scan, check_entries
from burnish.data.tables import SUFFIXES, table_entries, table_files

Entries = Callable[[Path, Mapping[str, str]], Iterator[Entry]]
OnBadRow = Literal["stop", "skip"]

READERS: dict[str, Entries] = {
    "manifest": manifest_entries,
    "parquet": table_entries,
    "webdataset": archive_entries,
    "dyref": dyref.dyref_entries,
    "cases": case_entries,
}
"""Layout -> its entries."""


def guess_layout(path: Path) -> str:
    """The layout that a path looks like.

    Raises:
        DataError: nothing there.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    by_suffix = {".json": "dyref", ".tar": "webdataset", **dict.fromkeys(SUFFIXES, "parquet")}
    if path.is_file():
        return by_suffix.get(path.suffix, "manifest")
    if (path / dyref.NAME).is_file():
        return "dyref"
    if any(path.glob("*.tar")):
        return "webdataset"
    return "parquet" if table_files(path) else "cases"


def scan_rows(
    kind: str,
    path: Path,
    *,
    fields: Mapping[str, str] | None = None,
    thorough: bool = True,
    needs: Collection[str] = (),
) -> Scan:
    """Read and check every row of a data set; bad rows are described, not raised.

    Args:
        kind: a key of READERS.
        path: the file or folder.
        fields: burnish's field -> the data set's name for it, where the layout allows it.
        thorough: decode every image; False looks at headers (masks are always decoded).
        needs: of "image" and "target", what no row may lack.

    Raises:
        DataError: the data set as a whole cannot be read.
    """
    return check_entries(READERS[kind](path, fields or {}), thorough=thorough, needs=needs)


def read_rows(
    kind: str,
    path: Path,
    *,
    fields: Mapping[str, str] | None = None,
    thorough: bool = True,
    needs: Collection[str] = (),
    on_bad_row: OnBadRow = "stop",
) -> tuple[Row, ...]:
    """The usable rows of a data set.

    Args:
        kind, path, fields, thorough, needs: see `scan_rows`; with `skip` every file is decoded, so that all processes
            skip the same rows.
        on_bad_row: "stop" refuses a data set with bad rows; "skip" leaves them out.

    Raises:
        DataError: it cannot be read, has no usable rows, or (stop) bad rows, with all their problems.
    """
    scan = scan_rows(kind, path, fields=fields, thorough=thorough or on_bad_row == "skip", needs=needs)
    if scan.problems and (on_bad_row == "stop" or not scan.rows):
        raise DataError(f"{path}: {scan.num_bad} of {scan.num_rows} rows cannot be used", list(scan.problems))
    if not scan.rows:
        raise DataError(f"{path}: holds no rows")
    return scan.rows
