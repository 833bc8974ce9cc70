"""Difficulty-aware reweighting of groups (DyRef eq. 2-6): pure numpy, on gathered group means.

Called by the driver; groups the policy does badly on get more weight in the policy term. With the published constants
and raw similarities every weight is 1 (the lower clip always binds): `inert` and `active_fraction` say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator


class DarConfig(BaseModel):
    """How hard groups are weighted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    enabled: bool = Field(default=False, description="off: every group weighs 1")
    reward: str = Field(
        default="", description="reward whose group mean is the performance; empty = weighted mean of all"
    )
    source: Literal["scaled", "raw"] = Field(
        default="scaled", description="performance from rewards after or before DRS"
    )
    order: Literal["normalize_first", "paper"] = Field(
        default="normalize_first",
        description="paper: clip, then divide by the mean (eq. 4-5); normalize_first: divide by the mean, clip, divide "
        "by the mean again, so that the bounds act on relative difficulty",
    )
    gamma: float = Field(default=5.0, description="exponent of 1 - performance", ge=0.0, allow_inf_nan=False)
    w_min: float = Field(default=0.5, description="lower clip of a weight", gt=0.0, allow_inf_nan=False)
    w_max: float = Field(default=5.0, description="upper clip of a weight", gt=0.0, allow_inf_nan=False)
    eps: float = Field(default=1e-6, description="added to 1 - performance", ge=0.0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check(self) -> DarConfig:
        if self.w_min > self.w_max:
            raise ValueError(f"w_min: got {self.w_min}, allowed at most w_max ({self.w_max})")
        return self


@dataclass(frozen=True, eq=False)
class DarWeights:
    """Weights of one iteration's groups and what they say.

    Args:
        weights: float64 [P], mean 1.
        active_fraction: share of groups whose weight no bound decided.
        effective_spread: largest minus smallest weight.
        weight_max: largest weight.
        inert: all weights are equal, so reweighting does nothing.
    """

    weights: np.ndarray
    active_fraction: float
    effective_spread: float
    weight_max: float
    inert: bool


def performance(
    rewards: Mapping[str, np.ndarray],
    valid: Mapping[str, np.ndarray],
    *,
    weights: Mapping[str, float],
    config: DarConfig,
) -> tuple[np.ndarray, np.ndarray]:
    """Group means (DyRef eq. 2) of the configured reward, or of the weighted mean of all.

    Args:
        rewards: name -> [P,G], raw or scaled as `config.source` says.
        valid: name -> bool [P,G].
        weights: name -> weight; only their ratios matter.
        config: which reward.

    Returns:
        float64 [P] means and bool [P] present; a group without one valid value of any counted reward is absent.

    Raises:
        ValueError: `config.reward` is not among the rewards.
    """
    names = [config.reward] if config.reward else sorted(rewards)
    if any(name not in rewards for name in names):
        raise ValueError(f"reward: got {config.reward!r}, allowed one of {sorted(rewards)}")
    total = np.zeros(len(rewards[names[0]]))
    mass = np.zeros_like(total)
    for name in names:
        mask = np.asarray(valid[name], bool)
        weight = 1.0 if config.reward else weights[name]
        mean = np.where(mask, rewards[name], 0.0).sum(axis=1, dtype=np.float64) / np.maximum(mask.sum(axis=1), 1)
        total += np.where(mask.any(axis=1), weight * mean, 0.0)
        mass += np.where(mask.any(axis=1), weight, 0.0)
    return total / np.where(mass > 0.0, mass, 1.0), mass > 0.0


def raw_weights(group_means: np.ndarray, *, gamma: float, eps: float = 1e-6) -> np.ndarray:
    """(1 - R + eps)^gamma, float64 [P], with R clamped to [0,1] (DyRef eq. 3)."""
    return (1.0 - np.clip(np.asarray(group_means, np.float64), 0.0, 1.0) + eps) ** gamma


def active_threshold(*, gamma: float, w_min: float) -> float:
    """Under order `paper` a group is above the lower clip only if its mean is below 1 - w_min^(1/gamma)."""
    return 1.0 - w_min ** (1.0 / gamma)


def group_weights(group_means: np.ndarray, config: DarConfig, *, present: np.ndarray | None = None) -> DarWeights:
    """Weights with mean 1 over the groups (DyRef eq. 3-5).

    Order "paper": w = clip(raw); w / mean(w). (The released code clips again; with its bounds that never binds, and we
    leave it out, for then the mean would not be 1.) Order "normalize_first": w = clip(raw / mean(raw)); w / mean(w).

    Args:
        group_means: [P], R_g in [0,1]; values outside are clamped.
        config: exponent, bounds and order.
        present: bool [P], default all; absent groups weigh 1 and enter no mean.
    """
    means = np.asarray(group_means, np.float64)
    mask = np.ones(means.shape, bool) if present is None else np.asarray(present, bool)
    weights = np.ones(means.shape)
    if not config.enabled or not mask.any():
        return DarWeights(weights, 0.0, 0.0, 1.0, True)
    raw = raw_weights(means[mask], gamma=config.gamma, eps=config.eps)
    if config.order == "normalize_first":
        raw = raw / raw.mean() if raw.mean() > 0.0 else np.ones_like(raw)
    clipped = np.clip(raw, config.w_min, config.w_max)
    weights[mask] = clipped / clipped.mean()
    spread = float(weights.max() - weights.min())
    active = float(((raw > config.w_min) & (raw < config.w_max)).mean())
    return DarWeights(weights, active, spread, float(weights.max()), spread == 0.0)
