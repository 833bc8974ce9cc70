"""A sample that every local reward applies to, and what its scores must look like before a reward is used.

Called where a reward is loaded. Legend: B batch, H W pixels.
"""

from __future__ import annotations

import numpy as np

from burnish.data.records import REFERENCE_KINDS, Example, Reference
from burnish.rewards.batches import RewardError, score_batches
from burnish.rewards.protocol import Reward, is_remote

CANARY_SIDE = 24
"""Side in pixels of the canary's images."""
RANGE_SLACK = 1e-4
"""How far rounding may carry a value out of the reward's declared range."""


def canary_example() -> Example:
    """An example that every local reward applies to: ramps, a box to edit, a reference of each kind."""
    ramp = np.linspace(0, 1, CANARY_SIDE, dtype=np.float32)
    target = np.stack([np.tile(ramp, (CANARY_SIDE, 1)), np.tile(ramp[:, None], (1, CANARY_SIDE)), np.outer(ramp, ramp)])
    mask = np.zeros((1, CANARY_SIDE, CANARY_SIDE), np.float32)
    quarter = slice(CANARY_SIDE // 4, 3 * CANARY_SIDE // 4)
    mask[:, quarter, quarter] = 1
    image = np.where(mask > 0, np.float32(0.5), target)
    detail = np.ascontiguousarray(target[:, quarter, quarter])
    references = tuple(Reference(kind, detail if kind == "detail" else target) for kind in REFERENCE_KINDS)
    return Example("canary", "restore the detail", image, mask, references, target)


def canary_images(example: Example) -> np.ndarray:
    """Four different outputs float32 [4,3,H,W] in [0,1]: the input, the target, its negative, halfway between."""
    image, target = example.image, example.target
    assert image is not None and target is not None
    return np.stack([image, target, 1 - target, (image + target) / 2])


def score_canary(reward: Reward, *, name: str, batch: int) -> np.ndarray:
    """Raw scores float32 of the canary's outputs: all four, or what fits one call where the reward is remote.

    Args:
        reward: what is tried.
        name: the reward's name in the rubric, for errors.
        batch: B, rows a call.

    Raises:
        RewardError: the reward breaks its contract, gives only non-finite values, or leaves its declared range. A
            remote one may answer with nothing finite: its judge may be down for a while.
    """
    example = canary_example()
    images = canary_images(example)
    asked = images[:batch] if is_remote(reward) else images  # a judge is paid by the call
    values = score_batches(reward, asked, example=example, name=name, batch=batch)
    _check_values(values, reward, name=name)
    return values


def _check_values(values: np.ndarray, reward: Reward, *, name: str) -> None:
    finite = values[np.isfinite(values)]
    if not finite.size and not is_remote(reward):
        raise RewardError(f"reward {name!r} fails on the canary: got {values.tolist()}, allowed finite values")
    low, high = reward.range
    outside = finite[(finite < low - RANGE_SLACK) | (finite > high + RANGE_SLACK)]
    if outside.size:
        raise RewardError(
            f"reward {name!r} fails on the canary: got {outside.tolist()}, allowed its declared range [{low}, {high}]"
        )
