"""Sigma schedules: pure functions of the number of steps and the shift.

A schedule is float32 [S+1], from 1 (pure noise) down to 0 (data). It travels with every trajectory, so that a replay
never computes it again.
"""

from __future__ import annotations

import math

import numpy as np


def sigmas(num_steps: int, *, shift: float = 1.0) -> np.ndarray:
    """Linear sigmas 1 … 1/S followed by 0, after the static shift s sigma / (1 + (s - 1) sigma).

    Args:
        num_steps: S >= 1.
        shift: s > 0; 1 leaves the schedule linear.

    Returns:
        float32 [S+1].
    """
    base = np.linspace(1.0, 1.0 / num_steps, num_steps, dtype=np.float64)
    return _close(shift * base / (1.0 + (shift - 1.0) * base))


def dynamic_shift(
    num_tokens: int, *, low: tuple[int, float] = (256, 0.5), high: tuple[int, float] = (4096, 1.15)
) -> float:
    """FLUX's mu: linear in the number of image tokens between two anchor points."""
    slope = (high[1] - low[1]) / (high[0] - low[0])
    return low[1] + slope * (num_tokens - low[0])


def shifted_sigmas(num_steps: int, *, mu: float) -> np.ndarray:
    """FLUX's exponential shift: sigma' = e^mu / (e^mu + 1/sigma - 1), float32 [S+1]."""
    base = np.linspace(1.0, 1.0 / num_steps, num_steps, dtype=np.float64)
    return _close(math.exp(mu) / (math.exp(mu) + (1.0 / base - 1.0)))


def _close(base: np.ndarray) -> np.ndarray:
    return np.append(base, 0.0).astype(np.float32)
