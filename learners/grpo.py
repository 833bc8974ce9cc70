"""The clipped objective of GRPO on one denoising step: pure torch.

Called by the learner. Advantages arrive normalised and clipped; the group's DAR weight multiplies the policy term and
never the KL. Legend: B batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from burnish.learners.ema import EmaConfig
from burnish.learners.kl import KlKind
from burnish.learners.optimizer import OptimizerConfig


class KlConfig(BaseModel):
    """The pull towards the frozen reference."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    type: KlKind = Field(default="v_based_dyref", description="form of the KL term, see learners/kl.py")
    beta: float = Field(default=0.04, description="weight of the KL term; 0 = none, no reference forward", ge=0.0)


class GrpoConfig(BaseModel):
    """How one iteration's groups update the policy."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    clip_low: float = Field(default=1e-4, description="the ratio counts down to 1 - clip_low", gt=0.0, le=1.0)
    clip_high: float = Field(
        default=1e-4, description="the ratio counts up to 1 + clip_high", gt=0.0, allow_inf_nan=False
    )
    kl: KlConfig = Field(default=KlConfig(), description="the pull towards the frozen reference")
    guard: bool = Field(default=False, description="GRPO-Guard ratio; trajectories must hold their means")
    updates_per_iteration: int = Field(default=2, description="optimiser steps an iteration; divides the groups", ge=1)
    stale: Literal["keep", "truncate", "reject"] = Field(
        default="keep",
        description="what happens to samples of older weights (rollouts.lag) whose ratio is beyond stale_cap: nothing, "
        "their policy loss is scaled back to the cap, or it is left out",
    )
    stale_cap: float = Field(
        default=2.0,
        description="largest ratio of a stale sample, and 1 / cap the smallest",
        gt=1.0,
        allow_inf_nan=False,
    )
    epochs: int = Field(default=1, description="passes over an iteration's groups", ge=1)
    micro_batch: int = Field(
        default=16, description="rows of one group in a learner forward; divides the group size", ge=1
    )
    optimizer: OptimizerConfig = Field(default=OptimizerConfig(), description="AdamW and its schedule")
    ema: EmaConfig = Field(
        default=EmaConfig(), description="averaging of the trained weights; kept in checkpoints, not sampled with"
    )
    max_skipped: int = Field(
        default=5, description="the run stops after that many updates in a row with a bad gradient", ge=1
    )


@dataclass(frozen=True, eq=False)
class Objective:
    """Per-sample loss and what the clip did.

    Args:
        loss: [B], to be minimised.
        clipped_low, clipped_high: bool [B], the ratio is below or above the range (whatever the advantage's sign).
    """

    loss: torch.Tensor
    clipped_low: torch.Tensor
    clipped_high: torch.Tensor


def importance_ratio(log_prob: torch.Tensor, old_log_prob: torch.Tensor) -> torch.Tensor:
    """exp(new - old) of mean log-densities, [B]; exactly 1 where they are equal.

    The mean, not the sum, over the elements: with 16384 elements a sum makes the ratio explode.
    """
    return torch.exp(log_prob - old_log_prob)


def guard_ratio(
    log_prob: torch.Tensor, old_log_prob: torch.Tensor, *, mean_shift_square: torch.Tensor, std: float
) -> torch.Tensor:
    """GRPO-Guard's RatioNorm: exp((new - old) S + mean(dmu^2) / (2 S)), [B].

    Args:
        log_prob, old_log_prob: [B].
        mean_shift_square: [B], mean over the counted elements of (mean_new - mean_old)^2.
        std: S > 0, standard deviation of the transition.
    """
    return torch.exp((log_prob - old_log_prob) * std + mean_shift_square / (2.0 * std))


def stale_factor(ratio: torch.Tensor, *, rule: Literal["truncate", "reject"], cap: float) -> torch.Tensor:
    """Weight [B] in [0,1] of the policy loss of stale samples; constant in the weights.

    The clip bounds what a sample can gain, but not what it can lose: with A < 0 and a large ratio the loss is -A rho.

    Args:
        ratio: [B] importance ratios against the policy that sampled.
        rule: "truncate": min(1, cap / rho), so that the loss counts as at the cap (truncated importance sampling);
            "reject": 0 where rho is outside [1 / cap, cap], else 1.
        cap: > 1.
    """
    found = ratio.detach()
    if rule == "truncate":
        return torch.clamp(cap / found, max=1.0)
    return ((found <= cap) & (found >= 1.0 / cap)).to(found.dtype)


def clipped_objective(ratio: torch.Tensor, advantages: torch.Tensor, *, clip_low: float, clip_high: float) -> Objective:
    """L = max(-A rho, -A clip(rho, 1 - clip_low, 1 + clip_high)) (OmniRefiner eq. 5, DyRef eq. 7).

    Args:
        ratio: [B] importance ratios.
        advantages: [B].
        clip_low, clip_high: widths of the range around 1.
    """
    clipped = torch.clamp(ratio, 1.0 - clip_low, 1.0 + clip_high)
    loss = torch.maximum(-advantages * ratio, -advantages * clipped)
    return Objective(loss, ratio < 1.0 - clip_low, ratio > 1.0 + clip_high)
