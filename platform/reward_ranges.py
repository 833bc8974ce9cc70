"""The range of a reward as its spec has it, and where in it a value lies.

Called by the recipe's checks, the plan and the guard. It scores nothing and reads no weights.
"""

from __future__ import annotations

import math

from burnish.rewards.order import identity
from burnish.rewards.rubric import RewardSpec
from burnish.rewards.table import make_reward, reward_class

_RANGES: dict[str, tuple[float, float]] = {}


def declared_range(spec: RewardSpec) -> tuple[float, float]:
    """(lowest, highest) raw value; the options of some rewards decide it, so the class alone does not know."""
    kind = reward_class(spec.kind)
    if kind.needs_weights:
        return kind.range
    key = identity(spec)
    if key not in _RANGES:
        _RANGES[key] = make_reward(spec).range
    return _RANGES[key]


def is_bounded(spec: RewardSpec) -> bool:
    """Both ends of the range are finite, so a value has a place in it."""
    return all(map(math.isfinite, declared_range(spec)))


def best_value(spec: RewardSpec) -> float:
    """The end of the range that the reward calls best."""
    low, high = declared_range(spec)
    return high if reward_class(spec.kind).direction > 0 else low


def place_in_range(spec: RewardSpec, value: float) -> float:
    """A raw value as its place in the range, 0 = worst, 1 = best; NaN stays NaN, and is all there is without bounds."""
    if not is_bounded(spec):
        return math.nan
    low, high = declared_range(spec)
    place = (value - low) / (high - low)
    return place if reward_class(spec.kind).direction > 0 else 1.0 - place
