"""Sends sampled groups to the pools of their rubric and puts the parts of their scores together.

A rubric's rewards may live in several pools; a group's scores are whole once every pool has answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from burnish.data.records import GroupSummary, Scores
from burnish.platform.executor import Executor, Handle
from burnish.rewards.order import RewardOrder


@dataclass(frozen=True, eq=False)
class Scored:
    """A group as the driver knows it: scalars, and a handle of the tensors."""

    summary: GroupSummary
    group: Handle
    scores: Scores


@dataclass(eq=False)
class _Open:
    """A group that is being scored: where it belongs, and the parts that are there."""

    iteration: int
    position: int
    summary: GroupSummary
    group: Handle
    names: tuple[str, ...]
    missing: int
    parts: list[Scores]


class Scoring:
    """Groups that are being scored."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._open: dict[Handle, _Open] = {}

    @property
    def handles(self) -> list[Handle]:
        """What to wait for."""
        return list(self._open)

    def __contains__(self, handle: Handle) -> bool:
        return handle in self._open

    def send(
        self,
        place: tuple[int, int],
        summary: GroupSummary,
        group: Handle,
        orders: Sequence[tuple[str, RewardOrder]],
        names: Sequence[str],
    ) -> None:
        """Have a group scored.

        Args:
            place: (iteration, position in it).
            summary, group: the group.
            orders: (role, what to ask it), one entry a pool.
            names: the rubric's rewards, in its order.
        """
        entry = _Open(*place, summary, group, tuple(names), len(orders), [])
        for role, order in orders:
            (handle,) = self._executor.submit(role, "score", group, order)
            self._open[handle] = entry

    def take(self, handle: Handle) -> tuple[int, int, Scored] | None:
        """An answer is there: (iteration, position, scored group) once it was the group's last, else None."""
        entry = self._open.pop(handle)
        entry.parts.append(self._executor.get(handle))
        if len(entry.parts) < entry.missing:
            return None
        scores = merge(entry.parts, entry.names)
        return entry.iteration, entry.position, Scored(entry.summary, entry.group, scores)


def merge(parts: Sequence[Scores], names: Sequence[str]) -> Scores:
    """One group's scores from those of several pools, in the rubric's order; all must be of one rubric."""
    first = parts[0]
    assert {part.rubric for part in parts} == {first.rubric}, "a group is never scored by two rubrics"
    home = {name: part for part in parts for name in part.raw}
    return Scores(
        example_id=first.example_id,
        iteration=first.iteration,
        rubric=first.rubric,
        raw={name: home[name].raw[name] for name in names},
        scaled={name: home[name].scaled[name] for name in names},
        valid={name: home[name].valid[name] for name in names},
        seconds=sum(part.seconds for part in parts),
        costs={name: home[name].costs.get(name, {}) for name in names},
    )
