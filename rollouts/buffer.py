"""The fixed-lag buffer: which iteration may be sampled when, and its groups back in example order.

The training loop (`platform/`) owns one; it knows nothing of Ray, actors or tensors. Stated invariant: iteration i is
always sampled with policy version max(0, i - lag), whatever arrives first, so more actors change the speed and never a
byte. Groups that arrive twice (a resent call whose first answer came late) count once; groups nobody asked for are
refused. At most lag + 1 iterations are held at once.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Generic, TypeVar

from burnish.data.errors import ConfigError, InfrastructureError

T = TypeVar("T")


@dataclass(frozen=True)
class LagSchedule:
    """Which policy version samples which iteration.

    Args:
        num_iterations: iterations 0 .. num_iterations - 1 are run.
        lag: how many versions behind a sampler may be, 0 = on-policy.
    """

    num_iterations: int
    lag: int = 0

    def __post_init__(self) -> None:
        if self.num_iterations < 0:
            raise ConfigError(f"num_iterations must be >= 0, got {self.num_iterations}")
        if self.lag < 0:
            raise ConfigError(f"lag must be >= 0, got {self.lag}")

    def version(self, iteration: int) -> int:
        """Policy version (= number of finished iterations) that samples `iteration`: max(0, iteration - lag)."""
        return max(0, iteration - self.lag)

    def due(self, finished_versions: int, submitted: Collection[int] = ()) -> tuple[int, ...]:
        """Iterations that may be submitted now, ascending.

        Args:
            finished_versions: number of finished updates, which is also the newest policy version.
            submitted: iterations that are in flight or done.

        A resumed run calls it with its last committed count; with lag > 0 the iterations it gets back want older
        versions (see `version`), so the loop keeps the last lag + 1 sets of weights.
        """
        last = min(self.num_iterations, finished_versions + self.lag + 1)
        return tuple(i for i in range(finished_versions, last) if i not in submitted)


class FixedLagBuffer(Generic[T]):
    """Collects the groups of the iterations in flight and gives each iteration back whole, in example order."""

    def __init__(self, schedule: LagSchedule) -> None:
        self.schedule = schedule
        self._sizes: dict[int, int] = {}
        self._values: dict[int, dict[int, T]] = {}
        self._completed: set[int] = set()

    @property
    def submitted(self) -> frozenset[int]:
        """Iterations that were opened, completed ones included."""
        return frozenset(self._values) | frozenset(self._completed)

    def due(self, finished_versions: int) -> tuple[int, ...]:
        """`LagSchedule.due` less what this buffer has opened already."""
        return self.schedule.due(finished_versions, self.submitted)

    def open(self, iteration: int, num_groups: int) -> int:
        """Announce an iteration of `num_groups` groups; returns the policy version that must sample it."""
        if num_groups < 1:
            raise ConfigError(f"num_groups must be >= 1, got {num_groups}")
        if iteration in self.submitted or not 0 <= iteration < self.schedule.num_iterations:
            raise InfrastructureError(f"iteration {iteration} cannot be opened: opened before or out of range")
        if len(self._values) > self.schedule.lag:
            raise InfrastructureError(f"the buffer is full: {sorted(self._values)} are open, lag {self.schedule.lag}")
        self._sizes[iteration], self._values[iteration] = num_groups, {}
        return self.schedule.version(iteration)

    def add(self, iteration: int, index: int, value: T) -> bool:
        """Take one group; False if that (iteration, index) came before, or the iteration is complete.

        Raises:
            InfrastructureError: the iteration was never opened, or it has no such index.
        """
        if iteration in self._completed:
            return False
        if iteration not in self._values or not 0 <= index < self._sizes[iteration]:
            raise InfrastructureError(f"nobody asked for group {index} of iteration {iteration}")
        if index in self._values[iteration]:
            return False
        self._values[iteration][index] = value
        return True

    def missing(self, iteration: int) -> tuple[int, ...]:
        """Indices of an open iteration that have not arrived, ascending: what to send again."""
        if iteration not in self._values:
            raise InfrastructureError(f"iteration {iteration} is not open")
        return tuple(i for i in range(self._sizes[iteration]) if i not in self._values[iteration])

    def is_whole(self, iteration: int) -> bool:
        """True once every group of an open iteration is there."""
        return iteration in self._values and len(self._values[iteration]) == self._sizes[iteration]

    def complete(self, iteration: int) -> tuple[T, ...]:
        """Hand an iteration's values over in example order and forget them.

        Raises:
            InfrastructureError: it is not open, or groups are missing.
        """
        missing = self.missing(iteration)
        if missing:
            raise InfrastructureError(f"iteration {iteration} is not whole, groups {missing} are missing")
        self._completed.add(iteration)
        values = self._values.pop(iteration)
        return tuple(values[index] for index in range(self._sizes.pop(iteration)))
