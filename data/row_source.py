"""Rows of a data set as a finite source: dealt to splits and laid out in blocks of one geometry.

Called through `sources.make_source`; pictures are read when an example is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from burnish.data.errors import DataError, Problem
from burnish.data.images import load_image, load_mask
from burnish.data.layout import SPLITS, check_split
from burnish.data.masks import box_mask
from burnish.data.records import Example, Reference
from burnish.data.rows import Row
from burnish.data.splits import split_of_id

SHOWN = 20
"""Shared ids that an error lists."""


def _deal(rows: tuple[Row, ...]) -> dict[str, list[Row]]:
    """Rows by split; rows without one are dealt by the hash of their id."""
    dealt: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for row in rows:
        dealt[row.split or split_of_id(row.id)].append(row)
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


class RowSource:
    """Finite source of checked rows.

    Args:
        rows: of one data set, see `read_rows`.
        name: the layout's.
        path: where the data set lies.
        block: consecutive indices that share one geometry; short blocks are filled with repeated rows.
        by_box: rows share a block only where their boxes are equal.
    """

    def __init__(self, rows: tuple[Row, ...], *, name: str, path: Path, block: int, by_box: bool = True) -> None:
        laid = {split: _lay_out(dealt, block, by_box) for split, dealt in _deal(rows).items()}
        self._rows = {split: filled for split, (filled, _) in laid.items()}
        self._repeats = {split: repeated for split, (_, repeated) in laid.items()}
        for split in ("dev", "heldout"):
            blind = (index for index, row in enumerate(self._rows[split]) if row.target is None)
            self._repeats[split] |= frozenset(blind)
        self.path = path
        self.name = name

    @property
    def ids(self) -> frozenset[str]:
        """Of all rows of all splits."""
        return frozenset(row.id for rows in self._rows.values() for row in rows)

    def count(self, split: str) -> int | None:
        """Number of indices, repeats included; a multiple of the block.

        Raises:
            DataError: no row is of this split.
        """
        check_split(split)
        if not self._rows[split]:
            raise DataError(f"{self.path}: no row belongs to the split {split}; name one in the field split")
        return len(self._rows[split])

    def repeats(self, split: str) -> frozenset[int]:
        """Indices that repeat a row to fill a block; in dev and held-out also rows without a target."""
        check_split(split)
        return self._repeats[split]

    def example(self, split: str, index: int) -> Example:
        """The row at `index`, decoded."""
        if not 0 <= index < (self.count(split) or 0):
            raise DataError(f"index: got {index}, allowed 0..{len(self._rows[split]) - 1}")
        row = self._rows[split][index]
        given = {"cluster": f"{self.name}:{row.id}", "degradation": "given", **row.meta}
        where = {} if row.box is None else {"box": ",".join(map(str, row.box))}
        return Example(
            id=row.id,
            instruction=row.instruction,
            image=None if row.image is None else load_image(row.image),
            mask=_mask(row),
            references=tuple(Reference(kind, load_image(path, min_side=1)) for kind, path in row.references),
            target=None if row.target is None else load_image(row.target),
            meta=given | {"source": self.name, "split": split} | where,
        )


def check_ids(sources: Iterable[RowSource]) -> None:
    """Refuse data sets that share ids: groups and their noise are told apart by the example's id.

    Raises:
        DataError: an id is a row of two data sets.
    """
    problems, seen = [], dict[str, Path]()
    for source in sources:
        for shared in sorted(source.ids & seen.keys()):
            hint = "put the data set's name before its ids"
            problems.append(Problem(f"{source.path}: id", shared, f"ids that {seen[shared]} does not have", hint))
        seen |= dict.fromkeys(source.ids, source.path)
    if problems:
        raise DataError(f"{len(problems)} ids are rows of two data sets", problems[:SHOWN])


def _mask(row: Row) -> np.ndarray | None:
    """The row's region [1,H,W]; None where the whole frame is generated."""
    if row.mask is not None:
        return load_mask(row.mask)
    return None if row.box is None else box_mask(row.box, height=row.geometry[0], width=row.geometry[1])
