"""Runs of several seeds and what they leave on disk: shared by `learning.py` and `ablation.py`.

Every run is a `burnish train` of its own process, one torch thread, local executor. A finished run is read from its
summary.json and evaluations/; nothing is measured again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from burnish.rollouts.eval_result import primary_rows
from burnish.rollouts.evaluation import EvalPart
from burnish.rollouts.intervals import Interval, bootstrap_difference, bootstrap_relative, t_interval

SAMPLER = "ode"
"""Figures are taken under the sampler that is served."""


@dataclass(frozen=True)
class Job:
    """One run to make: `burnish train` with these arguments, into `runs_dir`, its output in a file there."""

    name: str
    arguments: tuple[str, ...]
    runs_dir: Path


def train(job: Job) -> Path:
    """Run one job; returns its run directory.

    Raises:
        RuntimeError: it left with another code than 0; the text names its log.
    """
    job.runs_dir.mkdir(parents=True, exist_ok=True)
    log = job.runs_dir / f"{job.name}.log"
    command = [sys.executable, "-m", "burnish.platform.cli", "train", *job.arguments]
    command += ["--executor", "local", "--runs-dir", str(job.runs_dir), "--tracking.enabled", "false", "--json"]
    with log.open("w") as stream:
        ran = subprocess.run(
            command, stdout=stream, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
    if ran.returncode:
        raise RuntimeError(f"{job.name} left with {ran.returncode}; see {log}")
    (run_id,) = [event["run_id"] for event in _events(log) if event.get("event") == "end"]
    return job.runs_dir / run_id


def _events(log: Path) -> Iterable[dict[str, Any]]:
    for line in log.read_text().splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def train_all(jobs: Sequence[Job], *, at_once: int) -> list[Path]:
    """Run jobs, `at_once` of them beside each other; run directories in the jobs' order."""

    def one(job: Job) -> Path:
        print(f"running {job.name}", file=sys.stderr, flush=True)
        return train(job)

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(one, jobs))


@dataclass(frozen=True, eq=False)
class Study:
    """A finished run.

    Args:
        path: its directory.
        seed: of the run.
        summary: summary.json.
        base: held-out rows of the base (after fine-tuning), under SAMPLER.
        final: held-out rows at the end; the base's where the run had no reinforcement learning.
    """

    path: Path
    seed: int
    summary: Mapping[str, Any]
    base: EvalPart
    final: EvalPart

    @property
    def digest(self) -> str:
        """The recipe's digest."""
        return str(self.summary["config_digest"])

    @property
    def base_digest(self) -> str:
        """sha256 of the base's weight file, from its manifest."""
        files = json.loads((self.path / "base" / "manifest.json").read_text())["files"]
        return "".join(files[name]["sha256"] for name in sorted(files) if name.endswith(".safetensors"))

    @property
    def wall(self) -> float:
        """Wall seconds of the run's last process."""
        return float(self.summary["timing"]["wall"])

    def metrics(self, name: str) -> list[float]:
        """One metric of metrics.jsonl over the iterations of GRPO, where it was logged."""
        lines = [json.loads(line) for line in (self.path / "metrics.jsonl").read_text().splitlines()]
        return [line[name] for line in lines if line["stage"] == "grpo" and line.get(name) is not None]


def read(path: Path) -> Study:
    """Read a finished run."""
    summary = json.loads((path / "summary.json").read_text())
    run = json.loads((path / "run.json").read_text())
    base = _rows(path, "base")
    last = summary["iterations"] if "grpo" in summary["stages"] else None
    final = base if last is None else _rows(path, f"grpo-{last:06d}")
    if base.ids != final.ids:
        raise ValueError(f"{path}: before and after were measured on different examples")
    return Study(path, int(run["seed"]), summary, base, final)


def _rows(path: Path, label: str) -> EvalPart:
    return EvalPart.from_json(json.loads((path / "evaluations" / f"{label}-heldout-{SAMPLER}.json").read_text()))


def finished(directory: Path) -> list[Study]:
    """Every finished run of a directory of runs, by seed."""
    paths = sorted(p.parent for p in directory.glob("*/summary.json"))
    done = [p for p in paths if json.loads((p / "run.json").read_text())["status"] == "done"]
    return sorted((read(p) for p in done), key=lambda s: (s.seed, s.path.name))


def chosen(rows: EvalPart, source: str | None = None) -> np.ndarray:
    """Indices of the primary set, or of one source."""
    if source is None:
        return primary_rows(rows)
    return np.array([i for i, name in enumerate(rows.labels["source"]) if name == source], dtype=np.int64)


Column = Callable[[EvalPart], np.ndarray]


def column(name: str) -> Column:
    """A metric of every row, [n]."""
    return lambda rows: rows.values[name]


def edge_distance(rows: EvalPart) -> np.ndarray:
    """|edge ratio - 1| of every row, [n]: 0 = as sharp as the target."""
    return np.abs(rows.values["edge_ratio"] - 1.0)


def glyph_error(rows: EvalPart) -> np.ndarray:
    """1 - accuracy of the glyph recogniser, [n]; NaN where nothing is written."""
    return 1.0 - rows.values["glyph_accuracy"]


def mean(rows: EvalPart, of: Column, source: str | None = None) -> float:
    """Mean over the primary set or a source, NaN rows left out; NaN where there is none."""
    values = of(rows)[chosen(rows, source)]
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if kept.size else float("nan")


def relative(before: EvalPart, after: EvalPart, of: Column) -> float:
    """mean(after) / mean(before) - 1 over the primary set."""
    return mean(after, of) / mean(before, of) - 1.0


def over_seeds(values: Sequence[float]) -> Interval:
    """Student's t interval over seeds."""
    return t_interval(values)


def over_sources(pairs: Sequence[tuple[EvalPart, EvalPart]], of: Column, *, ratio: bool) -> Interval:
    """Bootstrap over what was drawn, pooled over seeds: each row is its mean over the seeds, which share examples.

    Args:
        pairs: (before, after) of each seed.
        of: what is compared.
        ratio: mean(after) / mean(before) - 1 instead of mean(after - before).
    """
    first = pairs[0][0]
    if any(rows.ids != first.ids for pair in pairs for rows in pair):
        raise ValueError("the runs were evaluated on different examples")
    rows = chosen(first)
    before, after = (np.mean([of(pair[i])[rows] for pair in pairs], axis=0) for i in (0, 1))
    clusters = [first.labels["cluster"][i] for i in rows]
    make = bootstrap_relative if ratio else bootstrap_difference
    return make(before, after, clusters, key="study")


def percent(interval: Interval) -> str:
    """`-12.3 % [-14.0, -10.5]`."""
    if np.isnan(interval.low):
        return f"{interval.mean:+.1%}"
    return f"{interval.mean:+.1%} [{interval.low:+.1%}, {interval.high:+.1%}]"


def plain(interval: Interval) -> str:
    """`-0.0123 [-0.0140, -0.0105]`."""
    if np.isnan(interval.low):
        return f"{interval.mean:+.4f}"
    return f"{interval.mean:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"
