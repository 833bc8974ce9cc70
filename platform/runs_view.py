"""Text and JSON of `burnish runs list | show | compare`: reads run directories, changes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from burnish.platform.console import number, table
from burnish.platform.journal import Journal
from burnish.platform.runs import Run, RunInfo


def list_text(infos: list[RunInfo]) -> str:
    """One line a run: id, status, when."""
    if not infos:
        return "no runs yet; start one with `burnish train`"
    return table(["run", "status", "created (UTC)"], [[i.id, i.status, i.created] for i in infos])


def show(run: Run) -> dict[str, Any]:
    """What is known of a run: run.json, its summary if it has ended, the last metrics line of each stage."""
    tree: dict[str, Any] = {"run": asdict(run.info), "path": str(run.path)}
    summary = read_summary(run.path)
    if summary:
        tree["summary"] = summary
    last: dict[str, Any] = {}
    for entry in Journal(run.path / "metrics.jsonl").tail():
        last[str(entry.get("stage", ""))] = entry
    tree["last_metrics"] = last
    return tree


def show_text(tree: Mapping[str, Any]) -> str:
    """`show` as indented lines of name and value."""
    return "\n".join(_lines(tree, 0))


def compare(first: Run, second: Run) -> list[tuple[str, Any, Any]]:
    """(name, first, second) of every number or word of the two summaries, recipes' digests and seeds first."""
    left, right = (_comparable(run) for run in (first, second))
    names = [*left, *(name for name in right if name not in left)]
    return [(name, left.get(name), right.get(name)) for name in names]


def compare_text(rows: list[tuple[str, Any, Any]], names: tuple[str, str]) -> str:
    """`compare` as a table; a star marks what differs."""
    shown = [["*" if a != b else " ", name, _short(a), _short(b)] for name, a, b in rows]
    return table(["", "", *names], shown)


def read_summary(path: Path) -> dict[str, Any]:
    """summary.json of a run directory, {} where there is none yet or it is not readable."""
    try:
        tree = json.loads((path / "summary.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}


def _comparable(run: Run) -> dict[str, Any]:
    info = run.info
    head = {"recipe": info.recipe, "seed": info.seed, "config_digest": info.config_digest, "status": info.status}
    return {**head, **_flat(read_summary(run.path), "")}


def _flat(tree: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found.update(_flat(value, f"{path}."))
        elif path != "run_id":
            found[path] = value
    return found


def _lines(tree: Mapping[str, Any], depth: int) -> list[str]:
    lines = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            lines += [f"{'  ' * depth}{key}", *_lines(value, depth + 1)]
        else:
            lines.append(f"{'  ' * depth}{key}  {number(value)}")
    return lines


def _short(value: object) -> str:
    text = number(value)
    return text if len(text) <= 24 else f"{text[:23]}…"
