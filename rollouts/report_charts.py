"""Line charts as inline SVG, drawn by hand: no library, no script, readable in light and dark.

Called by `report_page.py`. Pure functions from numbers to text; colours come from the page's style sheet, so a chart
names classes only. Each chart has a title for screen readers and a table of its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]

WIDTH, HEIGHT = 420, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 14, 34
MAX_POINTS = 300
MAX_ROWS = 24
SMOOTHED_FROM = 25


@dataclass(frozen=True)
class Series:
    """One line: a label and (x, y) points in order of x; points that are not finite are left out."""

    label: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Event:
    """Something that happened at a step: a vertical line, numbered in the order of the list."""

    step: float
    label: str


@dataclass(frozen=True)
class Chart:
    """One chart.

    Args:
        title: what is shown; y_label: its unit; x_label: what steps are.
        series: at least one line; at most six can be told apart.
        log: logarithmic y axis, where all values are positive.
        guide: a horizontal line at a value that means something, for example 1 = perfect.
        caption: one sentence that says how to read it.
    """

    title: str
    y_label: str
    series: tuple[Series, ...]
    x_label: str = "iteration"
    log: bool = False
    guide: float | None = None
    caption: str = ""


def number(value: float | None, *, digits: int = 3) -> str:
    """A number with `digits` significant digits; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    if value != 0 and not 1e-4 <= abs(value) < 1e5:
        return f"{value:.{digits - 1}e}"
    decimals = digits - 1 - (math.floor(math.log10(abs(value))) if value else 0)
    return f"{value:,.{max(0, min(decimals, 6))}f}"


def nice_ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """Round values inside [low, high], about `count` of them, in steps of 1, 2, 2.5 or 5 times a power of ten."""
    rough = max(high - low, 1e-12) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten inside [low, high], with 2 and 5 times them where there are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1,) if math.log10(high / low) > 2.5 else (1, 2, 5)
    return [m * 10.0**p for p in powers for m in steps if low <= m * 10.0**p <= high * (1 + 1e-9)]


def thin(points: Sequence[Point], *, limit: int = MAX_POINTS) -> list[Point]:
    """At most `limit` points, each the mean of its bucket."""
    size = -(-len(points) // limit) if points else 1
    buckets = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in b) / len(b), sum(y for _, y in b) / len(b)) for b in buckets]


def smooth(points: Sequence[Point]) -> list[Point]:
    """Centred mean over about an eighth of the points, at least three; one-sided at both ends."""
    half = max(1, len(points) // 16)
    parts = [points[max(0, i - half) : i + half + 1] for i in range(len(points))]
    return [(points[i][0], sum(y for _, y in part) / len(part)) for i, part in enumerate(parts)]


@dataclass(frozen=True)
class _Frame:
    """Maps data to pixels."""

    x: tuple[float, float]
    y: tuple[float, float]
    log: bool

    def place(self, point: Point) -> tuple[float, float]:
        low, high, value = (*self.y, point[1])
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        across = (point[0] - self.x[0]) / (self.x[1] - self.x[0])
        up = (value - low) / (high - low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)


def _finite(series: Series) -> list[Point]:
    return [p for p in series.points if math.isfinite(p[0]) and math.isfinite(p[1])]


def _frame(chart: Chart, points: Sequence[Point]) -> _Frame:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    ys += [] if chart.guide is None else [chart.guide]
    log = chart.log and min(ys) > 0
    low, high = min(ys), max(ys) or (1.0 if min(ys) == 0 else 0.0)
    pad = (high - low) * 0.06 or max(abs(high) * 0.1, 1e-6)
    if log:
        low, high = low / 1.12, high * 1.12
    else:
        low = 0.0 if 0 <= low < 0.35 * high else low - pad
        high = high + pad
    right = max(xs) if max(xs) > min(xs) else min(xs) + 1
    return _Frame((min(xs), right), (low, high), log)


def _axes(chart: Chart, frame: _Frame) -> list[str]:
    marks = []
    for tick in log_ticks(*frame.y) if frame.log else nice_ticks(*frame.y):
        _, y = frame.place((frame.x[0], tick))
        label = f"{tick:.3g}".replace("e-0", "e-").replace("e+0", "e")
        marks.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        marks.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{label}</text>')
    for tick in nice_ticks(*frame.x):
        x, _ = frame.place((tick, frame.y[1]))
        if tick == int(tick):
            marks.append(f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 19}" text-anchor="middle">{tick:g}</text>')
    base = HEIGHT - BOTTOM
    marks.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    marks.append(
        f'<text class="name" x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{escape(chart.x_label)}</text>'
    )
    return marks


def _path(points: Sequence[Point], frame: _Frame, css: str) -> str:
    places = [frame.place(p) for p in points]
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    return f'<path class="{css}" d="M{steps}"/>'


def _line(series: Series, index: int, frame: _Frame) -> list[str]:
    every = _finite(series)
    points, css = thin(every), f"s{index % 6}"
    if not points:
        return []
    if len(points) >= SMOOTHED_FROM:
        return [_path(points, frame, f"line faint {css}"), _path(smooth(points), frame, f"line {css}")]
    marks = [_path(points, frame, f"line {css}")]
    for point in points:
        x, y = frame.place(point)
        tip = f"{escape(series.label)}: {number(point[1])} at {point[0]:g}"
        marks.append(f'<circle class="dot {css}" cx="{x:.1f}" cy="{y:.1f}" r="2.6"><title>{tip}</title></circle>')
    return marks


def _events(events: Sequence[Event], frame: _Frame) -> list[str]:
    marks = []
    for index, event in enumerate(events, start=1):
        if frame.x[0] <= event.step <= frame.x[1]:
            x, _ = frame.place((event.step, frame.y[1]))
            marks.append(f'<line class="event" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
            marks.append(
                f'<text class="eventno" x="{x:.1f}" y="{TOP - 3}" text-anchor="middle">{index}'
                f"<title>{escape(event.label)}</title></text>"
            )
    return marks


def draw(chart: Chart, events: Sequence[Event] = ()) -> str:
    """The chart as an `<svg>` element, empty text where no series has a finite point."""
    points = [p for s in chart.series for p in _finite(s)]
    if not points:
        return ""
    frame = _frame(chart, points)
    marks = _axes(chart, frame)
    if chart.guide is not None:
        _, y = frame.place((frame.x[0], chart.guide))
        marks.append(f'<line class="guide" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
    marks += _events(events, frame)
    for index, series in enumerate(chart.series):
        marks += _line(series, index, frame)
    ends = "; ".join(f"{s.label} {number(p[0][1])} to {number(p[-1][1])}" for s in chart.series if (p := _finite(s)))
    label = f"{chart.title}, {chart.y_label} by {chart.x_label}: {ends}"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(marks)}</svg>'


def data_table(chart: Chart) -> str:
    """The chart's numbers as an HTML table; a long series is thinned to about MAX_ROWS rows."""
    columns = [dict(_finite(s)) for s in chart.series]
    steps = sorted({x for column in columns for x in column})
    stride = max(1, -(-len(steps) // MAX_ROWS))
    kept = [x for i, x in enumerate(steps) if i % stride == 0 or i == len(steps) - 1]
    head = "".join(f'<th scope="col">{escape(s.label)}</th>' for s in chart.series)
    rows = []
    for x in kept:
        cells = "".join(f"<td>{number(column.get(x))}</td>" for column in columns)
        rows.append(f'<tr><th scope="row">{x:g}</th>{cells}</tr>')
    caption = f"{chart.title} ({chart.y_label})" + (f", every {stride}th step" if stride > 1 else "")
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>"
        f'<th scope="col">{escape(chart.x_label)}</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    )
