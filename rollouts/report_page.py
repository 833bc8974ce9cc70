"""The page of the report: sections from plain data to HTML text.

Called by `report.write_report` alone. Pure; every text from outside goes through `escape`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from burnish.rollouts.report_charts import Chart, Event, data_table, draw, number
from burnish.rollouts.report_curves import build_charts
from burnish.rollouts.report_gallery import gallery
from burnish.rollouts.report_style import STYLE
from burnish.rollouts.report_tables import heldout_tables, percent, stage_figures
from burnish.rollouts.report_timeline import timeline

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STAGE_TITLES = {"sft": "Supervised fine-tuning", "grpo": "Reinforcement learning (GRPO)"}
_GALLERY_NOTE = (
    "Held-out examples, chosen by order and never by result. Below each frame the region alone; numbers are its masked "
    "error. Outputs are shown before paste-back."
)
_TABLE_NOTE = (
    "The primary set is the drawn examples; its intervals resample what was drawn. Photographs are a few scenes, so "
    "they have no interval. Pasted: after paste-back. Edge energy and text read are gold metrics, best at 1, that no "
    "reward trains on."
)
_TIMELINE_NOTE = "What each role did when, as trace.json has it: the file opens in Perfetto and in chrome://tracing."
_PHASES = ("sample", "score", "learn", "sync", "other")


def section(title: str, body: str, *, note: str = "") -> str:
    """A titled section, empty text where there is nothing in it."""
    if not body:
        return ""
    below = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{below}{body}</section>"


def _bar(label: str, value: float, widest: float, comment: str, last: bool) -> str:
    share = 100 * value / widest if widest > 0 else 0
    return (
        f'<dt>{escape(label)}</dt><dd{" class=last" if last else ""}><span class="track">'
        f'<i style="width:{share:.1f}%"></i></span><b>{number(value)}</b><span>{comment}</span></dd>'
    )


def _claim(stages: Mapping[str, Any]) -> tuple[str, str]:
    """(headline as HTML, sentence below it) from the held-out figures under the deployment sampler."""
    figures = stage_figures(stages, "ode") or stage_figures(stages, "sde")
    if len(figures) < 2:
        return "No held-out evaluation yet", "The headline appears when the first stage has been evaluated."
    first, last = figures[0], figures[-1]
    below = (
        f"Held-out masked error (mean squared error inside the region, before paste-back), {last.n} examples the run "
        f"never trained on, under the sampler that is deployed: lower is better."
    )
    change = last.change
    if len(figures) < 3 or change is None or change["mean"] is None:
        share = 1 - last.value / first.value if first.value > 0 else 0.0
        return f"{escape(last.label)} removes <em>{100 * share:.0f} %</em> of the degraded input's error", below
    return f"{escape(last.label)} {_effect(change)}", below


def _effect(change: Mapping[str, Any]) -> str:
    """What a relative change with its interval says: lowers, raises, or cannot be told from 0."""
    mean, low, high = change["mean"], change.get("low"), change.get("high")
    if low is None or high is None:
        return f"changed the held-out error by {percent(mean)}"
    if low <= 0 <= high:
        between = f"95 % interval {percent(low)} to {percent(high)}"
        return f"changed the held-out error by {percent(mean)}, not clear of 0 <small>{between}</small>"
    ends = sorted((abs(low), abs(high)))
    verb = "lowers" if high < 0 else "raises"
    interval = f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"
    return f"{verb} the held-out error by <em>{100 * abs(mean):.1f} %</em> <small>95 % interval {interval} %</small>"


def hero(run_id: str, summary: Mapping[str, Any]) -> str:
    """Name of the run, the headline, and one bar each for the input and every stage."""
    stages = summary.get("stages") or {}
    figures = stage_figures(stages, "ode") or stage_figures(stages, "sde")
    title, below = _claim(stages)
    widest = max((f.value for f in figures), default=0.0)
    bars = []
    for index, figure in enumerate(figures):
        comment = ""
        if index:
            before = figures[index - 1].value
            relative = figure.value / before - 1 if before > 0 else math.nan
            css = "good" if relative < 0 else "bad"
            comment = f'<span class="{css}">{percent(relative)}</span> against {escape(figures[index - 1].label)}'
        bars.append(_bar(figure.label, figure.value, widest, comment, index == len(figures) - 1))
    status = f'<span class="pill">{escape(str(summary["status"]))}</span>' if summary.get("status") else ""
    return (
        f'<header><div><div class="brand"><b>burnish</b> run report <code>{escape(run_id)}</code>{status}</div>'
        f'<h1>{title}</h1><p class="lead">{escape(below)}</p><dl class="bars">{"".join(bars)}</dl></div></header>'
    )


def warning_box(warnings: Sequence[str]) -> str:
    """A box that lists warnings, empty text where there is none."""
    lines = "".join(f"<li>{escape(w)}</li>" for w in warnings)
    count = f"{len(warnings)} warning{'s' if len(warnings) > 1 else ''}"
    return f'<aside class="card warn"><h3>{count}</h3><ul>{lines}</ul></aside>' if warnings else ""


def chart_card(chart: Chart, events: Sequence[Event]) -> str:
    """One chart with title, legend, caption and its numbers as a table."""
    picture = draw(chart, events)
    if not picture:
        return ""
    items = "".join(f'<li class="s{i % 6}">{escape(s.label)}</li>' for i, s in enumerate(chart.series))
    legend = f'<ul class="legend">{items}</ul>' if len(chart.series) > 1 else ""
    unit = f'<span class="small">{escape(chart.y_label)}{", log scale" if chart.log else ""}</span>'
    return (
        f'<figure class="card"><h3>{escape(chart.title)}</h3>{unit}{legend}{picture}'
        f"<figcaption>{escape(chart.caption)}</figcaption>"
        f'<details><summary>Numbers</summary><div class="scroll">{data_table(chart)}</div></details></figure>'
    )


def curves(metrics: Sequence[Mapping[str, Any]], events: Sequence[Event]) -> str:
    """Every stage's charts, the rest behind a fold; events are marked in the last stage's."""
    parts = []
    for stage, (charts, more) in build_charts(metrics).items():
        marked = () if stage == "sft" else events
        cards = "".join(chart_card(c, marked) for c in charts)
        listed = "".join(f"<li>iteration {e.step:g}: {escape(e.label)}</li>" for e in marked)
        legend = f'<ol class="events" aria-label="Events in the curves">{listed}</ol>' if listed else ""
        rest = "".join(chart_card(c, marked) for c in more)
        fold = f'<details><summary>More metrics ({len(more)})</summary><div class="charts">{rest}</div></details>'
        body = f'{legend}<div class="charts">{cards}</div>{fold if rest else ""}'
        parts.append(section(_STAGE_TITLES.get(stage, stage), body if cards or rest else ""))
    return "".join(parts)


def timing(summary: Mapping[str, Any]) -> str:
    """Where the seconds went: one stacked bar with its legend in numbers."""
    seconds = {k: float(v) for k, v in (summary.get("timing") or {}).items() if isinstance(v, int | float) and v >= 0}
    wall = seconds.pop("wall", None)
    if wall is not None:  # what is in no phase: start, fine-tuning's evaluation, the report
        seconds["around"] = max(0.0, wall - sum(seconds.values()))
    total = sum(seconds.values())
    if total <= 0:
        return ""
    order = [*(p for p in _PHASES if p in seconds), *(k for k in seconds if k not in _PHASES)]
    shades = {k: "idle" if k == "around" else f"s{i % 6}" for i, k in enumerate(order)}
    bar = "".join(f'<i class="{shades[k]}" style="width:{100 * seconds[k] / total:.2f}%"></i>' for k in order)
    items = "".join(
        f'<li class="{shades[k]}">{escape(k)} {seconds[k]:.1f} s ({seconds[k] / total:.0%})</li>' for k in order
    )
    label = f"{total:.0f} seconds: " + ", ".join(f"{k} {seconds[k] / total:.0%}" for k in order)
    body = f'<div class="stack" role="img" aria-label="{escape(label)}">{bar}</div><ul class="legend">{items}</ul>'
    return section("Time", f'<div class="card">{body}</div>', note=f"{total:.0f} seconds in all.")


def run_facts(summary: Mapping[str, Any], facts: Mapping[str, str]) -> str:
    """Digests, versions, counts and the command, as a list of name and value."""
    keys = ("command", "reproducible", "config_digest", "policy_digest", "state_digest")
    rows = {k: summary[k] for k in keys if summary.get(k) is not None}
    rows |= {f"{k}": v for k, v in (summary.get("counts") or {}).items()} | dict(facts)
    items = []
    for name, value in rows.items():
        shown = {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value
        wide = ' class="wide"' if len(str(shown)) > 30 else ""
        label = name.replace("_", " ")
        items.append(f"<div{wide}><dt>{escape(label)}</dt><dd><code>{escape(str(shown))}</code></dd></div>")
    return section("Run", f'<div class="card"><dl class="facts">{"".join(items)}</dl></div>' if items else "")


def page(
    *,
    run_id: str,
    summary: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    events: Sequence[Event],
    pictures: Sequence[Any],
    facts: Mapping[str, str],
    warnings: Sequence[str],
    trace: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The whole page; arguments as the fields of `report.ReportData`."""
    stages = summary.get("stages") or {}
    body = [
        warning_box(warnings),
        section("Before and after", gallery(pictures), note=_GALLERY_NOTE),
        section("Held-out results", heldout_tables(stages), note=_TABLE_NOTE),
        curves(metrics, events),
        timing(summary),
        section("Timeline", timeline(trace), note=_TIMELINE_NOTE),
        run_facts(summary, facts),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{escape(run_id)} · burnish</title><style>{STYLE}</style></head><body>"
        f"{hero(run_id, summary)}<main>{''.join(body)}</main>"
        "<footer><div>One file, no outside request. Written by burnish from summary.json, metrics.jsonl and images/."
        "</div></footer></body></html>\n"
    )
