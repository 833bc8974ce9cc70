"""Shadow scores: groups are sent to a reward that has no say, and its answers are gathered when they are there.

The run does not wait for them, but for a backlog of more than a few iterations: a slow shadow may not pile up groups.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from burnish.data.errors import InfrastructureError
from burnish.data.records import Scores
from burnish.platform.executor import Executor, Handle
from burnish.platform.pools import Pools
from burnish.platform.rubric_log import RubricState, Shadow
from burnish.rewards.agreement import rank_correlation
from burnish.rewards.rubric import RubricConfig
from burnish.rewards.table import reward_class

BACKLOG = 2
"""Iterations whose shadow scores may be outstanding."""
PATIENCE = 60.0
"""Seconds that the run waits for a shadow that is further behind, before it is dropped."""


@dataclass(eq=False)
class _Batch:
    """One iteration's groups under way to one shadow."""

    iteration: int
    shadow: Shadow
    config: RubricConfig
    active: list[Scores]
    handles: list[Handle]


class Shadows:
    """All shadow scores that are under way."""

    def __init__(self, executor: Executor, pools: Pools) -> None:
        self._executor, self._pools = executor, pools
        self._batches: list[_Batch] = []

    def send(self, state: RubricState, iteration: int, groups: Sequence[tuple[Handle, Scores]]) -> None:
        """Have an iteration's groups scored by every shadow of its state."""
        for shadow in state.shadows:
            role, order = self._pools.shadow_order(state, shadow)
            size = self._executor.sizes()[role]
            handles = [
                self._executor.attempt(role, "score", group, order, worker=i % size)
                for i, (group, _) in enumerate(groups)
            ]
            active = [scores for _, scores in groups]
            self._batches.append(_Batch(iteration, shadow, state.config, active, handles))

    def gather(self, *, wait: bool = False) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """What has arrived: journal lines of kind "shadow", and name -> reason of the shadows that failed."""
        lines, failed = [], {}
        while self._batches:
            batch = self._batches[0]
            late = batch.iteration <= self._batches[-1].iteration - BACKLOG
            name = batch.shadow.spec.name
            there = self._there(batch, seconds=PATIENCE if wait or late else 0.0)
            if not (there or wait or late):
                break
            self._batches.pop(0)
            if name in failed:
                continue
            try:
                if not there:
                    raise InfrastructureError(f"it did not answer within {PATIENCE:.0f} s")
                lines.append(_agreement(batch, [self._got(h) for h in batch.handles]))
            except Exception as error:  # whatever a shadow does, the run goes on: it has no say
                failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        self._batches = [b for b in self._batches if b.shadow.spec.name not in failed]
        return lines, failed

    def forget(self, name: str) -> None:
        """Do not wait for what is under way to this shadow."""
        self._batches = [batch for batch in self._batches if batch.shadow.spec.name != name]

    def _there(self, batch: _Batch, *, seconds: float) -> bool:
        """True once all answers are there; waits at most so long."""
        until = time.monotonic() + seconds
        while not all(self._executor.poll(h) for h in batch.handles):
            if time.monotonic() >= until:
                return False
            time.sleep(0.02)
        return True

    def _got(self, handle: Handle) -> Scores | None:
        try:
            return self._executor.get(handle)
        except InfrastructureError:
            return None  # a lost answer of a shadow is only missing


def _agreement(batch: _Batch, answers: Sequence[Scores | None]) -> dict[str, Any]:
    """The journal line of one iteration: mean of the shadow, and how far it orders samples as the active one does."""
    name, sign = batch.shadow.spec.name, reward_class(batch.shadow.spec.kind).direction
    pairs = [(a, s) for a, s in zip(batch.active, answers, strict=True) if s is not None]
    ours = np.array([s.raw[name] for _, s in pairs]) if pairs else np.zeros((0, 1), np.float32)
    valid = np.array([s.valid[name] for _, s in pairs]) if pairs else np.zeros((0, 1), bool)
    theirs = [_compared(active, batch) for active, _ in pairs]
    both = valid & np.array([v for _, v in theirs]) if pairs else valid
    rho = rank_correlation(sign * ours, np.array([v for v, _ in theirs]), valid=both) if pairs else math.nan
    return {
        "kind": "shadow",
        "iteration": batch.iteration,
        "name": name,
        "against": batch.shadow.against,
        "mean": float(ours[valid].mean()) if valid.any() else None,
        "rank_correlation": None if math.isnan(rho) else rho,
        "valid": int(valid.sum()),
    }


def _compared(active: Scores, batch: _Batch) -> tuple[np.ndarray, np.ndarray]:
    """[G] values and validity of what the shadow is compared with, larger is better."""
    against = batch.shadow.against
    if against in active.raw:
        kinds = {spec.name: spec.kind for spec in batch.config.rewards}
        return reward_class(kinds[against]).direction * active.raw[against], active.valid[against]
    weights = batch.config.weights_at(batch.iteration)
    total = np.add.reduce([w * np.where(active.valid[n], active.scaled[n], 0) for n, w in weights.items()])
    return total, np.logical_or.reduce([active.valid[n] for n in weights])
