"""What an evaluation found: parts merged, figures with intervals, and before against after.

The training loop and `burnish eval` write its JSON into summary.json; the report shows it. Pure arithmetic on rows.
The primary set is the drawn examples, whose intervals cluster by what was drawn; photographs are few scenes, so they
get a figure a scene and no interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from burnish.data.errors import DataError
from burnish.rollouts.evaluation import EvalPart
from burnish.rollouts.intervals import (
    Interval,
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_relative,
    plain_mean,
)

PRIMARY_PREFIX = "drawn_"
SCENE_SOURCES = ("photo",)
"""Sources with so few independent scenes that an interval would mislead."""

Figures = Mapping[str, Interval]


def _shift(interval: Interval, by: float) -> Interval:
    return Interval(interval.mean + by, interval.low + by, interval.high + by, interval.n, interval.clusters)


def _clusters(rows: EvalPart, chosen: np.ndarray) -> list[str]:
    return [rows.labels["cluster"][i] for i in chosen]


def _figures(rows: EvalPart, chosen: np.ndarray) -> dict[str, Interval]:
    """Every metric's mean with its interval, and `error_left`: masked error over the degraded input's."""
    clusters = _clusters(rows, chosen)
    if {rows.labels["source"][i] for i in chosen} & set(SCENE_SOURCES):
        clusters = ["one"] * len(clusters)  # a single cluster has no interval
    found = {name: bootstrap_mean(column[chosen], clusters) for name, column in rows.values.items()}
    left = bootstrap_relative(rows.values["input_masked_mse"][chosen], rows.values["masked_mse"][chosen], clusters)
    return found | {"error_left": _shift(left, 1.0)}


def _means(rows: EvalPart, chosen: np.ndarray) -> dict[str, Interval]:
    return {name: plain_mean(column[chosen]) for name, column in rows.values.items()}


def _by(rows: EvalPart, label: str, make: Callable[[EvalPart, np.ndarray], Any], within: np.ndarray) -> dict[str, Any]:
    """Figures for each value of a label, in sorted order."""
    names = np.asarray(rows.labels[label], dtype=str)
    return {str(n): make(rows, within[names[within] == n]) for n in sorted(set(names[within].tolist()))}


def primary_rows(rows: EvalPart) -> np.ndarray:
    """Indices of the primary set: drawn examples; where there are none, all examples."""
    drawn = [i for i, s in enumerate(rows.labels["source"]) if s.startswith(PRIMARY_PREFIX)]
    return np.array(drawn or range(len(rows.ids)), dtype=np.int64)


def _json(tree: Any) -> Any:
    if isinstance(tree, Interval):
        return tree.to_json()
    return {k: _json(v) for k, v in tree.items()} if isinstance(tree, Mapping) else tree


@dataclass(frozen=True, eq=False)
class EvalResult:
    """Figures of one evaluation.

    Args:
        sampler: "ode" or "sde".
        rows: all examples, in order of position.
        primary: metric -> figure over the primary set.
        sources: source -> metric -> figure; no interval for photographs.
        scenes: photograph scene -> metric -> mean.
        breakdown: "degradation" and "references" -> value -> metric -> mean, over the primary set.
    """

    sampler: str
    rows: EvalPart
    primary: Figures
    sources: Mapping[str, Figures]
    scenes: Mapping[str, Figures]
    breakdown: Mapping[str, Mapping[str, Figures]]

    def to_json(self) -> dict[str, Any]:
        """Plain dict for summary.json, without the rows (`rows.to_json()` has them)."""
        return {
            "sampler": self.sampler,
            "count": len(self.rows.ids),
            "primary": _json(self.primary),
            "sources": _json(self.sources),
            "scenes": _json(self.scenes),
            "breakdown": _json(self.breakdown),
        }

    def means(self) -> dict[str, float]:
        """Metric -> mean over the primary set: what the guard observes and metrics.jsonl logs."""
        return {name: figure.mean for name, figure in self.primary.items()}


def join(parts: Sequence[EvalPart]) -> EvalPart:
    """All rows of the parts in order of position, whatever the order of the parts.

    Raises:
        DataError: no part, parts of different samplers, or a position that comes twice or is missing.
    """
    if not parts or len({p.sampler for p in parts}) != 1:
        raise DataError(f"parts must be of one sampler, got {sorted({p.sampler for p in parts})}")
    positions = np.concatenate([p.positions for p in parts])
    order = np.argsort(positions, kind="stable")
    if not np.array_equal(positions[order], np.arange(len(positions))):
        raise DataError("parts do not make a whole evaluation: a position comes twice or is missing")
    ids = [i for p in parts for i in p.ids]
    labels = {k: [x for p in parts for x in p.labels[k]] for k in parts[0].labels}
    return EvalPart(
        sampler=parts[0].sampler,
        positions=positions[order],
        ids=tuple(ids[i] for i in order),
        labels={k: tuple(v[i] for i in order) for k, v in labels.items()},
        values={k: np.concatenate([p.values[k] for p in parts])[order] for k in parts[0].values},
        images={k: v for p in parts for k, v in p.images.items()},
    )


def merge(parts: Sequence[EvalPart]) -> EvalResult:
    """The result of a whole evaluation; see `join` for errors."""
    rows = join(parts)
    everything, primary = np.arange(len(rows.ids)), primary_rows(rows)
    photos = np.array([i for i, s in enumerate(rows.labels["source"]) if s in SCENE_SOURCES], dtype=np.int64)
    return EvalResult(
        sampler=rows.sampler,
        rows=rows,
        primary=_figures(rows, primary),
        sources=_by(rows, "source", _figures, everything),
        scenes=_by(rows, "cluster", _means, photos) if photos.size else {},
        breakdown={label: _by(rows, label, _means, primary) for label in ("degradation", "references")},
    )


@dataclass(frozen=True)
class Change:
    """One metric before and after on the same examples.

    Args:
        difference: mean of after - before, paired.
        relative: mean(after) / mean(before) - 1, paired; -0.08 = 8 % less.
    """

    difference: Interval
    relative: Interval


@dataclass(frozen=True, eq=False)
class Comparison:
    """Paired changes: over the primary set, and per source."""

    sampler: str
    primary: Mapping[str, Change]
    sources: Mapping[str, Mapping[str, Change]]

    def to_json(self) -> dict[str, Any]:
        """Plain dict for summary.json."""

        def plain(changes: Mapping[str, Change]) -> dict[str, Any]:
            return {
                k: {"difference": c.difference.to_json(), "relative": c.relative.to_json()} for k, c in changes.items()
            }

        return {
            "sampler": self.sampler,
            "primary": plain(self.primary),
            "sources": {k: plain(v) for k, v in self.sources.items()},
        }


def compare(before: EvalResult, after: EvalResult) -> Comparison:
    """Paired comparison of two evaluations of the same examples under one sampler.

    Raises:
        DataError: the examples or the samplers differ.
    """
    if before.rows.ids != after.rows.ids or before.sampler != after.sampler:
        raise DataError("before and after must be evaluations of the same examples under one sampler")

    def changes(rows: EvalPart, chosen: np.ndarray) -> dict[str, Change]:
        clusters = _clusters(rows, chosen)
        if {rows.labels["source"][i] for i in chosen} & set(SCENE_SOURCES):
            clusters = ["one"] * len(clusters)
        pairs = {k: (v[chosen], after.rows.values[k][chosen]) for k, v in rows.values.items()}
        return {
            k: Change(bootstrap_difference(*pair, clusters), bootstrap_relative(*pair, clusters))
            for k, pair in pairs.items()
        }

    everything = np.arange(len(before.rows.ids))
    primary = changes(before.rows, primary_rows(before.rows))
    return Comparison(before.sampler, primary, _by(before.rows, "source", changes, everything))
