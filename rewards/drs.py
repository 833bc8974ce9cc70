"""DRS: stretches a similarity where its differences matter, the more so the more references there are (DyRef eq. 8-10).

Pure numpy, float64 in and out unless told otherwise. Called by the reward server once a group; never by a reward.
Legend: n number of references, k steepness, T targets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from burnish.data.errors import DataError


class DrsConfig(BaseModel):
    """Which scaling, and how its steepness follows the number of references."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    kind: Literal["f2", "f1"] = Field(
        default="f2", description="f2: sigmoid (DyRef eq. 10); f1: power (eq. 9, inferred)"
    )
    tau: float = Field(default=0.65, description="f2: raw value that becomes 0.5")
    mode: Literal["increase", "decrease", "constant"] = Field(
        default="increase", description="f2: how k follows n; decrease counts down from n_max, constant is k0"
    )
    k0: float = Field(default=10.0, gt=0, description="f2: steepness at the easiest n")
    slope: float = Field(default=3.0, ge=0, description="f2: steepness added a reference")
    n_min: int = Field(
        default=2, ge=0, description="number of references from which the steepness grows; fewer count as this"
    )
    n_max: int = Field(
        default=6, ge=0, description="mode decrease: number of references at which k is k0; more count as this"
    )
    power: float = Field(default=2.0, gt=0, description="f1: exponent at n_min")
    power_slope: float = Field(default=1.0, ge=0, description="f1: exponent added a reference")
    reduce: Literal["mean", "max"] = Field(
        default="mean", description="how scaled values of several targets become one"
    )

    @model_validator(mode="after")
    def _check(self) -> DrsConfig:
        if self.n_max < self.n_min:
            raise ValueError(f"n_max: got {self.n_max}, allowed >= n_min {self.n_min}")
        return self


def drs_k(num_references: int | None, config: DrsConfig) -> float:
    """Steepness of F2 (DyRef eq. 10): k0 + slope * max(n - n_min, 0), or by `config.mode`.

    Raises:
        DataError: the number of references is missing or negative.
    """
    n = _count(num_references)
    extra = {"increase": n - config.n_min, "decrease": config.n_max - n, "constant": 0}[config.mode]
    return config.k0 + config.slope * max(extra, 0)


def drs_f2(raw: np.ndarray, num_references: int | None, config: DrsConfig) -> np.ndarray:
    """1 / (1 + exp(-k (raw - tau))) in (0,1), strictly increasing in raw (DyRef eq. 10).

    Args:
        raw: similarities, any shape and float dtype, which it keeps.
        num_references: n, reference images of the example; None is an error, not a fallback.
        config: tau and how k follows n.
    """
    # 0.5 (1 + tanh(z/2)) is the sigmoid without an exp that can overflow
    return 0.5 * (1 + np.tanh(drs_k(num_references, config) * (raw - config.tau) / 2))


def drs_f1(raw: np.ndarray, num_references: int | None, config: DrsConfig) -> np.ndarray:
    """max(raw, 0) ** (power + power_slope * max(n - n_min, 0)).

    DyRef eq. 9 is not recoverable from any public source: this power family is burnish's own choice.
    """
    exponent = config.power + config.power_slope * max(_count(num_references) - config.n_min, 0)
    return np.maximum(raw, 0) ** exponent


def drs_scale(raw: np.ndarray, num_references: int | None, config: DrsConfig) -> np.ndarray:
    """`raw` scaled by the formula that the config names."""
    return _FORMULAS[config.kind](raw, num_references, config)


def drs_multi_target(similarities: np.ndarray, num_references: int | None, config: DrsConfig) -> np.ndarray:
    """Scale the similarity to each of several targets, then reduce: [B,T] -> [B] (DyRef's released code)."""
    scaled = drs_scale(similarities, num_references, config)
    return scaled.mean(axis=-1) if config.reduce == "mean" else scaled.max(axis=-1)


def _count(num_references: int | None) -> int:
    if num_references is None or num_references < 0:
        raise DataError(f"DRS needs the example's number of references, got {num_references}")
    return num_references


_FORMULAS: dict[str, Callable[[np.ndarray, int | None, DrsConfig], np.ndarray]] = {"f2": drs_f2, "f1": drs_f1}
