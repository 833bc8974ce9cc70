"""What a run tells Prometheus through Ray: the table of its metrics, and what sets them after each iteration.

Called by the ledger when an iteration is finished. Ray adds the prefix `ray_`, and `_total` to a counter; alert rules
and the dashboard under `clusters/monitoring` use those names, and `burnish lint` holds them to this table. Without Ray
there is nobody to tell: `NoTelemetry`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["gauge", "counter"]
TAGS = ("run", "stage")
"""Labels of every metric: the run's id, and sft or grpo."""


@dataclass(frozen=True)
class Metric:
    """One metric.

    Args:
        kind: "gauge" = a value of now, "counter" = a sum that only grows while this driver lives.
        meaning: what is measured, with its unit.
        labels: beside `TAGS`.
    """

    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()


METRICS: dict[str, Metric] = {
    "burnish_iteration": Metric("gauge", "finished iterations of the stage; steps where the stage is sft"),
    "burnish_iterations_planned": Metric("gauge", "iterations of the whole stage; steps where the stage is sft"),
    "burnish_finished_timestamp_seconds": Metric("gauge", "Unix time at which the last iteration was finished"),
    "burnish_phase_seconds": Metric("gauge", "wall seconds of the last iteration by phase", ("phase",)),
    "burnish_idle_seconds": Metric("gauge", "seconds of the last iteration in which a role did nothing", ("role",)),
    "burnish_staleness": Metric(
        "gauge", "policy versions between the oldest sampler of the last iteration and its update"
    ),
    "burnish_groups": Metric("counter", "groups that were scored"),
    "burnish_samples": Metric("counter", "samples that were scored"),
    "burnish_missing_scores": Metric("counter", "scores that are missing: a reward did not apply or gave no number"),
    "burnish_restarts": Metric("counter", "calls sent again because a worker was lost, hung or restarted"),
}
COUNTS = {
    "groups": "burnish_groups",
    "samples": "burnish_samples",
    "missing_scores": "burnish_missing_scores",
    "resent": "burnish_restarts",
}
"""Key of the ledger's counts -> counter."""


@dataclass(frozen=True)
class Finished:
    """What is known when an iteration (SFT: a block of steps) is finished.

    Args:
        stage, iteration, planned: where the run is.
        seconds: phase -> wall seconds.
        idle: role -> seconds in which it did nothing.
        counts: the ledger's counts, summed over the whole run.
        staleness: see `METRICS`.
    """

    stage: str
    iteration: int
    planned: int
    seconds: Mapping[str, float]
    idle: Mapping[str, float]
    counts: Mapping[str, int]
    staleness: int = 0


class NoTelemetry:
    """Tells nobody."""

    def begin(self, stage: str, counts: Mapping[str, int]) -> None:
        """Nothing to do."""

    def tell(self, done: Finished) -> None:
        """Nothing to do."""


@dataclass(eq=False)
class RayTelemetry:
    """Sets Ray's metrics; its agent on this node serves them to Prometheus.

    Args:
        run: the run's id.
    """

    run: str
    _counted: dict[tuple[str, str], int] = field(default_factory=dict)
    _metrics: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from ray.util import metrics

        kinds = {"gauge": metrics.Gauge, "counter": metrics.Counter}
        for name, metric in METRICS.items():
            self._metrics[name] = kinds[metric.kind](name, metric.meaning, tag_keys=(*TAGS, *metric.labels))

    def begin(self, stage: str, counts: Mapping[str, int]) -> None:
        """A stage goes on with these counts: another driver has told of them."""
        self._counted |= {(stage, key): counts.get(key, 0) for key in COUNTS}

    def tell(self, done: Finished) -> None:
        """Set every metric to what the iteration came to."""
        tags = {"run": self.run, "stage": done.stage}
        self._metrics["burnish_iteration"].set(done.iteration, tags=tags)
        self._metrics["burnish_iterations_planned"].set(done.planned, tags=tags)
        self._metrics["burnish_finished_timestamp_seconds"].set(time.time(), tags=tags)
        self._metrics["burnish_staleness"].set(done.staleness, tags=tags)
        for phase, seconds in done.seconds.items():
            self._metrics["burnish_phase_seconds"].set(seconds, tags={**tags, "phase": phase})
        for role, seconds in done.idle.items():
            self._metrics["burnish_idle_seconds"].set(seconds, tags={**tags, "role": role})
        for key, name in COUNTS.items():
            more = done.counts.get(key, 0) - self._counted.get((done.stage, key), 0)
            if more > 0:
                self._metrics[name].inc(more, tags=tags)
            self._counted[done.stage, key] = done.counts.get(key, 0)


def exported_name(name: str) -> str:
    """What Prometheus calls a metric of `METRICS`."""
    return f"ray_{name}_total" if METRICS[name].kind == "counter" else f"ray_{name}"


def exported_labels() -> dict[str, set[str]]:
    """Name in Prometheus -> labels of its own, without those that Ray and Prometheus add."""
    return {exported_name(name): {*TAGS, *metric.labels} for name, metric in METRICS.items()}
