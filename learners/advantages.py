"""Advantages from rewards: pure numpy, computed over whole groups on gathered values.

Called by the driver. It draws nothing, except in the negative control `shuffled`. float64 inside, float32 out. A
missing reward is a mask, never a number: the sample's advantage for that reward is 0 and its value enters no mean and
no deviation. Legend: P groups (prompts), G samples a group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from burnish.data.seeding import permutation

Aggregation = Literal["weighted_sum", "gdpo", "gdpo_trl"]
"""weighted_sum: normalise the weighted sum in the group (GRPO); gdpo: normalise each reward in the group, then the
weighted sum over the batch; gdpo_trl: gdpo with sample deviation and +1e-4, as NVIDIA's code."""


class AdvantageConfig(BaseModel):
    """How rewards become advantages."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    std: Literal["group", "global"] = Field(
        default="group", description="weighted_sum only: the deviation of the group, or of all samples of the iteration"
    )
    floor: Literal["max", "plus"] = Field(default="max", description="divide by max(std, eps) or by std + eps")
    eps: float = Field(default=1e-6, description="floor of a standard deviation", gt=0.0, allow_inf_nan=False)
    clip: float = Field(default=5.0, description="advantages are clipped to +-clip", gt=0.0)
    control: Literal["none", "shuffled"] = Field(
        default="none",
        description="shuffled: a negative control that must not learn; each group's advantages change places by a "
        "keyed draw, so that they say nothing of the samples they stand at",
    )


@dataclass(frozen=True, eq=False)
class Advantages:
    """What the driver puts into an update plan.

    Args:
        values: float32 [P,G], clipped; 0 where the sample has no reward at all.
        valid: bool [P,G]; False = the sample has no reward at all.
        zero_spread: reward name -> share of the groups that have it in which all its values are equal.
    """

    values: np.ndarray
    valid: np.ndarray
    zero_spread: Mapping[str, float]


@dataclass(frozen=True)
class _Scale:
    """How a deviation is taken and floored."""

    ddof: int
    floor: str
    eps: float

    def divide(self, centred: np.ndarray, std: np.ndarray) -> np.ndarray:
        return centred / (np.maximum(std, self.eps) if self.floor == "max" else std + self.eps)


def advantages(
    rewards: Mapping[str, np.ndarray],
    valid: Mapping[str, np.ndarray],
    *,
    weights: Mapping[str, float],
    config: AdvantageConfig,
    aggregation: Aggregation = "weighted_sum",
) -> Advantages:
    """Advantages of one iteration (DyRef eq. 7's A_i; Flow-GRPO eq. 4; GDPO).

    Args:
        rewards: name -> [P,G]; values where `valid` is False are not read.
        valid: name -> bool [P,G].
        weights: name -> weight of that reward.
        config: deviation, its floor and the clip.
        aggregation: how several rewards become one; the rubric's.

    Raises:
        ValueError: names or shapes of the three mappings differ.
    """
    names = sorted(rewards)
    if names != sorted(valid) or names != sorted(weights) or not names:
        raise ValueError(f"rewards {names}, masks {sorted(valid)} and weights {sorted(weights)} must name the same")
    shapes = {np.shape(a) for m in (rewards, valid) for a in m.values()}
    if len(shapes) != 1:
        raise ValueError(f"rewards and masks must share one shape [P,G], got {sorted(shapes)}")
    clean = {n: np.where(valid[n], np.asarray(rewards[n], np.float64), 0.0) for n in names}
    present = np.logical_or.reduce([np.asarray(valid[n], bool) for n in names])
    if aggregation == "weighted_sum":
        values = _weighted_sum(clean, valid, weights=weights, present=present, config=config)
    else:
        scale = _Scale(1, "plus", 1e-4) if aggregation == "gdpo_trl" else _Scale(0, config.floor, config.eps)
        values = _gdpo(clean, valid, weights=weights, present=present, scale=scale)
    return Advantages(
        values=np.where(present, np.clip(values, -config.clip, config.clip), 0.0).astype(np.float32),
        valid=present,
        zero_spread={n: zero_spread(clean[n], valid[n]) for n in names},
    )


def shuffled(
    values: np.ndarray, valid: np.ndarray, *, seed: int, iteration: int, example_ids: Sequence[str]
) -> np.ndarray:
    """Advantages [P,G] in another order within each group; samples that are not valid stay where they are.

    Args:
        values: [P,G].
        valid: bool [P,G].
        seed: the run's seed.
        iteration: which iteration.
        example_ids: P ids; with seed and iteration they key the order.
    """
    result = values.copy()
    for row, example_id in enumerate(example_ids):
        places = np.flatnonzero(valid[row])
        order = permutation(len(places), seed, "shuffled-advantages", iteration, example_id)
        result[row, places] = values[row, places[order]]
    return result


def zero_spread(values: np.ndarray, valid: np.ndarray) -> float:
    """Share of groups, among those with a valid sample, whose valid values [P,G] are all equal; 0 if none has one."""
    counted = valid.any(axis=1)
    return float(_flat(values, valid)[counted].mean()) if counted.any() else 0.0


def _flat(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """bool [P]: the valid values of the group do not differ (or there are none)."""
    low = np.where(valid, values, np.inf).min(axis=1)
    high = np.where(valid, values, -np.inf).max(axis=1)
    return ~(high > low)


def _mean(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """[P,1] mean of the valid values of each group, 0 where there are none."""
    count = np.maximum(valid.sum(axis=1, keepdims=True), 1)
    return np.where(valid, values, 0.0).sum(axis=1, keepdims=True) / count


def _centre(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """[P,G] deviation from the group's mean; exactly 0 where missing and in groups without spread."""
    centred = np.where(valid, values - _mean(values, valid), 0.0)
    return np.where(_flat(values, valid)[:, None], 0.0, centred)


def _std(centred: np.ndarray, valid: np.ndarray, ddof: int) -> np.ndarray:
    """[P,1] standard deviation of values already centred."""
    count = np.maximum(valid.sum(axis=1, keepdims=True) - ddof, 1)
    return np.sqrt((centred**2).sum(axis=1, keepdims=True) / count)


def _weighted_sum(
    rewards: Mapping[str, np.ndarray],
    valid: Mapping[str, np.ndarray],
    *,
    weights: Mapping[str, float],
    present: np.ndarray,
    config: AdvantageConfig,
) -> np.ndarray:
    """GRPO on r = sum_k w_k r_k; a missing reward counts as its group's mean, so it moves nobody."""
    scale = _Scale(0, config.floor, config.eps)
    total = np.add.reduce([weights[n] * _centre(rewards[n], valid[n]) for n in sorted(rewards)])
    centred = _centre(total, present)
    if config.std == "group":
        return scale.divide(centred, _std(centred, present, 0))
    level = np.add.reduce([weights[n] * _mean(rewards[n], valid[n]) for n in sorted(rewards)])
    everything = (total + level)[present]
    return scale.divide(centred, np.asarray(everything.std() if everything.size else 0.0))


def _gdpo(
    rewards: Mapping[str, np.ndarray],
    valid: Mapping[str, np.ndarray],
    *,
    weights: Mapping[str, float],
    present: np.ndarray,
    scale: _Scale,
) -> np.ndarray:
    """GDPO: each reward normalised in its group, weighted sum, then the whole batch normalised."""
    total = np.zeros(present.shape)
    for name in sorted(rewards):
        centred = _centre(rewards[name], valid[name])
        total = total + weights[name] * scale.divide(centred, _std(centred, valid[name], scale.ddof))
    batch, mask = total.reshape(1, -1), present.reshape(1, -1)
    centred = _centre(batch, mask)
    return scale.divide(centred, _std(centred, mask, scale.ddof)).reshape(present.shape)
