"""Calls a reward in batches of one fixed shape and holds it to its contract.

Called by the reward server's lanes for groups, and for canaries. Legend: G group, B batch, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from burnish.data.errors import BurnishError, RefusedError
from burnish.data.records import Example
from burnish.rewards.protocol import Reward

BUGS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What a faulty reward raises. A dead connection or a full disk (OSError) is infrastructure and passes as it is."""


class RewardError(RefusedError):
    """A reward broke its contract: it raised, or gave the wrong length or dtype. A bug in the reward, not data."""


def score_batches(reward: Reward, images: np.ndarray, *, example: Example, name: str, batch: int) -> np.ndarray:
    """Raw scores float32 [G] of one group; what is missing is NaN or infinite.

    Every call has `batch` rows; a short one repeats the last real row, and the repeats' scores are thrown away. Each
    call gets its own copy of the images, so a reward that writes into them harms no other.

    Args:
        reward: what scores.
        images: float32 [G,3,H,W].
        example: what the images are outputs for.
        name: the reward's name in the rubric, for errors.
        batch: B, rows a call.

    Raises:
        RewardError: the reward raised, or did not return float32 [B]. Other burnish errors pass as they are.
    """
    count = len(images)
    parts = []
    for start in range(0, count, batch):
        rows = np.minimum(np.arange(start, start + batch), count - 1)
        parts.append(call_reward(reward, images[rows], [example] * batch, name=name)[: count - start])
    return np.concatenate(parts)


def call_reward(reward: Reward, images: np.ndarray, examples: Sequence[Example], *, name: str) -> np.ndarray:
    """One model call: raw scores float32 [B], checked.

    Args:
        reward: what scores.
        images: float32 [B,3,H,W]; the reward may write into them.
        examples: B entries.
        name: the reward's name in the rubric, for errors.

    Raises:
        RewardError: the reward raised, or did not return float32 [B]. Other burnish errors pass as they are.
    """
    try:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # a broken image is missing, not a warning
            values = reward.score(images, examples)
    except BurnishError:
        raise
    except BUGS as error:
        raise RewardError(
            f"reward {name!r} failed on example {examples[0].id!r}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(values, np.ndarray) or values.dtype != np.float32 or values.shape != (len(images),):
        got = f"{values.dtype} {list(values.shape)}" if isinstance(values, np.ndarray) else type(values).__name__
        raise RewardError(f"reward {name!r} must return a float32 array [{len(images)}], got {got}")
    return values
