"""What a stage knows of itself, and what of that is on disk: counters, versions, journal, metrics, checkpoints.

The loop advances it; a resume rebuilds it from the newest commit that verifies. Committed means on disk: metrics and
journal lines beyond the commit's offsets are read for what they remember, then cut off.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from burnish.data.records import GroupSummary, PolicyVersion, RubricVersion, Scores
from burnish.platform.checkpoints import latest_verified, prune, sweep
from burnish.platform.config import Recipe
from burnish.platform.executor import Executor
from burnish.platform.failpoints import fail_point
from burnish.platform.journal import Journal, MetricsLog
from burnish.platform.mirror import Mirror, NoMirror
from burnish.platform.rubric_log import START, RubricState
from burnish.platform.runs import Run
from burnish.platform.telemetry import Finished, NoTelemetry, RayTelemetry
from burnish.platform.timeline import TRACE, Timeline
from burnish.platform.tracking import NoTracker, Tracker

SECONDS = ("sample", "score", "learn", "sync", "commit", "other")


class Ledger:
    """Bookkeeping of one stage of one run.

    Args:
        run: where everything is written.
        stage: "sft" or "grpo".
        recipe: how often to commit, how many commits to keep.
        executor: its learner writes the checkpoints.
        tracker: told after each commit.
        train_count: `Source.count("train")`, None = unbounded.
        telemetry: told after each iteration.
        mirror: told after each commit.

    Attributes:
        iteration, versions: finished iterations (fine-tuning: steps); the newest lag + 1 policy versions by number.
        counts: groups, samples, missing scores and calls sent again so far.
        costs: reward -> its costs, scored and missing samples.
        notes: what guard and watch keep for a resume and for the summary.
        best: name of the best commit on dev, "" = none yet.
    """

    def __init__(
        self,
        run: Run,
        stage: str,
        *,
        recipe: Recipe,
        executor: Executor,
        tracker: Tracker | NoTracker,
        train_count: int | None = None,
        telemetry: RayTelemetry | NoTelemetry | None = None,
        mirror: Mirror | NoMirror | None = None,
    ) -> None:
        self.run, self.stage, self.train_count = run, stage, train_count
        self.checkpoints = run.path / "stages" / stage / "checkpoints"
        self.metrics = MetricsLog(run.path / "metrics.jsonl")
        self.journal = Journal(run.path / "journal.jsonl")
        self.iteration = 0
        self.versions: dict[int, PolicyVersion] = {}
        self.counts: Counter[str] = Counter()
        self.seconds: dict[str, float] = dict.fromkeys(SECONDS, 0.0)
        self.rubrics: list[str] = []
        self.rubric_events: list[dict[str, Any]] = []
        self.costs: dict[str, Counter[str]] = {}
        self.warnings: list[str] = []
        self.notes: dict[str, Any] = {}
        self.digests: dict[str, str] = {}
        self.best: str = ""
        self._recipe, self._executor, self._tracker = recipe, executor, tracker
        self.timeline = Timeline(run.path / TRACE, title=run.id, stage=stage)
        self.staleness = 0
        self._telemetry, self._mirror = telemetry or NoTelemetry(), mirror or NoMirror()
        self._resent_before = -executor.resent
        self._unsettled, self._kept = False, set[str]()
        self._remembered: dict[tuple[int, str, str], Scores] = {}

    @property
    def version(self) -> PolicyVersion:
        """The newest policy version."""
        return self.versions[max(self.versions)]

    def resume(self, *, finished: bool = False) -> Path | None:
        """Go back to the newest sound commit of this stage; None where there is none: the stage starts afresh.

        Args:
            finished: a later stage may have begun: metrics and journal are left as they are.

        Raises:
            CheckpointError: every commit is damaged, or metrics or journal are shorter than the newest sound one.
        """
        sweep(self.checkpoints)
        found = latest_verified(self.checkpoints, on_damage=lambda error: self.warn([str(error)]))
        if found is None:
            return None
        state = json.loads((found / "state.json").read_text())
        self.rubric_events = list(state.get("rubric_events", []))
        self.costs = {name: Counter(costs) for name, costs in state.get("costs", {}).items()}
        if not finished:
            self._rewind(state)
        self.iteration = state["iteration"]
        self.versions = {int(n): PolicyVersion(int(n), digest) for n, digest in state["versions"].items()}
        self.counts = Counter(state["counts"])
        self._resent_before = self.counts["resent"] - self._executor.resent
        self._telemetry.begin(self.stage, self.counts)
        self.seconds = dict(state["seconds"])
        self.rubrics, self.notes, self.best = state["rubrics"], state["notes"], state["best"]
        self.warnings = [*state["warnings"], *(w for w in self.warnings if w not in state["warnings"])]
        self.digests = read_digests(found)
        return found

    def _rewind(self, state: Mapping[str, Any]) -> None:
        """Cut metrics and journal back to a commit; decisions about the rubric that came after it stay made."""
        tail = self.journal.tail(state["journal_offset"])
        self._recall(tail)
        self.metrics.truncate(state["metrics_offset"])
        self.journal.truncate(state["journal_offset"], [e for e in tail if e.get("kind") in ("rubric", "change")])
        self.rubric_events += [entry for entry in tail if entry.get("kind") == "rubric"]

    def rubric_event(self, state: RubricState) -> None:
        """Write down, before it is obeyed, which rubric holds from which iteration on."""
        event = state.event()
        self.journal.append(event)
        self.rubric_events.append(event)
        fail_point("rubric")
        if state.action != START:
            self._tracker.event(state.iteration, f"{state.action} {state.name}".strip())

    def change_line(self, entry: Mapping[str, Any]) -> None:
        """Write down how far a change of the rubric got."""
        self.journal.append({"kind": "change", **entry})

    def advance(self, version: PolicyVersion) -> None:
        """A new policy version was delivered; only as many as the lag needs are remembered."""
        self.versions[version.number] = version
        for number in sorted(self.versions)[: -(self._recipe.rollouts.lag + 1)]:
            del self.versions[number]

    def warn(self, lines: Sequence[str]) -> None:
        """Remember warnings for the summary and the report."""
        self.warnings += [line for line in lines if line not in self.warnings]

    def journal_scores(self, iteration: int, groups: Sequence[tuple[GroupSummary, Scores]]) -> None:
        """Write an iteration's raw scores before they are used, so that a resume need not ask again."""
        entries = [
            {
                "example_id": summary.example_id,
                "samples_digest": summary.samples_digest,
                "policy": asdict(summary.policy),
                "rubric": asdict(scores.rubric),
                **{name: _plain(getattr(scores, name)) for name in ("raw", "scaled", "valid")},
            }
            for summary, scores in groups
        ]
        self.journal.append({"kind": "scores", "iteration": iteration, "groups": entries})
        fail_point("journal")
        self.staleness = max((self.version.number - s.policy.number for s, _ in groups), default=0)
        rubrics = {f"{s.rubric.version}:{s.rubric.digest}" for _, s in groups}
        self.rubrics += sorted(rubrics - set(self.rubrics))
        self.counts["groups"] += len(groups)
        self.counts["samples"] += sum(len(v) for _, s in groups for v in list(s.valid.values())[:1])
        self.counts["missing_scores"] += sum(int((~v).sum()) for _, s in groups for v in s.valid.values())
        for _, scores in groups:
            self._count_costs(scores)

    def _count_costs(self, scores: Scores) -> None:
        for name, valid in scores.valid.items():
            costs = self.costs.setdefault(name, Counter())
            costs.update(scores.costs.get(name, {}))
            costs.update(scored=int(valid.sum()), missing=int((~valid).sum()))

    def remembered(self, summary: GroupSummary, rubric: RubricVersion) -> Scores | None:
        """Scores of exactly these samples under this rubric, if a killed driver had journalled them."""
        found = self._remembered.get((summary.iteration, summary.example_id, summary.samples_digest))
        return found if found is not None and found.rubric.digest == rubric.digest else None

    def _recall(self, entries: Sequence[Mapping[str, Any]]) -> None:
        for entry in (e for e in entries if e.get("kind") == "scores"):
            for group in entry["groups"]:
                key = (entry["iteration"], group["example_id"], group["samples_digest"])
                self._remembered[key] = Scores(
                    example_id=group["example_id"],
                    iteration=entry["iteration"],
                    rubric=RubricVersion(**group["rubric"]),
                    raw={k: np.array(v, np.float32) for k, v in group["raw"].items()},
                    scaled={k: np.array(v, np.float32) for k, v in group["scaled"].items()},
                    valid={k: np.array(v, bool) for k, v in group["valid"].items()},
                )

    def finish(
        self, iteration: int, metrics: Mapping[str, float], seconds: Mapping[str, float], *, leaving: bool = False
    ) -> None:
        """Iteration number `iteration` (SFT: the block of steps that ends there) is done: log, commit, tell MLflow.

        Args:
            iteration: finished iterations of the stage, this one included.
            metrics: flat numbers.
            seconds: name of SECONDS -> wall seconds.
            leaving: the driver stops after this one, so it is committed whatever the recipe says.
        """
        for name, value in seconds.items():
            self.seconds[name] += value
        self.iteration = iteration
        self.counts["resent"] = self._resent_before + self._executor.resent
        idle = {f"seconds/idle/{lane}": spent for lane, spent in self.timeline.finish(iteration - 1).items()}
        spent = {f"seconds/{name}": value for name, value in seconds.items()}
        self.metrics.log(self.stage, self.iteration, {**metrics, **spent, **idle})
        fail_point("log")
        due = self.stage == "sft" or self.iteration % self._recipe.checkpoints.every == 0
        if due or leaving or self.iteration == self.total or self.best == self.name() or self.notes.get("ended"):
            self.commit()
        self._tracker.log(self.stage, self.iteration, metrics)
        self.timeline.flush()
        lanes = {lane.removeprefix("seconds/idle/"): value for lane, value in idle.items()}
        where = (self.stage, self.iteration, self.total)
        self._telemetry.tell(Finished(*where, seconds, lanes, dict(self.counts), self.staleness))

    @property
    def total(self) -> int:
        """Iterations (SFT: steps) of the whole stage."""
        recipe = self._recipe
        return recipe.grpo.iterations if self.stage == "grpo" else recipe.sft.steps

    def commit(self) -> None:
        """Have the learner commit the state as it is now; old ones beyond the newest, the best and the pinned go.

        It is on disk when the next one is begun, or after `settle`.
        """
        started = time.perf_counter()
        driver = {
            "stage": self.stage,
            "iteration": self.iteration,
            "versions": {str(n): v.digest for n, v in self.versions.items()},
            "metrics_offset": self.metrics.offset,
            "journal_offset": self.journal.offset,
            "counts": dict(self.counts),
            "seconds": self.seconds,
            "rubrics": self.rubrics,
            "rubric_events": self.rubric_events,
            "costs": {name: dict(costs) for name, costs in self.costs.items()},
            "warnings": self.warnings,
            "notes": self.notes,
            "best": self.best,
        }
        with self.timeline.span("learner", "commit", self.iteration - 1):
            (saved,) = self._executor.gang("learner", "save", self.checkpoints, self.name(), driver)
            self.digests = dict(self._executor.get(saved))
        if self._unsettled:
            self._tidy()  # the commit before is on disk now, this one is not
        self._unsettled = True
        self._kept = {self.best, self._recipe.guard.rollback_commit} - {""}
        self.seconds["commit"] += time.perf_counter() - started

    def settle(self) -> None:
        """Wait until the last commit is on disk: the learner writes it while the run goes on.

        Raises:
            InfrastructureError: the disk refused.
        """
        if self._unsettled:
            (done,) = self._executor.gang("learner", "settled")
            self._executor.get(done)
            self._unsettled = False
            self._tidy()

    def _tidy(self) -> None:
        """Prune old commits and tell the mirror; what the newest one on disk calls best, or would go back to, stays."""
        prune(self.checkpoints, self._recipe.checkpoints.keep_last, self._kept | self.run.pins())
        self._mirror.commit()

    def name(self, iteration: int | None = None) -> str:
        """Name of an iteration's commit, the current one's by default."""
        return f"step-{self.iteration if iteration is None else iteration:06d}"


def read_digests(checkpoint: Path) -> dict[str, str]:
    """Policy digest and state digest of a commit that was verified."""
    state = json.loads((checkpoint / "state.json").read_text())
    return {name: state[name] for name in ("policy_digest", "state_digest")}


def _plain(arrays: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
    return {name: array.tolist() for name, array in arrays.items()}
