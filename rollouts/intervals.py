"""Confidence intervals, all in float64: bootstrap over clusters, and Student's t over seeds.

The evaluation and the studies in `benchmarks/` call it. Draws come from `data/seeding.py` with a constant seed, so that
an interval is a function of the numbers alone. Examples that share a cluster (one scene, one glyph string) are drawn
together, because they are not independent.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from burnish.data.seeding import generator

NUM_DRAWS = 4000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with its interval.

    Args:
        mean: the point estimate.
        low, high: ends of the interval, NaN where none is claimed.
        n: number of values behind it, NaN values left out.
        clusters: number of independent clusters (of seeds, for a t interval), 0 where no interval is claimed.
    """

    mean: float
    low: float
    high: float
    n: int
    clusters: int = 0

    @property
    def excludes_zero(self) -> bool:
        """True if both ends lie on one side of 0."""
        return self.low > 0 or self.high < 0

    def to_json(self) -> dict[str, Any]:
        """Plain dict; NaN and infinity become None."""
        return {k: v if isinstance(v, int) or np.isfinite(v) else None for k, v in asdict(self).items()}


def plain_mean(values: np.ndarray) -> Interval:
    """Mean of [n] values without an interval, NaN values left out."""
    kept = np.asarray(values, dtype=np.float64)
    kept = kept[~np.isnan(kept)]
    mean = float(kept.mean()) if kept.size else float("nan")
    return Interval(mean, float("nan"), float("nan"), int(kept.size))


def _cluster_sums(values: np.ndarray, clusters: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sums [C] or [m,C] and sizes [C] per cluster, in sorted cluster order, so that row order changes nothing much."""
    _, index = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    sizes = np.bincount(index).astype(np.float64)
    rows = [np.bincount(index, weights=row) for row in np.atleast_2d(values)]
    return np.stack(rows), sizes


@functools.lru_cache(maxsize=8)
def _draw_counts(num_clusters: int, num_draws: int, key: str) -> np.ndarray:
    """How often each cluster is drawn, float64 [R,C]: R times C clusters with replacement. Read only."""
    shares = np.full(num_clusters, 1.0 / num_clusters)
    counts = generator(0, "bootstrap", key).multinomial(num_clusters, shares, size=num_draws).astype(np.float64)
    counts.flags.writeable = False
    return counts


def _bootstrap(
    rows: np.ndarray, clusters: Sequence[str], *, relative: bool, level: float, num_draws: int, key: str
) -> Interval:
    """Interval of a mean (rows [1,n]) or of mean(rows[1]) / mean(rows[0]) - 1 (rows [2,n], relative)."""
    kept = ~np.isnan(rows).any(axis=0)
    names = np.asarray(clusters, dtype=str)[kept]
    if not kept.any():
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    sums, sizes = _cluster_sums(rows[:, kept], names.tolist())
    counts = _draw_counts(len(sizes), num_draws, key)

    def estimate(weights: np.ndarray) -> np.ndarray:
        means = (weights @ sums.T) / (weights @ sizes)[:, None]
        if not relative:
            return means[:, 0]
        return means[:, 1] / np.where(means[:, 0] == 0, np.nan, means[:, 0]) - 1

    point = float(estimate(np.ones((1, len(sizes))))[0])
    if len(sizes) < 2:
        return Interval(point, float("nan"), float("nan"), int(kept.sum()), len(sizes))
    low, high = np.quantile(estimate(counts), [(1 - level) / 2, (1 + level) / 2])
    return Interval(point, float(low), float(high), int(kept.sum()), len(sizes))


def bootstrap_mean(
    values: np.ndarray, clusters: Sequence[str], *, level: float = LEVEL, num_draws: int = NUM_DRAWS, key: str = ""
) -> Interval:
    """Percentile bootstrap of a mean over clusters.

    Args:
        values: [n]; NaN = not applicable, left out.
        clusters: n cluster names; a single cluster gives no interval.
        level: coverage, in (0,1).
        num_draws: bootstrap replicates.
        key: keeps unrelated intervals on unrelated draws.
    """
    rows = np.asarray(values, dtype=np.float64)[None]
    return _bootstrap(rows, clusters, relative=False, level=level, num_draws=num_draws, key=key)


def bootstrap_difference(
    before: np.ndarray,
    after: np.ndarray,
    clusters: Sequence[str],
    *,
    level: float = LEVEL,
    num_draws: int = NUM_DRAWS,
    key: str = "",
) -> Interval:
    """Paired bootstrap of mean(after - before); the two arrays [n] belong to the same examples in the same order."""
    difference = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    return bootstrap_mean(difference, clusters, level=level, num_draws=num_draws, key=key)


def bootstrap_relative(
    before: np.ndarray,
    after: np.ndarray,
    clusters: Sequence[str],
    *,
    level: float = LEVEL,
    num_draws: int = NUM_DRAWS,
    key: str = "",
) -> Interval:
    """Paired bootstrap of mean(after) / mean(before) - 1: -0.08 is 8 % less. A ratio of means, not a mean of ratios."""
    rows = np.stack([np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)])
    return _bootstrap(rows, clusters, relative=True, level=level, num_draws=num_draws, key=key)


def t_interval(values: Sequence[float], *, level: float = LEVEL) -> Interval:
    """Student's t interval of the mean over independent runs (seeds); fewer than two values have no interval."""
    from scipy.stats import t

    kept = np.asarray(values, dtype=np.float64)
    if kept.size < 2:
        return plain_mean(kept)
    half = float(t.ppf((1 + level) / 2, kept.size - 1) * kept.std(ddof=1) / np.sqrt(kept.size))
    mean = float(kept.mean())
    return Interval(mean, mean - half, mean + half, int(kept.size), int(kept.size))
