"""The GRPO loop: sample, score, plan, learn, deliver, commit. One screen; no tensor passes through it.

It sees one executor and never asks which. Everything it decides is a function of the iteration's number and of what is
on disk, so a run that was killed goes on with the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from burnish.data.records import PolicyVersion, UpdatePlan
from burnish.data.sources import iteration_indices
from burnish.platform.config import Recipe
from burnish.platform.executor import Executor, Handle
from burnish.platform.ledger import Ledger
from burnish.platform.pipeline import pipeline_metrics
from burnish.platform.planning import Planned, make_plan
from burnish.platform.scoring import Scored, Scoring
from burnish.platform.swaps import Swaps
from burnish.platform.sync import deliver
from burnish.platform.watch import Watch
from burnish.platform.workforce import Workforce
from burnish.rollouts.buffer import FixedLagBuffer, LagSchedule

AHEAD = 2
"""Groups a rollout worker is given at a time where sampling is opportunistic: one it works on, one to follow."""


@dataclass(eq=False)
class GrpoLoop:
    """One stage of GRPO.

    Args:
        recipe: the stage's numbers.
        executor: where roles run; they have begun and hold the ledger's version.
        ledger: counters, journal, metrics and checkpoints of the run.
        swaps: which rubric scores which iteration.
        watch: alarm for a run without a learning signal.
        after: called with the number of finished iterations and the planned metrics, before they are committed;
            evaluates on dev, lets the guard decide (`ledger.notes["ended"]` ends the stage), returns metrics to log.
        interrupted: asked after each iteration; True commits it and leaves the loop.
        seed: the run's seed.
        committed: called with the number of finished iterations when they are logged and, where due, on disk.
        workforce: sizes of the pools that somebody may ask to change.
    """

    recipe: Recipe
    executor: Executor
    ledger: Ledger
    swaps: Swaps
    watch: Watch
    after: Callable[[int, Mapping[str, float]], dict[str, float]]
    interrupted: Callable[[], bool]
    seed: int = 0
    committed: Callable[[int], None] = lambda iteration: None
    workforce: Workforce = field(default_factory=Workforce)
    buffer: FixedLagBuffer[Scored] = field(init=False)
    scoring: Scoring = field(init=False)
    clock: dict[str, float] = field(default_factory=dict)
    waiting: dict[Handle, tuple[int, int, Handle]] = field(default_factory=dict)
    backlog: list[tuple[int, int, int]] = field(default_factory=list)

    def run(self) -> None:
        """Run the iterations that are left."""
        stage, config, timeline = self.ledger, self.recipe.grpo, self.ledger.timeline
        self.scoring = Scoring(self.executor)
        self.buffer = FixedLagBuffer(LagSchedule(config.iterations, self.recipe.rollouts.lag))
        timeline.start()
        for iteration in range(stage.iteration, config.iterations):
            started = time.perf_counter()
            self.clock = {}
            self._turn(iteration)
            self._ask()
            groups = self._collect(iteration, started)
            planned = self._plan(iteration, groups)
            scored = self.swaps.observe(iteration, groups)
            before = stage.version
            metrics = self._learn(planned.plan, groups)
            self._observe(iteration, groups, planned, metrics, changed=stage.version.digest != before.digest)
            with timeline.span("rollout", "evaluate", iteration):
                assessed = self.after(iteration + 1, planned.metrics)
            metrics |= self._overlap(groups, before, time.perf_counter() - started)
            self.clock["other"] = time.perf_counter() - started - sum(self.clock.values())
            leaving = self.interrupted()
            stage.finish(iteration + 1, planned.metrics | scored | metrics | assessed, self.clock, leaving=leaving)
            self.committed(iteration + 1)
            if leaving or stage.notes.get("ended"):
                return

    def _turn(self, iteration: int) -> None:
        """Let changes take their turn: of the rubric from the first iteration not asked for yet, of pools at once."""
        self.workforce.obey(self.executor)
        due = self.buffer.due(self.ledger.iteration)
        first = min(due, default=self.recipe.grpo.iterations)
        self.swaps.turn(iteration, first, max(due, default=first))

    def _ask(self) -> None:
        """Put every iteration that may be sampled now into the backlog, and submit what is due."""
        data, count = self.recipe.data, self.recipe.grpo.examples_per_iteration
        for iteration in self.buffer.due(self.ledger.iteration):
            indices = iteration_indices(
                iteration, num_examples=count, block=data.block, count=self.ledger.train_count, seed=data.seed
            )
            self.buffer.open(iteration, count)
            self.backlog += [(iteration, position, index) for position, index in enumerate(indices)]
        self._feed()

    def _feed(self) -> None:
        """Submit from the backlog: with a fixed lag all of it, each iteration with its own version.

        Opportunistic: only what keeps the workers busy, so that the rest is sampled with a version not there yet.
        """
        opportunistic, versions = self.recipe.rollouts.opportunistic, self.ledger.versions
        room = len(self.backlog)
        if opportunistic:
            room = AHEAD * self.executor.sizes()["rollout"] - len(self.waiting)
        for _ in range(min(room, len(self.backlog))):
            iteration, position, index = self.backlog.pop(0)
            version = self.ledger.version if opportunistic else versions[self.buffer.schedule.version(iteration)]
            self.ledger.timeline.begin("rollout", "sample", iteration)
            summary, group = self.executor.submit("rollout", "sample", iteration, index, version, returns=2)
            self.waiting[summary] = (iteration, position, group)

    def _collect(self, iteration: int, started: float) -> tuple[Scored, ...]:
        """Score groups as they finish, until the iteration is whole; later iterations' groups stay in flight."""
        waiting, scoring = self.waiting, self.scoring
        while not self.buffer.is_whole(iteration):
            done = self.executor.wait([*scoring.handles, *waiting])
            if done in scoring:
                whole = scoring.take(done)
                if whole is not None:
                    self._add(*whole)
                continue
            number, position, group = waiting.pop(done)
            summary = self.executor.get(done)
            self._feed()
            self._mark(number)
            if not self._unsampled(iteration):
                self.clock.setdefault("sample", time.perf_counter() - started)
            state = self.swaps.log.at(number)
            remembered = self.ledger.remembered(summary, state.rubric)
            if remembered is not None:
                self._add(number, position, Scored(summary, group, remembered))
            else:
                names = [spec.name for spec in state.config.rewards]
                scoring.send((number, position), summary, group, self.swaps.pools.orders(state), names)
        self.clock["score"] = time.perf_counter() - started - self.clock.setdefault("sample", 0.0)
        return self.buffer.complete(iteration)

    def _mark(self, iteration: int) -> None:
        """A group of an iteration was sampled and is about to be scored."""
        if not self._unsampled(iteration):
            self.ledger.timeline.end("rollout", "sample", iteration)
        self.ledger.timeline.begin("reward", "score", iteration)

    def _unsampled(self, iteration: int) -> bool:
        """Groups of the iteration are still to be sampled."""
        return any(number == iteration for number, _, _ in (*self.waiting.values(), *self.backlog))

    def _add(self, iteration: int, position: int, scored: Scored) -> None:
        self.buffer.add(iteration, position, scored)
        if self.buffer.is_whole(iteration):
            self.ledger.timeline.end("reward", "score", iteration)

    def _plan(self, iteration: int, groups: tuple[Scored, ...]) -> Planned:
        self.ledger.journal_scores(iteration, [(g.summary, g.scores) for g in groups])
        config = self.recipe.grpo
        return make_plan(
            [g.scores for g in groups],
            iteration=iteration,
            on_policy=all(g.summary.policy == self.ledger.version for g in groups),
            rubric=self.swaps.log.at(iteration).config,
            config=config.advantages,
            dar=config.dar,
            seed=self.seed,
            kl_scale=self.ledger.notes.get("kl_scale", 1.0),
        )

    def _learn(self, plan: UpdatePlan, groups: tuple[Scored, ...]) -> dict[str, float]:
        started, span = time.perf_counter(), self.ledger.timeline.span
        each = self.recipe.rank_groups([g.group for g in groups])
        with span("learner", "learn", plan.iteration):
            (metrics,) = self.executor.gang("learner", "update", plan, each=each)
        self.clock["learn"] = time.perf_counter() - started
        learned = dict(self.executor.get(metrics))
        started = time.perf_counter()
        with span("driver", "sync", plan.iteration):
            self.ledger.advance(deliver(self.executor, keep=self.recipe.rollouts.lag + 1))
        self.clock["sync"] = time.perf_counter() - started
        return learned

    def _overlap(self, groups: tuple[Scored, ...], version: PolicyVersion, wall: float) -> dict[str, float]:
        sizes = self.executor.sizes()
        return pipeline_metrics(groups, version=version, learn=self.clock["learn"], wall=wall, sizes=sizes)

    def _observe(
        self, iteration: int, groups: tuple[Scored, ...], planned: Planned, metrics: dict[str, float], *, changed: bool
    ) -> None:
        warnings = self.watch.observe(
            iteration,
            spread=planned.spread,
            converged=planned.converged,
            metrics=metrics,
            changed=changed,
        )
        self.ledger.warn([*planned.warnings, *warnings])
