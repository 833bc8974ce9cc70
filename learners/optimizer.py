"""The optimiser both engines share: AdamW, the learning rate as a function of the step, and gradient clipping.

No scheduler object holds state: the rate of step n is computed from n, so a resumed run needs only the counter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field


class OptimizerConfig(BaseModel):
    """AdamW and its schedule, one a stage."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    lr: float = Field(default=3e-4, description="peak learning rate; 0 trains nothing (a negative control)", ge=0.0)
    betas: tuple[float, float] = Field(default=(0.9, 0.999), description="decay of the two moments, each in [0,1)")
    eps: float = Field(default=1e-8, description="added to the root of the second moment", gt=0.0)
    weight_decay: float = Field(default=1e-4, description="decoupled weight decay", ge=0.0)
    grad_clip: float = Field(default=1.0, description="largest gradient norm; 0 = no clipping", ge=0.0)
    warmup: int = Field(default=0, description="optimiser steps of linear warm-up", ge=0)
    decay: Literal["constant", "linear"] = Field(default="constant", description="what the rate does after warm-up")
    final_fraction: float = Field(
        default=0.1, description="share of lr left at the last step of a linear decay", ge=0, le=1
    )

    def lr_at(self, step: int, *, total_steps: int) -> float:
        """Learning rate of optimiser step `step`, counted from 0, of `total_steps`.

        lr min(1, (step + 1) / warmup), times 1 - (1 - final_fraction) p with p = (step - warmup) / (total - warmup)
        in [0,1] where decay is linear.
        """
        rate = self.lr * min(1.0, (step + 1) / self.warmup) if self.warmup else self.lr
        if self.decay == "constant":
            return rate
        progress = (step - self.warmup) / max(1, total_steps - self.warmup)
        return rate * (1.0 - (1.0 - self.final_fraction) * min(1.0, max(0.0, progress)))


def adamw(parameters: Iterable[torch.nn.Parameter], config: OptimizerConfig) -> torch.optim.AdamW:
    """torch's AdamW, one tensor at a time: element by element the same arithmetic as on DeepSpeed's flat buffers."""
    return torch.optim.AdamW(
        list(parameters),
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        foreach=False,
    )


def blank_state(parameter: torch.Tensor) -> dict[str, torch.Tensor]:
    """AdamW's state of one tensor before its first step."""
    return {
        "step": torch.zeros((), dtype=torch.float32),
        "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
        "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
    }


def gradient_norm(gradients: Sequence[torch.Tensor]) -> torch.Tensor:
    """L2 norm of all gradients, float32, in the order and precision of DeepSpeed's ZeRO-1/2 on one rank.

    Norms of single tensors in float64, squared and summed, then float32.
    """
    norms = torch.stack([torch.linalg.vector_norm(g.detach().double()) for g in gradients])
    total = norms.pow(2.0).sum().float().pow(0.5)
    return torch.linalg.vector_norm(torch.stack([total]))


def clip_gradients(gradients: Sequence[torch.Tensor], norm: torch.Tensor, *, max_norm: float) -> None:
    """Scale gradients in place by 1 / max(1, (norm + 1e-6) / max_norm), as ZeRO-1/2 does; 0 = leave them alone."""
    if max_norm > 0.0:
        factor = 1.0 / torch.clamp((norm + 1e-6) / max_norm, min=1.0)
        for gradient in gradients:
            gradient.mul_(factor)
