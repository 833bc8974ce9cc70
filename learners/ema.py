"""Exponential moving average of the trained weights, float32, by parameter name.

Called by the trainers after an optimiser step; evaluation and export may read it. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

Weights = Mapping[str, np.ndarray]


class EmaConfig(BaseModel):
    """Averaging of the trained weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    enabled: bool = Field(default=False, description="keep an average")
    decay: float = Field(default=0.9, description="share of the old average that stays", ge=0.0, lt=1.0)
    every: int = Field(default=4, description="averaged after every so many iterations (SFT: steps)", ge=1)


def average(old: Weights, new: Weights, *, decay: float) -> dict[str, np.ndarray]:
    """decay * old + (1 - decay) * new, float32, by name.

    Raises:
        ValueError: the names differ.
    """
    if old.keys() != new.keys():
        raise ValueError(f"names differ: {sorted(old.keys() ^ new.keys())[:5]}")
    keep, take = np.float32(decay), np.float32(1.0 - decay)
    return {name: keep * old[name] + take * np.asarray(new[name], np.float32) for name in old}


class Ema:
    """The running average; empty until it first sees weights, which it then copies.

    Args:
        config: decay and interval.
    """

    def __init__(self, config: EmaConfig) -> None:
        self.config = config
        self.weights: dict[str, np.ndarray] = {}

    def observe(self, number: int, weights: Callable[[], Weights]) -> None:
        """Take the weights in if iteration `number` (finished, from 1) is due; `weights` is called only then."""
        if not self.config.enabled or (self.weights and number % self.config.every):
            return
        new = weights()
        copied = {name: np.array(value, np.float32) for name, value in new.items()}
        self.weights = average(self.weights, copied, decay=self.config.decay) if self.weights else copied
