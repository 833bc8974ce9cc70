"""Which metric goes into which chart of the report.

The table below is all there is to edit when a metric is added. It reads lines of metrics.jsonl: one object a step with
`stage`, `step` and flat numbers; a number that no chart claims still gets a small one under "more". Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from burnish.rollouts.report_charts import Chart, Series


@dataclass(frozen=True)
class Curve:
    """One chart of the report.

    Args:
        stage: stage of the metrics, "*" = any.
        keys: patterns of metric names (fnmatch); each match is one line.
        title, y_label, log, guide, caption: see `Chart`.
        split: a chart of its own for each match, because their scales differ.
    """

    stage: str
    keys: tuple[str, ...]
    title: str
    y_label: str
    log: bool = False
    guide: float | None = None
    caption: str = ""
    split: bool = False


CURVES = (
    Curve("sft", ("loss",), "Fine-tuning loss", "flow-matching loss", log=True, caption="Supervised stage."),
    Curve(
        "sft", ("dev/*/masked_mse",), "Dev error while fine-tuning", "masked MSE", log=True, caption="Lower is better."
    ),
    Curve(
        "grpo",
        ("heldout/*/masked_mse", "dev/*/masked_mse"),
        "Masked error",
        "masked MSE",
        caption="Never trained on. ode: as deployed; sde: as trained. Lower is better.",
    ),
    Curve("grpo", ("reward/total/mean", "reward/mean"), "Training reward", "rubric total", caption="Higher is better."),
    Curve("grpo", ("reward/*/mean",), "Reward", "raw score", split=True, caption="One part of the rubric."),
    Curve(
        "grpo",
        ("dev/*/edge_ratio",),
        "Gold: edge energy",
        "share of the target's",
        guide=1.0,
        caption="1 is perfect, below is blurrier. No reward trains on it.",
    ),
    Curve(
        "grpo",
        ("dev/*/glyph_accuracy",),
        "Gold: text read right",
        "share of characters",
        caption="A glyph reader that no reward trains on. Higher is better.",
    ),
    Curve(
        "grpo", ("dev/*/outside_mse",), "Error outside the region", "MSE before paste-back", caption="Lower is better."
    ),
    Curve("grpo", ("kl",), "KL to the reference", "KL", caption="How far the policy moved from its start."),
    Curve("*", ("grad_norm",), "Gradient norm", "before clipping"),
    Curve("grpo", ("clip_low", "clip_high"), "Clip fraction", "share of samples"),
    Curve("grpo", ("ratio_max_deviation",), "Importance ratio", "largest |ratio - 1|"),
    Curve("grpo", ("reward/*/zero_spread",), "Groups without spread", "share of groups", caption="They teach nothing."),
    Curve("grpo", ("seconds/idle/*",), "Idle", "seconds an iteration", caption="A role that waits could be smaller."),
    Curve(
        "grpo",
        ("seconds/*",),
        "Phases",
        "seconds an iteration",
        caption="Wall time as the driver spends it, one by one.",
    ),
    Curve("grpo", ("dar/*",), "Difficulty weighting", "DAR", split=True),
)


def _label(key: str, pattern: str) -> str:
    """The part of a key that its pattern leaves open, else its last part."""
    parts, marks = key.split("/"), pattern.split("/")
    if len(parts) == len(marks):
        free = [p for p, m in zip(parts, marks, strict=True) if "*" in m]
        if free:
            return (f"{parts[0]} " if parts[0] in ("dev", "heldout") else "") + " ".join(free).replace("_", " ")
    return parts[-1].replace("_", " ")


def _points(metrics: Sequence[Mapping[str, Any]], stage: str, key: str) -> tuple[tuple[float, float], ...]:
    rows = [m for m in metrics if m.get("stage") == stage and isinstance(m.get(key), int | float)]
    return tuple((float(m["step"]), float(m[key])) for m in rows)


def metric_keys(metrics: Sequence[Mapping[str, Any]], stage: str) -> list[str]:
    """Names of a stage's numbers, in order of first appearance."""
    names = [k for m in metrics if m.get("stage") == stage for k, v in m.items() if isinstance(v, int | float)]
    return [k for k in dict.fromkeys(names) if k not in ("stage", "step")]


def _x_label(stage: str) -> str:
    return "step" if stage == "sft" else "iteration"


def _charts_of(curve: Curve, stage: str, keys: Sequence[str], metrics: Sequence[Mapping[str, Any]]) -> list[Chart]:
    found = [(k, p) for p in curve.keys for k in keys if fnmatchcase(k, p)]
    lines = [(_label(k, p), Series(_label(k, p), _points(metrics, stage, k))) for k, p in found]
    many = curve.stage == "*" and len({m.get("stage") for m in metrics}) > 1
    title = f"{curve.title} ({stage})" if many else curve.title

    def chart(name: str, series: tuple[Series, ...]) -> Chart:
        return Chart(name, curve.y_label, series, _x_label(stage), curve.log, curve.guide, curve.caption)

    if curve.split:
        return [chart(f"{title}: {label}", (line,)) for label, line in lines]
    return [chart(title, tuple(line for _, line in lines))] if lines else []


def build_charts(metrics: Sequence[Mapping[str, Any]]) -> dict[str, tuple[list[Chart], list[Chart]]]:
    """Stage -> (charts of the table in its order, a chart for each number that the table does not name)."""
    built: dict[str, tuple[list[Chart], list[Chart]]] = {}
    for stage in dict.fromkeys(str(m.get("stage", "")) for m in metrics):
        left, charts = metric_keys(metrics, stage), []
        for curve in CURVES:
            if curve.stage in ("*", stage):
                charts += _charts_of(curve, stage, left, metrics)
                left = [k for k in left if not any(fnmatchcase(k, p) for p in curve.keys)]
        more = [Chart(k, k, (Series(k, _points(metrics, stage, k)),), _x_label(stage)) for k in left]
        built[stage] = (charts, more)
    return built
