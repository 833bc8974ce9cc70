"""One request to a reward server on its way: a group, the rewards it is scored by, and what they have said so far.

Made and filled by the lanes. It never calls a reward. Legend: G group, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from burnish.data.errors import BurnishError, DataError
from burnish.data.records import Example, Group, Scores
from burnish.rewards.drs import DrsConfig, drs_scale
from burnish.rewards.order import RewardOrder

Failure = BurnishError | OSError
"""What a request may end with in place of scores."""


@dataclass(eq=False)
class Part:
    """One group's rows under one reward.

    Args:
        name: the reward's name in the rubric.
        example: what the images are outputs for.
        images: float32 [3,H,W] each, of one size.
        advance: to be called when rows were filled or the failure was set.
        values: float32 [G] raw scores, NaN until they are known.
        left: rows that are still to be scored.
        costs: what they took so far, see `Scores.costs`.
        process_seconds: process seconds they took so far.
        failure: why it cannot be scored. Its rows are then not asked for again.
    """

    name: str
    example: Example
    images: tuple[np.ndarray, ...]
    advance: Callable[[], None]
    values: np.ndarray = field(init=False)
    left: int = field(init=False)
    costs: dict[str, float] = field(init=False)
    process_seconds: float = 0.0
    failure: Failure | None = None

    def __post_init__(self) -> None:
        self.left = len(self.images)
        self.values = np.full(self.left, np.nan, np.float32)
        self.costs = dict.fromkeys(("calls", "rows", "padded", "seconds"), 0.0)

    def fill(self, indices: list[int], values: np.ndarray) -> None:
        """Take raw scores of some rows."""
        self.values[indices] = values
        self.left -= len(indices)

    def charge(self, costs: Mapping[str, float], *, process_seconds: float) -> None:
        """Add costs."""
        for key, value in costs.items():
            self.costs[key] = self.costs.get(key, 0.0) + value
        self.process_seconds += process_seconds


@dataclass(eq=False)
class Job:
    """A group under an order; `done` hears of its end once.

    Args:
        group: what is scored.
        order: by what.
        done: takes the scores, or why there are none.
        parts: one entry a spec of the order.
    """

    group: Group
    order: RewardOrder
    done: Callable[[Scores | Failure], None]
    parts: tuple[Part, ...] = ()
    ended: bool = False

    def advance(self) -> None:
        """Say the end if it is reached: all rows known, or one reward failed."""
        failure = next((part.failure for part in self.parts if part.failure is not None), None)
        if failure is not None:
            self.fail(failure)
        elif not self.ended and all(part.left == 0 for part in self.parts):
            self.ended = True
            self.done(self._scores())

    def fail(self, failure: Failure) -> None:
        """End without scores."""
        for part in self.parts:
            part.failure = failure
        if not self.ended:
            self.ended = True
            self.done(failure)

    def _scores(self) -> Scores:
        raw, scaled, valid = {}, {}, {}
        count = self.group.example.num_references
        for spec, part in zip(self.order.specs, self.parts, strict=True):
            name = spec.name
            valid[name] = np.isfinite(part.values)
            raw[name] = np.where(valid[name], part.values, np.float32(0))
            scaled[name] = _scale(raw[name], valid[name], drs=spec.drs, num_references=count)
        return Scores(
            self.group.example.id,
            self.group.iteration,
            self.order.rubric,
            raw,
            scaled,
            valid,
            seconds=sum(part.process_seconds for part in self.parts),
            costs={part.name: part.costs for part in self.parts},
        )


def group_images(group: Group) -> tuple[np.ndarray, ...]:
    """The group's images, float32 [3,H,W] each.

    Raises:
        DataError: there are none, or they are of another kind or of several sizes.
    """
    images = tuple(trajectory.image for trajectory in group.trajectories)
    kinds = {(image.dtype.name, image.shape) for image in images}
    if len(kinds) != 1 or images[0].dtype != np.float32 or images[0].ndim != 3 or images[0].shape[0] != 3:
        got = sorted(f"{name} {list(shape)}" for name, shape in kinds)
        raise DataError(f"the images of group {group.example.id!r} must be float32 [3,H,W] of one size, got {got}")
    return images


def _scale(raw: np.ndarray, keep: np.ndarray, *, drs: DrsConfig | None, num_references: int) -> np.ndarray:
    """Float32 [G] after DRS; 0 where missing."""
    if drs is None:
        return raw
    scaled = drs_scale(raw.astype(np.float64), num_references, drs)
    return np.where(keep, scaled, 0).astype(np.float32)
