"""Manifest data sets: the rows of a JSONL file as a finite source. The fields of a row stand in `rows.py`.

Called through `sources.make_source`.
"""

from __future__ import annotations

from pathlib import Path

from burnish.data.errors import DataError
from burnish.data.images import load_image, load_mask
from burnish.data.layout import SPLITS, check_split
from burnish.data.masks import box_mask
from burnish.data.records import Example, Reference
from burnish.data.rows import Row, read_manifest
from burnish.data.seeding import key_bytes


def _deal(rows: tuple[Row, ...]) -> dict[str, list[Row]]:
    """Rows by split; rows without one are dealt by the hash of their id, 70 : 10 : 20."""
    dealt: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for row in rows:
        share = key_bytes(("manifest-split", row.id))[0]
        dealt[row.split or ("train" if share < 179 else "dev" if share < 205 else "heldout")].append(row)
    return dealt


def _lay_out(rows: list[Row], block: int, by_box: bool) -> tuple[list[Row], frozenset[int]]:
    """Rows in blocks of one geometry each, and the indices that repeat a row to fill a block."""
    groups: dict[object, list[Row]] = {}
    for row in rows:
        height, width, box, sizes = row.geometry
        groups.setdefault((height, width, sizes, box if by_box else None), []).append(row)
    laid: list[Row] = []
    repeated: list[int] = []
    for group in groups.values():
        short = -len(group) % block
        repeated += range(len(laid) + len(group), len(laid) + len(group) + short)
        laid += group + [group[i % len(group)] for i in range(short)]
    return laid, frozenset(repeated)


class ManifestSource:
    """Finite source of the rows of a manifest.

    Args:
        path: the JSONL file.
        block: consecutive indices that share one geometry; short blocks are filled with repeated rows.
        by_box: rows share a block only where their boxes are equal.
        thorough: decode every file now; workers that start after the driver's check need not.
        on_bad_row: "stop" or "skip", see `read_manifest`.

    Raises:
        DataError: see `read_manifest`.
    """

    name = "manifest"

    def __init__(
        self, path: Path, *, block: int, by_box: bool = True, thorough: bool = True, on_bad_row: str = "stop"
    ) -> None:
        dealt = _deal(read_manifest(path, thorough=thorough, on_bad_row=on_bad_row))
        laid = {split: _lay_out(rows, block, by_box) for split, rows in dealt.items()}
        self._rows = {split: rows for split, (rows, _) in laid.items()}
        self._repeats = {split: repeated for split, (_, repeated) in laid.items()}
        self._path = path

    def count(self, split: str) -> int | None:
        """Number of indices, repeats included; a multiple of the block.

        Raises:
            DataError: the manifest has no row of this split.
        """
        check_split(split)
        if not self._rows[split]:
            raise DataError(f"{self._path}: no row belongs to the split {split}; name one in the field split")
        return len(self._rows[split])

    def repeats(self, split: str) -> frozenset[int]:
        """Indices that repeat a row to fill a block."""
        check_split(split)
        return self._repeats[split]

    def example(self, split: str, index: int) -> Example:
        """The row at `index`, decoded."""
        if not 0 <= index < (self.count(split) or 0):
            raise DataError(f"index: got {index}, allowed 0..{len(self._rows[split]) - 1}")
        row = self._rows[split][index]
        height, width = row.geometry[:2]
        mask = load_mask(row.mask) if row.mask else box_mask(row.box, height=height, width=width)
        where = ",".join(map(str, row.box))
        given = {"cluster": f"manifest:{row.id}", "degradation": "given", **row.meta}
        return Example(
            id=row.id,
            instruction=row.instruction,
            image=load_image(row.image),
            mask=mask,
            references=tuple(Reference(kind, load_image(path, min_side=1)) for kind, path in row.references),
            target=load_image(row.target) if row.target else None,
            meta=given | {"source": self.name, "split": split, "box": where},
        )
