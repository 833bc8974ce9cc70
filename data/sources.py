"""Where examples come from: the `Source` protocol, the mixture of sources, and which indices a step uses.

Called by rollouts, supervised fine-tuning and evaluation. A source is a pure function (split, index) -> Example; what
an iteration uses is a pure function of its number, so a resumed run and any number of workers see the same examples.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol, runtime_checkable

from burnish.data.errors import DataError
from burnish.data.layout import DRAWN, DataConfig, SourceConfig, check_split
from burnish.data.photos import FolderSource, PhotoSource
from burnish.data.readers import READERS, read_rows
from burnish.data.records import Example
from burnish.data.row_source import RowSource, check_ids
from burnish.data.seeding import permutation
from burnish.data.synthetic import DrawnSource

MAX_DOUBLINGS = 6
"""How often evaluation looks among twice as many blocks of a mixture for rows that it has not seen."""


@runtime_checkable
class Source(Protocol):
    """Examples by split and index. Every `block` consecutive indices share one geometry.

    Attributes:
        name: written to `Example.meta["source"]`.
    """

    name: str

    def count(self, split: str) -> int | None:
        """Number of indices of a split, a multiple of the block; None = unbounded."""
        ...

    def repeats(self, split: str) -> Container[int]:
        """Indices that evaluation skips: a row for another time, or one without a target."""
        ...

    def example(self, split: str, index: int) -> Example:
        """Example number `index`; a pure function of (source, split, index)."""
        ...


def block_pattern(weights: tuple[float, ...]) -> tuple[int, ...]:
    """Which source each block of a cycle belongs to, spread evenly (smooth weighted round robin).

    A cycle is 32 blocks, or as many as there are sources where that is more; every source gets at least one.
    """
    length = max(32, len(weights))
    shares = [length * weight / sum(weights) for weight in weights]
    quotas = [max(1, int(share)) for share in shares]
    while sum(quotas) < length:
        quotas[max(range(len(quotas)), key=lambda i: shares[i] - quotas[i])] += 1
    while sum(quotas) > length:
        quotas[max(range(len(quotas)), key=lambda i: (quotas[i] > 1, quotas[i] - shares[i]))] -= 1
    credit, pattern = [0] * len(quotas), []
    for _ in range(length):
        credit = [have + quota for have, quota in zip(credit, quotas, strict=True)]
        winner = max(range(len(credit)), key=credit.__getitem__)
        credit[winner] -= length
        pattern.append(winner)
    return tuple(pattern)


class Mixture:
    """Several sources by weight, block by block; unbounded, finite sources start over in a new keyed order.

    Args:
        sources: at least one.
        weights: positive, one a source.
        block: indices a block.
        seed: data seed.
    """

    name = "mixture"

    def __init__(self, sources: tuple[Source, ...], *, weights: tuple[float, ...], block: int, seed: int) -> None:
        self._sources = sources
        self._pattern = block_pattern(weights)
        self._block = block
        self._seed = seed

    def count(self, split: str) -> int | None:
        """None: unbounded."""
        check_split(split)
        return None

    def repeats(self, split: str) -> Container[int]:
        """Indices at which a finite source has started over, or fills a block."""
        return _Repeats(self, split)

    def place(self, split: str, index: int) -> tuple[int, int]:
        """(number of the source, index within it) of an index of the mixture."""
        number, inner, _ = self.turn(split, index)
        return number, inner

    def repeated(self, split: str, index: int) -> bool:
        """True if the row of an index came before, or fills a block of its source."""
        number, inner, epoch = self.turn(split, index)
        return epoch > 0 or inner in self._sources[number].repeats(split)

    def turn(self, split: str, index: int) -> tuple[int, int, int]:
        """`place`, and how often a finite source started over before."""
        epoch = 0
        cycle, slot = divmod(index // self._block, len(self._pattern))
        number = self._pattern[slot]
        rank = cycle * self._pattern.count(number) + self._pattern[:slot].count(number)
        available = self._sources[number].count(split)
        if available is not None:
            epoch, position = divmod(rank, available // self._block)
            order = permutation(available // self._block, self._seed, "mixture-epoch", number, split, epoch)
            rank = int(order[position])
        return number, rank * self._block + index % self._block, epoch

    def example(self, split: str, index: int) -> Example:
        """Example number `index` of the mixture."""
        number, inner = self.place(split, index)
        return self._sources[number].example(split, inner)


@dataclass(frozen=True, eq=False)
class _Repeats:
    """The indices of a mixture, without end, at which a row is repeated."""

    mixture: Mixture
    split: str

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and self.mixture.repeated(self.split, index)


Make = Callable[[SourceConfig, DataConfig, bool, Collection[str]], Source]


def _drawn(source: SourceConfig, config: DataConfig, thorough: bool, needs: Collection[str]) -> Source:
    return DrawnSource(source.kind, config)


def _photo(source: SourceConfig, config: DataConfig, thorough: bool, needs: Collection[str]) -> Source:
    return PhotoSource(config)


def _folder(source: SourceConfig, config: DataConfig, thorough: bool, needs: Collection[str]) -> Source:
    return FolderSource(Path(source.path or ""), config, thorough=thorough)


def _rows(source: SourceConfig, config: DataConfig, thorough: bool, needs: Collection[str]) -> Source:
    path, how = Path(source.path or ""), {"thorough": thorough, "on_bad_row": config.on_bad_row}
    rows = read_rows(source.kind, path, fields=source.fields, needs=needs, **how)
    return RowSource(rows, name=source.kind, path=path, block=config.block, by_box=config.group_by_box)


SOURCES: dict[str, Make] = {
    **dict.fromkeys(DRAWN, _drawn),
    "photo": _photo,
    "folder": _folder,
    **dict.fromkeys(READERS, _rows),
}


def make_source(config: DataConfig, *, thorough: bool = True, needs: Collection[str] = ()) -> Source:
    """The source that a configuration describes; one source stays itself, several become a `Mixture`.

    Args:
        config: the data configuration.
        thorough: decode every file of data sets on disk now; workers that start after the driver's check pass False
            and look at headers only.
        needs: of "image" and "target", what no row may lack.

    Raises:
        DataError: a data set on disk cannot be used, all its problems at once; or two of them share ids.
    """
    sources = tuple(SOURCES[source.kind](source, config, thorough, needs) for source in config.sources)
    if len(sources) == 1:
        return sources[0]
    check_ids(source for source in sources if isinstance(source, RowSource))
    weights = tuple(source.weight for source in config.sources)
    return Mixture(sources, weights=weights, block=config.block, seed=config.seed)


def chunk_indices(
    step: int, *, num_chunks: int, size: int, block: int, count: int | None = None, seed: int = 0
) -> tuple[tuple[int, ...], ...]:
    """The indices of one step: `num_chunks` chunks, each `size` consecutive indices of one block.

    A chunk has one geometry, so it can be one batch. Chunks of a step come from different blocks (as long as there are
    that many), steps never share an index until a finite source is exhausted; then a new keyed order begins.

    Args:
        step: number of the iteration, from 0.
        num_chunks: chunks a step.
        size: indices a chunk; divides `block`.
        block: indices a block.
        count: `Source.count`; None = unbounded.
        seed: data seed, used for finite sources only.

    Raises:
        DataError: `size` does not divide `block`, or `count` is 0 or no multiple of it.
    """
    if size < 1 or block % size:
        raise DataError(f"chunk size must divide the block ({block}), got {size}")
    if count is not None and (count < 1 or count % block):
        raise DataError(f"count must be a positive multiple of the block ({block}), got {count}")
    rounds = block // size
    blocks = num_chunks * rounds if count is None else count // block
    chunks = []
    for number in range(step * num_chunks, (step + 1) * num_chunks):
        epoch, place = divmod(number, blocks * rounds)
        part, slot = divmod(place, blocks)
        if count is None:
            first = (epoch * blocks + slot) * block
        else:
            first = int(permutation(blocks, seed, "data-epoch", epoch)[slot]) * block
        chunks.append(tuple(range(first + part * size, first + (part + 1) * size)))
    return tuple(chunks)


def reader_chunks(
    step: int,
    *,
    reader: int,
    readers: int,
    num_chunks: int,
    size: int,
    block: int,
    count: int | None = None,
    seed: int = 0,
) -> tuple[tuple[int, ...], ...]:
    """One reader's share of a step's chunks: contiguous, so that all shares in order are the step of one reader.

    Args:
        reader, readers: which of how many; `readers` divides `num_chunks`.
        step, num_chunks, size, block, count, seed: see `chunk_indices`.
    """
    chunks = chunk_indices(step, num_chunks=num_chunks, size=size, block=block, count=count, seed=seed)
    share = num_chunks // readers
    return chunks[reader * share : (reader + 1) * share]


def iteration_indices(
    iteration: int, *, num_examples: int, block: int, count: int | None = None, seed: int = 0
) -> tuple[int, ...]:
    """`num_examples` indices from as many different blocks; see `chunk_indices`."""
    chunks = chunk_indices(iteration, num_chunks=num_examples, size=1, block=block, count=count, seed=seed)
    return tuple(chunk[0] for chunk in chunks)


def eval_indices(source: Source, split: str, count: int, *, block: int, per_block: int = 4) -> tuple[int, ...]:
    """The first `count` evaluation indices, `per_block` from each block in turn, without repeated rows.

    Fewer where a finite source has fewer. The same for every run, so results before and after are paired.

    Args:
        source: where they come from.
        split: "dev" or "heldout".
        count: how many are wanted.
        block: indices a block.
        per_block: consecutive indices of a block that can share a batch.
    """
    available, skipped = source.count(split), source.repeats(split)
    take = min(per_block, block)
    blocks = -(-count // take) if available is None else available // block
    chosen: tuple[int, ...] = ()
    for _ in range(1 if available is not None else MAX_DOUBLINGS):
        starts, numbers = range(0, block, take), range(blocks)
        every = (n * block + r for start in starts for n in numbers for r in range(start, min(block, start + take)))
        chosen = tuple(islice((index for index in every if index not in skipped), count))
        if len(chosen) == count:
            break
        blocks *= 2  # a mixture of finite sources, which start over
    return chosen
