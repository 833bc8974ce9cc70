"""summary.json: the machine-readable end of a run, and the report and closing lines made from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from burnish.platform.config import config_digest
from burnish.platform.context import Context, StageResult
from burnish.platform.ledger import SECONDS, Ledger
from burnish.platform.rewards_view import what_changed
from burnish.platform.rubric_log import START
from burnish.platform.runs import write_json
from burnish.platform.stages import STAGES
from burnish.rollouts.eval_result import compare
from burnish.rollouts.report import read_report, write_report


def write_summary(context: Context, results: Mapping[str, StageResult], *, seconds: float, command: str) -> Path:
    """Write summary.json, the pictures and report.html; returns the report's path.

    Args:
        context: the run.
        results: stage -> result, in order.
        seconds: wall seconds of this process.
        command: what was typed.
    """
    last = list(results.values())[-1].ledger
    counts: Counter[str] = Counter()
    timing = dict.fromkeys(SECONDS, 0.0)
    for result in results.values():
        counts.update(result.ledger.counts)
        for name in SECONDS:
            timing[name] += result.ledger.seconds[name]
    summary = {
        "run_id": context.run.id,
        "start_from": context.run.info.start_from,
        "status": "done",
        "reproducible": context.run.info.reproducible,
        "command": command,
        "config_digest": config_digest(context.recipe),
        **last.digests,
        "stages": {stage: stage_summary(result) for stage, result in results.items()},
        "iterations": last.iteration,
        "rubric_versions": last.rubrics,
        "rewards": _rewards(last),
        "timing": {**{k: round(v, 3) for k, v in timing.items()}, "wall": round(seconds, 3)},
        "counts": {k: counts[k] for k in ("groups", "samples", "resent", "missing_scores")},
        "events": [e for r in results.values() for e in (*r.ledger.notes.get("events", []), *_changes(r.ledger))],
        "warnings": [*(w for r in results.values() for w in r.ledger.warnings), *_failing(last)],
    }
    write_json(context.run.path / "summary.json", summary)
    shown = {stage.upper(): result.after["ode"] for stage, result in results.items() if "ode" in result.after}
    if shown:
        context.assessor.pictures(last, shown)
    return write_report(context.run.path / "report.html", read_report(context.run.path))


def _rewards(ledger: Ledger) -> dict[str, dict[str, float]]:
    """Reward -> scored and missing samples, model calls, seconds and its own counters, over the whole stage."""
    return {name: {k: round(v, 3) for k, v in sorted(costs.items())} for name, costs in sorted(ledger.costs.items())}


def _changes(ledger: Ledger) -> list[dict[str, Any]]:
    """Changes of the rubric as the report marks them."""
    marks = []
    for place, event in enumerate(ledger.rubric_events):
        if event["action"] != START:
            why = f" ({event['why']})" if event["why"] else ""
            marks.append(
                {"iteration": event["iteration"], "label": what_changed(ledger.rubric_events[: place + 1]) + why}
            )
    return marks


def _failing(ledger: Ledger) -> list[str]:
    """A line for each reward whose answers failed."""
    lines = []
    for name, costs in sorted(ledger.costs.items()):
        if costs["failures"] or costs["breaker_open"]:
            total = costs["scored"] + costs["missing"]
            shut = f"; the breaker kept {costs['breaker_open']:.0f} from being asked" if costs["breaker_open"] else ""
            lines.append(f"reward {name!r}: {costs['missing']:.0f} of {total:.0f} scores are missing{shut}")
    return lines


def stage_summary(result: StageResult) -> dict[str, Any]:
    """Held-out figures of a stage by sampler: before, after, and their paired comparison."""
    heldout: dict[str, Any] = {}
    for label, after in result.after.items():
        heldout[label] = {"after": after.to_json()}
        if label in result.before:
            before = result.before[label]
            heldout[label] |= {"before": before.to_json(), "change": compare(before, after).to_json()}
    return {
        "steps": result.ledger.iteration,
        "commit": result.commit,
        "heldout": heldout,
        "ended": result.ledger.notes.get("ended", ""),
    }


def closing_lines(summary: Mapping[str, Any], report: Path) -> list[str]:
    """What the command says at the end: held-out error by stage and where the report is."""
    lines = []
    for stage in (name for name in STAGES if name in summary["stages"]):
        found = summary["stages"][stage]["heldout"].get("ode")
        if not found:
            continue
        after = found["after"]["primary"]
        if "change" in found:
            before = found["before"]["primary"]["masked_mse"]["mean"]
            change = found["change"]["primary"]["masked_mse"]["relative"]
            low, high = change.get("low"), change.get("high")
            interval = f" (95 %: {low:+.1%} to {high:+.1%})" if low is not None and high is not None else ""
            lines.append(
                f"held-out masked error, {stage}: {before:.5f} -> {after['masked_mse']['mean']:.5f}, "
                f"{change['mean']:+.1%}{interval}"
            )
        else:
            degraded = after["input_masked_mse"]["mean"]
            given = "" if degraded is None else f"{degraded:.5f} -> "  # generated images have no input
            lines.append(f"held-out masked error, {stage}: {given}{after['masked_mse']['mean']:.5f}")
    return [*lines, f"report: {report}"]
