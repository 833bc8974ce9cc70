"""The report's timeline: who worked when in the last iterations, and how long each role waited in all of them.

Called by `report_page.py` with the events of trace.json. Pure functions from events to text; like the other charts it
is inline SVG without a script, with its numbers as a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from burnish.rollouts.report_charts import nice_ticks, number

LANES = ("rollout", "reward", "learner", "driver")
COLOURS = ("sample", "score", "learn", "sync", "commit", "evaluate")
"""Name of a span -> its colour's place."""
SHOWN = 4
"""Iterations of the drawing; the table is over all of them."""
WIDTH, LEFT, RIGHT, TOP, LANE, BOTTOM = 1100, 70, 12, 20, 34, 36
_BAR = 22


@dataclass(frozen=True)
class Span:
    """Work or idleness of a lane in an iteration (counted from 0): seconds since the epoch."""

    lane: str
    name: str
    iteration: int
    start: float
    end: float


def read_spans(events: Sequence[Mapping[str, Any]], stage: str = "grpo") -> list[Span]:
    """The spans of a stage's events as `trace.json` has them; other events are passed over."""
    found = []
    for event in events:
        args = event.get("args") or {}
        if event.get("ph") == "X" and event.get("cat") == stage and "lane" in args:
            start = float(event["ts"]) / 1e6
            end = start + float(event["dur"]) / 1e6
            found.append(Span(str(args["lane"]), str(event["name"]), int(args["iteration"]), start, end))
    return found


def timeline(events: Sequence[Mapping[str, Any]]) -> str:
    """Drawing, legend and table of GRPO's iterations; empty text where none is there."""
    spans = read_spans(events)
    wholes = [span for span in spans if span.name == "iteration"]
    if not wholes:
        return ""
    shown = wholes[-SHOWN:]
    names = [name for name in COLOURS if any(s.name == name for s in spans)]
    items = "".join(f'<li class="s{COLOURS.index(name)}">{name}</li>' for name in names)
    return (
        f'<figure class="card wide"><h3>The last {len(shown)} iterations</h3>'
        f'<span class="small">seconds; a lane without colour is idle</span><ul class="legend">{items}</ul>'
        f'<div class="scroll">{_draw(spans, shown)}</div>'
        f'<div class="scroll">{_table(spans, wholes)}</div></figure>'
    )


def _draw(spans: Sequence[Span], shown: Sequence[Span]) -> str:
    since, until = shown[0].start, max(span.end for span in shown)
    scale = (WIDTH - LEFT - RIGHT) / max(until - since, 1e-9)
    height = TOP + LANE * len(LANES) + BOTTOM

    def x(moment: float) -> float:
        return LEFT + (min(max(moment, since), until) - since) * scale

    marks = []
    for index, lane in enumerate(LANES):
        top = TOP + LANE * index + (LANE - _BAR) / 2
        marks.append(f'<rect class="lane" x="{LEFT}" y="{top:g}" width="{WIDTH - LEFT - RIGHT}" height="{_BAR}"/>')
        marks.append(f'<text class="name" x="{LEFT - 8}" y="{top + 15:g}" text-anchor="end">{lane}</text>')
        for span in (s for s in spans if s.lane == lane and s.name in COLOURS and s.end > since and s.start < until):
            wide = max(x(span.end) - x(span.start), 1.2)
            tip = f"{span.name}, iteration {span.iteration + 1}: {number(span.end - span.start)} s"
            marks.append(
                f'<rect class="span s{COLOURS.index(span.name)}" x="{x(span.start):.1f}" y="{top:g}" '
                f'width="{wide:.1f}" height="{_BAR}"><title>{escape(tip)}</title></rect>'
            )
    marks += _axis(shown, x, since, until, height)
    label = f"Timeline of the last {len(shown)} iterations, {number(until - since)} seconds"
    picture = f'<svg class="time" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">'
    return f"{picture}{''.join(marks)}</svg>"


def _axis(shown: Sequence[Span], x: Any, since: float, until: float, height: int) -> list[str]:
    marks, base = [], height - BOTTOM
    for whole in shown:
        middle = (x(whole.start) + x(whole.end)) / 2
        marks.append(f'<line class="event" x1="{x(whole.start):.1f}" x2="{x(whole.start):.1f}" y1="6" y2="{base}"/>')
        text = f"{whole.iteration + 1}" if x(whole.end) - x(whole.start) < 80 else f"iteration {whole.iteration + 1}"
        marks.append(f'<text class="eventno" x="{middle:.1f}" y="14" text-anchor="middle">{text}</text>')
    for tick in nice_ticks(0.0, until - since, count=8):
        place = x(since + tick)
        marks.append(f'<text class="tick" x="{place:.1f}" y="{base + 15}" text-anchor="middle">{tick:g}</text>')
    marks.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    marks.append(f'<text class="name" x="{(LEFT + WIDTH) / 2}" y="{base + 31}" text-anchor="middle">seconds</text>')
    return marks


def _table(spans: Sequence[Span], wholes: Sequence[Span]) -> str:
    total, rows = sum(w.end - w.start for w in wholes), []
    for lane in LANES[:3]:
        idle = sum(s.end - s.start for s in spans if s.lane == lane and s.name == "idle")
        share = f"{idle / total:.0%}" if total > 0 else "–"
        cells = f"<td>{number((total - idle) / len(wholes))}</td><td>{number(idle / len(wholes))}</td><td>{share}</td>"
        rows.append(f'<tr><th scope="row">{lane}</th>{cells}</tr>')
    heads = "".join(f'<th scope="col">{text}</th>' for text in ("busy, s an iteration", "idle, s", "idle, share"))
    caption = f"All {len(wholes)} iterations; {number(total / len(wholes))} s each"
    return (
        f'<table><caption>{escape(caption)}</caption><thead><tr><th scope="col">role</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
