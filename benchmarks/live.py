"""Runs that a benchmark watches from outside: started in a process of their own, read through their files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from burnish.platform.runs import Run, RunStore

COUNTED = ("sample", "score", "learn", "sync", "other")
"""Parts of an iteration's wall seconds; commits are left out."""
LARGER = {"grpo.examples_per_iteration": "16", "evaluation.every": "0", "guard.enabled": "false"}
"""What makes the smoke recipe's iterations long enough to be compared."""


def start(directory: Path, overrides: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """`burnish train smoke` on Ray; what it prints goes to train.log."""
    flags = [part for name, value in overrides.items() for part in (f"--{name}", value)]
    line = ["train", "smoke", "--executor", "ray", "--tracking.enabled", "false", "--runs-dir", str(directory), *flags]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # every process would compile its imports again
    with (directory / "train.log").open("wb") as log:
        command = [sys.executable, "-m", "burnish.platform.cli", *line]
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment)


def entries(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file, none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def begun(directory: Path, process: subprocess.Popen[bytes]) -> Run:
    """The run, once it has scored an iteration; leaves with its log where it ended before."""
    store = RunStore(directory)
    while process.poll() is None:
        infos = store.infos()
        run = store.open(infos[-1].id) if infos else None
        if run is not None and any(e["kind"] == "scores" for e in entries(run.path / "journal.jsonl")):
            return run
        time.sleep(0.2)
    raise SystemExit((directory / "train.log").read_text())


def metrics(run: Run) -> dict[int, dict[str, Any]]:
    """GRPO iteration -> its metrics."""
    return {line["step"] - 1: line for line in entries(run.path / "metrics.jsonl") if line["stage"] == "grpo"}


def seconds(line: Mapping[str, Any]) -> float:
    """Wall seconds of an iteration."""
    return sum(line[f"seconds/{name}"] for name in COUNTED)
