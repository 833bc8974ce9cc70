"""Held-out tables of the report, from `stages.<stage>.heldout.<sampler>` of summary.json.

Called by `report_page.py`. Pure. Numbers that are absent show as a dash, and columns without a number are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from burnish.rollouts.report_charts import number

_STAGES = {"sft": "SFT", "grpo": "GRPO", "nft": "NFT"}
_SAMPLERS = {"ode": "Deployment sampler (ODE)", "sde": "Training sampler (SDE)"}
_GOLD = {"edge_ratio": "edge energy", "glyph_accuracy": "text read", "outside_mse": "outside error"}


_Row = tuple[str, str, list[Mapping[str, Any]]]
"""CSS class, name, and [before, after, change] figures by metric."""


@dataclass(frozen=True)
class StageFigure:
    """One bar of the headline: held-out masked error after a stage (or of the degraded input)."""

    label: str
    value: float
    n: int
    change: Mapping[str, Any] | None = None


def percent(value: float | None) -> str:
    """A signed percentage with one decimal: 0.081 -> +8.1 %."""
    return "–" if value is None or value != value else f"{100 * value:+.1f} %".replace("-", "−")


def _get(tree: Mapping[str, Any], *path: str) -> Any:
    node: Any = tree
    for key in path:
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def _ordered(stages: Mapping[str, Any]) -> list[str]:
    return [*(s for s in _STAGES if s in stages), *(s for s in stages if s not in _STAGES)]


def stage_figures(stages: Mapping[str, Any], sampler: str) -> list[StageFigure]:
    """Degraded input, then each evaluated stage, over the primary set; the change is that of the stage itself."""
    figures: list[StageFigure] = []
    for stage in _ordered(stages):
        held = _get(stages, stage, "heldout", sampler) or {}
        after = _get(held, "after", "primary", "masked_mse")
        degraded = _get(held, "after", "primary", "input_masked_mse")
        if not after or after.get("mean") is None:
            continue
        if not figures and degraded and degraded.get("mean") is not None:
            figures.append(StageFigure("degraded input", degraded["mean"], degraded["n"]))
        if len(figures) == 1 and stage != "sft":
            before = _get(held, "before", "primary", "masked_mse")
            if before and before.get("mean") is not None:
                figures.append(StageFigure("start", before["mean"], before["n"]))
        change = _get(held, "change", "primary", "masked_mse", "relative")
        figures.append(StageFigure(_STAGES.get(stage, stage), after["mean"], after["n"], change))
    return figures


@dataclass(frozen=True)
class _Column:
    """A header and how to read its cell from a row's (before, after, change) figures by metric."""

    header: str
    cell: Callable[[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]], str]


def _mean(metric: str, which: str) -> Callable[..., str]:
    def cell(before: Mapping[str, Any], after: Mapping[str, Any], change: Mapping[str, Any]) -> str:
        return number(_get(before if which == "before" else after, metric, "mean"))

    return cell


def _arrow(metric: str) -> Callable[..., str]:
    """Before and after in one cell, the latter alone where there is no before."""

    def cell(before: Mapping[str, Any], after: Mapping[str, Any], change: Mapping[str, Any]) -> str:
        old, new = number(_get(before, metric, "mean")), number(_get(after, metric, "mean"))
        return new if old == "–" else f"{old} → {new}"

    return cell


def _relative(before: Mapping[str, Any], after: Mapping[str, Any], change: Mapping[str, Any]) -> str:
    found = _get(change, "masked_mse", "relative") or {}
    if found.get("mean") is None:
        return "–"
    css = "good" if found["mean"] < 0 else "bad"
    return f'<span class="{css}">{percent(found["mean"])}</span>'


def _interval(before: Mapping[str, Any], after: Mapping[str, Any], change: Mapping[str, Any]) -> str:
    found = _get(change, "masked_mse", "relative") or {}
    return "–" if found.get("low") is None else f"{percent(found['low'])[:-2]} to {percent(found['high'])}"


def _count(before: Mapping[str, Any], after: Mapping[str, Any], change: Mapping[str, Any]) -> str:
    return str(_get(after, "masked_mse", "n") or 0)


def _columns(stage: str, has_before: bool) -> list[_Column]:
    label = _STAGES.get(stage, stage)
    columns = [_Column("n", _count), _Column("degraded input", _mean("input_masked_mse", "after"))]
    if has_before:
        columns.append(_Column(f"before {label}", _mean("masked_mse", "before")))
    columns.append(_Column(f"after {label}", _mean("masked_mse", "after")))
    columns.append(_Column("pasted", _mean("masked_mse_pasted", "after")))
    if has_before:
        columns += [_Column("change", _relative), _Column("95 % interval", _interval)]
    return columns + [_Column(name, _arrow(metric)) for metric, name in _GOLD.items()]


def _rows(held: Mapping[str, Any]) -> list[_Row]:
    """(css class, name, [before, after, change]) of the primary set, every source and every scene."""
    parts = [held.get("before") or {}, held.get("after") or {}, held.get("change") or {}]
    rows: list[_Row] = [("primary", "primary set", [p.get("primary") or {} for p in parts])]
    for level in ("sources", "scenes"):
        for name in _get(parts[1], level) or {}:
            rows.append(("", name.replace("_", " "), [_get(p, level, name) or {} for p in parts]))
    return rows


def _table(title: str, columns: Sequence[_Column], rows: Sequence[_Row]) -> str:
    cells = [[column.cell(*figures) for column in columns] for _, _, figures in rows]
    kept = [i for i in range(len(columns)) if any(row[i] != "–" for row in cells)]
    head = "".join(f'<th scope="col">{escape(columns[i].header)}</th>' for i in kept)
    body = []
    for (css, name, _), row in zip(rows, cells, strict=True):
        shown = "".join(f"<td>{row[i]}</td>" for i in kept)
        body.append(f'<tr class="{css}"><th scope="row">{escape(name)}</th>{shown}</tr>')
    return (
        f'<div class="scroll" role="region" aria-label="{escape(title)}" tabindex="0"><table>'
        f'<caption>{escape(title)}</caption><thead><tr><th scope="col">examples</th>{head}'
        f"</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _breakdown(held: Mapping[str, Any], label: str) -> str:
    """Masked error of the input, before and after by one label of the primary set."""
    parts = [held.get("before") or {}, held.get("after") or {}, {}]
    names = _get(parts[1], "breakdown", label) or {}
    rows: list[_Row] = [
        ("", str(n).replace("_", " "), [_get(p, "breakdown", label, n) or {} for p in parts]) for n in names
    ]
    columns = [
        _Column("n", _count),
        _Column("degraded input", _mean("input_masked_mse", "after")),
        _Column("before", _mean("masked_mse", "before")),
        _Column("after", _mean("masked_mse", "after")),
    ]
    return _table(f"Masked error by {label}", columns, rows) if len(rows) > 1 else ""


def heldout_tables(stages: Mapping[str, Any]) -> str:
    """All stages' tables: the last stage under the deployment sampler open, the others behind folds."""
    found = []
    for stage in reversed(_ordered(stages)):
        for sampler in _SAMPLERS:
            held = _get(stages, stage, "heldout", sampler)
            if held and held.get("after"):
                title = f"{_STAGES.get(stage, stage)} · {_SAMPLERS[sampler]}"
                table = _table(
                    f"{title}: masked error and gold metrics", _columns(stage, bool(held.get("before"))), _rows(held)
                )
                extra = "".join(_breakdown(held, label) for label in ("degradation", "references"))
                found.append(
                    (
                        title,
                        table
                        + (f"<details><summary>By defect and references</summary>{extra}</details>" if extra else ""),
                    )
                )
    if not found:
        return ""
    folds = "".join(f"<details><summary>{escape(t)}</summary>{body}</details>" for t, body in found[1:])
    return f'<div class="card">{found[0][1]}{folds}</div>'
