"""A run's rewards as text within 80 columns. Called by `burnish rewards` and `burnish runs show RUN --rewards`."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from burnish.platform.console import WIDTH, number, table
from burnish.platform.rewards_view import weight_text

Entry = Mapping[str, Any]
DIGEST = 8
"""Shown characters of a digest; --json has all of them."""


def history_text(found: Entry) -> str:
    """What `rewards_view.rewards_of` found: rubrics, present rewards, shadows, refused changes, and whether it fits."""
    if not found["rubrics"]:
        return "the journal names no rubric: no GRPO iteration began, or an older burnish ran it"
    parts = [_rubrics_table(found["rubrics"]), _rewards_table(found["rewards"])]
    if found["shadows"]:
        parts.append(_shadows_table(found["shadows"]))
    refused = [change for change in found["changes"] if change["state"] == "refused"]
    if refused:
        parts.append("\n".join(["refused", *(_bullet(change_text(change)) for change in refused)]))
    if found["mixed"]:
        where = ", ".join(map(str, found["mixed"]))
        parts.append(_bullet(f"WARNING: not scored by the rubric that holds for them: iterations {where}"))
    else:
        parts.append(f"{found['iterations_scored']} iterations scored, each by the rubric that holds for it alone")
    return "\n\n".join(parts)


def status_text(status: Entry) -> str:
    """A status, of the control API or of `rewards_view.status_of`: present rewards, shadows and all changes."""
    rubric = status["rubric"]
    if rubric is None:
        return f"run {status['run']}: no rubric yet, GRPO has not begun"
    where = f"iteration {status['iteration']}, rubric {_version(rubric)}"
    parts = [f"run {status['run']}\n{where}", _rewards_table([*status["rewards"], *status["shadows"]])]
    if status["changes"]:
        parts.append("\n".join(["changes", *(_bullet(change_text(change)) for change in status["changes"])]))
    return "\n\n".join(parts)


def change_text(change: Entry) -> str:
    """A change in a line: what, how far it got, from which iteration or why not."""
    came = (change.get("spec") or {}).get("name", "")
    name = (came or change["name"]) if change["action"] in ("add", "shadow") else change["name"]
    if change["action"] == "swap" and came not in ("", name):
        name = f"{name} -> {came}"
    text = f"{change['action']} {name}".strip() + f": {change['state']}"
    if change["state"] in ("active", "shadowing") and change.get("iteration") is not None:
        text += f" from iteration {change['iteration']}"
    return f"{text}: {change['reason']}" if change.get("reason") else text


def kinds_text(kinds: Sequence[Entry]) -> str:
    """The table of reward kinds."""
    rows = [
        [
            kind["kind"],
            "larger" if kind["direction"] > 0 else "smaller",
            f"{kind['range'][0]:g} to {kind['range'][1]:g}",
            "yes" if kind["needs_weights"] else "no",
            "yes" if kind["remote"] else "no",
        ]
        for kind in kinds
    ]
    return table(["kind", "better", "range", "weight files", "remote"], rows)


def _rubrics_table(rows: Sequence[Entry]) -> str:
    left = [[_span(row), _version(row)] for row in rows]
    what_width = min(24, max(len(row["what"]) for row in rows))
    used = sum(max(len(r[column]) for r in [["iterations", "rubric"], *left]) + 2 for column in (0, 1))
    widths = (what_width, max(16, WIDTH - used - what_width - 2))
    cells = []
    for head, row in zip(left, rows, strict=True):
        texts = [_folded(text, width) for text, width in zip((row["what"], row["why"]), widths, strict=True)]
        for line in range(max(len(text) for text in texts)):
            cells.append([*(head if line == 0 else ["", ""]), *(t[line] if line < len(t) else "" for t in texts)])
    return table(["iterations", "rubric", "what changed", "why"], cells)


def _rewards_table(rewards: Sequence[Entry]) -> str:
    header = ["reward", "kind", "weight", "version", ""]
    return table(header, [[r["name"], r["kind"], weight_text(r), _version(r), _mark(r)] for r in rewards])


def _shadows_table(shadows: Sequence[Entry]) -> str:
    rows = [
        [
            shadow["name"],
            _version(shadow),
            shadow["against"] or "the total",
            f"{shadow['first']} on" if shadow["state"] == "shadow" else f"{shadow['first']}, ended",
            str(shadow["iterations"]),
            *("-" if shadow[key] is None else number(shadow[key]) for key in ("mean", "rank_correlation")),
        ]
        for shadow in shadows
    ]
    return table(["shadow", "version", "against", "from", "scored", "mean", "rank corr."], rows)


def _mark(reward: Entry) -> str:
    return "gold" if reward.get("gold") else "shadow" if reward["state"] != "active" else ""


def _span(row: Entry) -> str:
    first, last = row["first"], row["last"]
    if last is None:
        return f"{first}-"
    return "overtaken" if last < first else str(first) if last == first else f"{first}-{last}"


def _version(entry: Entry) -> str:
    return f"{entry['version']} {entry['digest'][:DIGEST]}"


def _folded(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width) or [""]


def _bullet(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="    ")
