"""Flow-matching losses and their weights: pure torch, and the configuration of supervised fine-tuning.

Straight path x = (1 - sigma) data + sigma noise, velocity v = noise - data (diffusers' sign; RefineAnything's t is
1 - sigma with the target negated: the same loss). All losses are means over elements, so that the learning rate does
not depend on the resolution. Legend: B batch, N latent tokens, C channels.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from burnish.learners.ema import EmaConfig
from burnish.learners.optimizer import OptimizerConfig


class SftConfig(BaseModel):
    """Supervised fine-tuning."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    trains: Literal["all", "adapter"] = Field(
        default="all", description="all weights, or the adapter of grpo.adapter, which GRPO then continues"
    )
    steps: int = Field(default=300, description="optimiser steps; 0 = no supervised stage", ge=0)
    batch: int = Field(default=32, description="examples a step, over all ranks", ge=1)
    micro_batch: int = Field(
        default=16,
        description="examples between two gradient sums; those of one geometry share a forward; divides batch",
        ge=1,
    )
    weight: Literal["mask", "boundary", "none"] = Field(
        default="mask", description="loss weight: the edit region, the band around its edge, or none"
    )
    inside: Literal["linear", "log2", "constant"] = Field(
        default="linear", description="weight mask: inside weighs HW/|region|, log2(HW/|region|) + 1, or inside_weight"
    )
    inside_weight: float = Field(
        default=4.0, description="inside: constant; outside weighs 1", gt=0.0, allow_inf_nan=False
    )
    boundary_alpha: float = Field(default=9.0, description="weight boundary: 1 + alpha on the band", ge=0.0)
    boundary_out: int = Field(default=16, description="pixels: kernel that dilates the mask for the band", ge=1)
    boundary_in: int = Field(default=16, description="pixels: kernel that erodes the mask for the band", ge=1)
    bell: bool = Field(default=False, description="bell-shaped weight over sigma, largest at 0.5")
    restoration: float = Field(
        default=1.0,
        description="the target is input + restoration x (clean - input); below 1 leaves work for GRPO",
        gt=0,
        le=1,
    )
    optimizer: OptimizerConfig = Field(default=OptimizerConfig(lr=1e-4), description="AdamW and its schedule")
    ema: EmaConfig = Field(default=EmaConfig(), description="averaging of the trained weights")
    max_skipped: int = Field(
        default=5, description="the run stops after that many steps in a row with a bad gradient", ge=1
    )

    @model_validator(mode="after")
    def _check(self) -> SftConfig:
        if self.batch % self.micro_batch:
            raise ValueError(f"micro_batch: got {self.micro_batch}, allowed a divisor of batch ({self.batch})")
        return self


def noised(clean: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """(1 - sigma) clean + sigma noise, [B,N,C], for sigma [B] in [0,1]."""
    level = sigma.reshape(-1, *[1] * (clean.ndim - 1))
    return (1.0 - level) * clean + level * noise


def flow_matching_loss(
    velocity: torch.Tensor, clean: torch.Tensor, noise: torch.Tensor, *, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean over elements of weight x (v - (noise - clean))^2, [B] (DyRef eq. 1).

    Args:
        velocity, clean, noise: [B,N,C].
        weight: broadcastable to [B,N,C]; None = 1.
    """
    return weighted_error(velocity, noise - clean, weight=weight)


def weighted_error(
    prediction: torch.Tensor, target: torch.Tensor, *, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean over all but the batch of weight x squared error, [B]."""
    error = (prediction - target) ** 2
    return (error if weight is None else error * weight).flatten(1).mean(dim=1)


def region_weight(
    region: torch.Tensor, *, inside: Literal["linear", "log2", "constant"] = "linear", constant: float = 4.0
) -> torch.Tensor:
    """Weight map like `region`: W inside, 1 outside (OmniRefiner eq. 3-4).

    Args:
        region: [B,...], 1 = edit region; between 0 and 1 where an element belongs in part.
        inside: "linear": W = HW/|region|, so that an error inside only counts as its mean inside; "log2":
            log2(HW/|region|) + 1; "constant": `constant`.
        constant: W of "constant".

    An empty region weighs 1 everywhere.
    """
    flat = region.flatten(1)
    size = flat.sum(dim=1)
    share = flat.shape[1] / torch.where(size > 0, size, float(flat.shape[1]))
    factors = {"linear": share, "log2": torch.log2(share) + 1.0, "constant": torch.full_like(share, constant)}
    factor = factors[inside].reshape(-1, *[1] * (region.ndim - 1))
    return 1.0 + region * (factor - 1.0)


def band_weight(band: torch.Tensor, *, alpha: float = 9.0) -> torch.Tensor:
    """1 + alpha B (RefineAnything eq. 11), for a band B in [0,1] of any shape."""
    return 1.0 + alpha * band


def bell_weights(timesteps: torch.Tensor, *, num_train: int = 1000) -> torch.Tensor:
    """Bell-shaped weight of each timestep of a schedule (DiffSynth's, used by DyRef's supervised stage).

    y = exp(-2 ((t - T/2) / T)^2) less its minimum, scaled to mean 1 over T = `num_train` timesteps. A shorter schedule
    is scaled by its length over T, and its second weight is added to all (an empirical rule of that code).

    Args:
        timesteps: [S], 1000 = pure noise, in schedule order.
        num_train: T.
    """
    bell = torch.exp(-2.0 * ((timesteps - num_train / 2) / num_train) ** 2)
    shifted = bell - bell.min()
    weights = shifted * (num_train / shifted.sum())
    if len(timesteps) == num_train:
        return weights
    weights = weights * (len(timesteps) / num_train)
    return weights + weights[1]


def bell_weight(sigma: torch.Tensor) -> torch.Tensor:
    """Bell weight [B] of sigma [B]: the value at the nearest of the 1000 training timesteps."""
    grid = torch.arange(1000, 0, -1, dtype=torch.float64)
    place = 1000 - (sigma.double().cpu() * 1000).round().clamp(1, 1000).long()
    return bell_weights(grid)[place].to(sigma)
