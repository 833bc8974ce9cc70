"""What every stage of a run works with, and what a finished one hands back.

Made by `train.py`; the stages are in `stages.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from burnish.data.errors import BurnishError
from burnish.data.sources import Source
from burnish.platform.assessment import Assessor
from burnish.platform.config import Recipe
from burnish.platform.console import Console
from burnish.platform.desk import RewardDesk
from burnish.platform.executor import Executor, GangLost
from burnish.platform.ledger import Ledger
from burnish.platform.mirror import Mirror, NoMirror
from burnish.platform.pools import Pools
from burnish.platform.promoting import LivePromotion
from burnish.platform.runs import Run
from burnish.platform.telemetry import NoTelemetry, RayTelemetry
from burnish.platform.tracking import NoTracker, Tracker
from burnish.platform.workforce import Workforce
from burnish.rollouts.eval_result import EvalResult


class Interrupted(Exception):
    """The user asked to stop; everything finished is committed."""


@contextmanager
def settled(ledger: Ledger) -> Iterator[None]:
    """Whatever ends the work within, what it finished is on disk; a lost learner has nothing left to write.

    Raises:
        InfrastructureError: the disk refused, unless a failure within came first.
    """
    try:
        yield
    except GangLost:
        raise
    except Interrupted:
        ledger.settle()
        raise
    except Exception:
        with suppress(BurnishError):  # the first trouble is the one to tell
            ledger.settle()
        raise
    ledger.settle()


@dataclass(eq=False)
class Context:
    """What every stage works with.

    Args:
        run, recipe: what is trained; the run's lock is held.
        executor: where roles work.
        source: examples of every split.
        tracker, console: who hears of steps, and who shows lines.
        interrupted: True once the user asked to stop.
        pools: reward actors by pool.
        desk, workforce: changes of rewards, and of worker counts, that were handed in.
        mirror: told after each commit.
    """

    run: Run
    recipe: Recipe
    executor: Executor
    source: Source
    tracker: Tracker | NoTracker
    console: Console
    interrupted: Callable[[], bool]
    pools: Pools
    desk: RewardDesk
    workforce: Workforce
    mirror: Mirror | NoMirror = field(default_factory=NoMirror)

    def ledger(self, stage: str) -> Ledger:
        """A fresh ledger of a stage."""
        return Ledger(
            self.run,
            stage,
            recipe=self.recipe,
            executor=self.executor,
            tracker=self.tracker,
            train_count=self.source.count("train"),
            telemetry=self._telemetry,
            mirror=self.mirror,
        )

    def promotion(self, ledger: Ledger) -> LivePromotion:
        """What takes the stage's commits live."""
        say, event = self.console.line, self.tracker.event
        return LivePromotion(self.recipe.serving, ledger, self.run.id, say, event)

    @cached_property
    def _telemetry(self) -> RayTelemetry | NoTelemetry:
        """Ray's metrics where the executor is Ray's, else nothing."""
        return RayTelemetry(self.run.id) if self.executor.name == "ray" else NoTelemetry()

    @property
    def base(self) -> Path:
        """Directory of the run's base weights, on which GRPO trains."""
        return self.run.path / "base"

    @property
    def assessor(self) -> Assessor:
        """Asks the rollout workers for evaluations."""
        return Assessor(self.recipe, self.executor, self.source)


@dataclass(frozen=True, eq=False)
class StageResult:
    """A finished stage: ledger, held-out results before and after (label -> result), the commit that is its result."""

    ledger: Ledger
    before: dict[str, EvalResult]
    after: dict[str, EvalResult]
    commit: str = "base"
