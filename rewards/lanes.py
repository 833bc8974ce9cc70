"""Rows that wait for a reward, and the model calls that take them.

A lane is one reward, one image size and one rubric version, so no model call mixes versions. Where the probe allows it,
rows of several groups fill a call together; elsewhere every group is padded for itself. Either way a row's bytes are
those of its group scored alone. Used by one thread at a time: the server's caller, or the batcher's worker.
Legend: B batch, H W pixels.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from burnish.data.errors import BurnishError
from burnish.data.records import Group, RewardVersion, RubricVersion, Scores
from burnish.rewards.batches import RewardError, call_reward
from burnish.rewards.jobs import Failure, Job, Part, group_images
from burnish.rewards.loaded import LoadedReward
from burnish.rewards.order import RewardOrder
from burnish.rewards.protocol import HasCounters
from burnish.rewards.rubric import RewardSpec

Row = tuple[Part, int]
Ready = Callable[[RewardSpec, RewardVersion | None], LoadedReward]
LaneKey = tuple[LoadedReward, RubricVersion, tuple[int, ...]]


class Lane:
    """Rows in order of arrival for one loaded reward."""

    def __init__(self, loaded: LoadedReward) -> None:
        self._loaded = loaded
        self._rows: deque[Row] = deque()
        self.touched = time.monotonic()

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, part: Part) -> None:
        """Queue all rows of a part."""
        self._rows.extend((part, index) for index in range(len(part.images)))
        self.touched = time.monotonic()

    def run(self, *, quiet: float) -> Iterator[list[Part]]:
        """Make the model calls that are due; after each, yields the parts that took part in it.

        Args:
            quiet: a call that is not full waits until nothing came or went for so many seconds; 0 = it does not wait.
        """
        while rows := self._take(rest=time.monotonic() - self.touched >= quiet):
            yield self._call(rows)
            self.touched = time.monotonic()

    def _take(self, *, rest: bool) -> list[Row]:
        """The next call's rows; none where more rows may still fill it and `rest` is False."""
        batch, crosses = self._loaded.batch, self._loaded.prepared.crosses
        rows: list[Row] = []
        while self._rows and len(rows) < batch:
            part = self._rows[0][0]
            if rows and not crosses and part is not rows[0][0]:
                break
            row = self._rows.popleft()
            if part.failure is None:
                rows.append(row)
        if crosses and not rest and len(rows) < batch:
            self._rows.extendleft(reversed(rows))
            return []
        return rows

    def _call(self, rows: list[Row]) -> list[Part]:
        parts = Counter(part for part, _ in rows)
        try:
            self._score(rows, parts)
        except RewardError as error:
            if len(parts) > 1:  # whose rows are at fault shows when each part is scored alone
                return [p for part in parts for p in self._call([row for row in rows if row[0] is part])]
            rows[0][0].failure = error
        except (BurnishError, OSError) as error:
            for part in parts:
                part.failure = error
        return list(parts)

    def _score(self, rows: list[Row], parts: Mapping[Part, int]) -> None:
        """One model call; its scores and its costs go to the parts, the costs by their share of the real rows."""
        reward, wall, process = self._loaded.reward, time.perf_counter(), time.process_time()
        padded = self._loaded.batch - len(rows)
        asked = rows + [rows[-1]] * padded
        images = np.stack([part.images[index] for part, index in asked])
        values = call_reward(reward, images, [part.example for part, _ in asked], name=rows[0][0].name)
        counters = reward.take_counters() if isinstance(reward, HasCounters) else {}
        process, wall = time.process_time() - process, time.perf_counter() - wall
        costs = {**counters, "calls": 1.0, "padded": padded, "seconds": wall}
        for part, count in parts.items():
            places = [place for place, row in enumerate(rows) if row[0] is part]
            part.fill([rows[place][1] for place in places], values[places])
            share = count / len(rows)
            shared = {key: value * share for key, value in costs.items()}
            part.charge({**shared, "rows": float(count)}, process_seconds=process * share)


class Lanes:
    """All rows that wait at one server.

    Args:
        ready: (spec, the version it must be or None) -> the loaded reward; raises what the request shall end with.
    """

    def __init__(self, ready: Ready) -> None:
        self._ready = ready
        self._lanes: dict[LaneKey, Lane] = {}

    def add(self, group: Group, order: RewardOrder, done: Callable[[Scores | Failure], None]) -> None:
        """Queue a request.

        Args:
            group: what is scored.
            order: by what.
            done: hears once of its scores or of why there are none; possibly before this returns.
        """
        job = Job(group, order, done)
        try:
            images = group_images(group)
            # Every reward is asked for before any row is queued: a request that cannot end well costs no model call.
            versions = order.versions or (None,) * len(order.specs)
            loaded = [self._ready(spec, version) for spec, version in zip(order.specs, versions, strict=True)]
        except (BurnishError, OSError) as error:
            job.fail(error)
            return
        job.parts = tuple(Part(spec.name, group.example, images, job.advance) for spec in order.specs)
        for reward, part in zip(loaded, job.parts, strict=True):
            self._lanes.setdefault((reward, order.rubric, images[0].shape), Lane(reward)).add(part)
        job.advance()  # an order of no rewards is at its end

    def run(self, *, quiet: float = 0.0) -> None:
        """Make the model calls that are due; see `Lane.run`. Requests are told as they end."""
        for key, lane in list(self._lanes.items()):
            for parts in lane.run(quiet=quiet):
                for part in parts:
                    part.advance()
            if not len(lane):
                del self._lanes[key]

    def next_due(self, *, quiet: float) -> float | None:
        """Seconds until a call that is not full is due; None where no row waits."""
        touched = [lane.touched for lane in self._lanes.values()]
        return max(0.0, min(touched) + quiet - time.monotonic()) if touched else None
