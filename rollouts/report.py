"""The report of a run: one self-contained HTML page, written at the run's end and again by `burnish` at any time.

`read_report` collects a run directory's files (summary.json, metrics.jsonl, run.json, trace.json, images/);
`write_report` writes the page. The page makes no request, holds no script and escapes every text, since instructions
come from users' data.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from burnish.data.errors import DataError
from burnish.rollouts.report_charts import Event
from burnish.rollouts.report_page import page
from burnish.rollouts.report_pictures import Picture, load


@dataclass(frozen=True, eq=False)
class ReportData:
    """All that the page shows. Parts that are absent are left out of it.

    Args:
        run_id: name of the run.
        summary: as in summary.json. Read are `status`, `reproducible`, `config_digest`, `policy_digest`,
            `state_digest`, `timing` (name -> seconds), `counts`, `command`, `warnings` (list of text), `events` (list
            of {"iteration", "label"}), and per stage `stages.<stage>.heldout.<ode|sde>.{before,after,change}` with
            `EvalResult.to_json` and `Comparison.to_json`.
        metrics: lines of metrics.jsonl (see `report_curves.py` for the names that get charts).
        events: what happened at which iteration, marked in the curves of GRPO, in order.
        pictures: the gallery.
        facts: further name -> text lines, for example versions.
        warnings: shown on top.
        trace: events of trace.json.
    """

    run_id: str
    summary: Mapping[str, Any] = field(default_factory=dict)
    metrics: Sequence[Mapping[str, Any]] = ()
    events: Sequence[Event] = ()
    pictures: Sequence[Picture] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    trace: Sequence[Mapping[str, Any]] = ()


def write_report(path: Path, run: ReportData) -> Path:
    """Write the page in one atomic step; returns its path."""
    text = page(
        run_id=run.run_id,
        summary=run.summary,
        metrics=run.metrics,
        events=run.events,
        pictures=run.pictures,
        facts=run.facts,
        warnings=run.warnings,
        trace=run.trace,
    )
    aside = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
    return path


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from error
    if not isinstance(tree, dict):
        raise DataError(f"{path}: got a {type(tree).__name__}, allowed an object")
    return tree


def _lines(path: Path) -> list[dict[str, Any]]:
    """Whole lines of a JSONL file; a torn last line, which a kill leaves, is passed over."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    try:
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines() if line]
    except ValueError as error:
        raise DataError(f"{path}: not lines of JSON ({error})") from error


def _trace(path: Path) -> list[dict[str, Any]]:
    """Events of a trace: an array with an event a line and no end; lines that are none are passed over."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line[:-1]) for line in lines if line.startswith("{") and line.endswith("},")]


def _facts(run: Mapping[str, Any]) -> dict[str, str]:
    """Recipe, seed, time and versions of run.json as text."""
    named = {k: run[k] for k in ("recipe", "seed", "created") if run.get(k) is not None}
    return {k: str(v) for k, v in (named | dict(run.get("versions") or {})).items()}


def read_report(run_dir: Path, *, events: Sequence[Event] = (), facts: Mapping[str, str] | None = None) -> ReportData:
    """What a run directory holds, finished or not.

    Args:
        run_dir: the run.
        events: from the journal, added to those of the summary.
        facts: added to those of run.json.

    Raises:
        DataError: a file is there but cannot be read.
    """
    summary, run = _json(run_dir / "summary.json"), _json(run_dir / "run.json")
    noted = [Event(float(e["iteration"]), str(e["label"])) for e in summary.get("events") or ()]
    return ReportData(
        run_id=str(run.get("id") or summary.get("run_id") or run_dir.name),
        summary={"status": run.get("status"), "config_digest": run.get("config_digest"), **summary},
        metrics=_lines(run_dir / "metrics.jsonl"),
        events=sorted([*noted, *events], key=lambda e: e.step),
        pictures=load(run_dir / "images"),
        facts={**_facts(run), **(facts or {})},
        warnings=[str(w) for w in summary.get("warnings") or ()],
        trace=_trace(run_dir / "trace.json"),
    )
