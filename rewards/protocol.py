"""What burnish asks of a reward. To add one: write a class like those in `pixels.py` and name it in `table.py`.

The table's class also carries `Options`, a pydantic model, and is built as `cls(options)`; docs/extending/rewards.md
shows a whole one.

Legend: B batch, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from burnish.data.records import Example


@runtime_checkable
class Reward(Protocol):
    """A pure scorer of policy outputs.

    Attributes:
        name: its name in the table; a stand-in's starts with `toy_`. A rubric may hold it under other names.
        direction: +1 if larger is better, -1 if smaller is.
        range: (lowest, highest) possible raw value.
        needs_weights: True if files must be on disk before it can score.
        preprocessing: version of its preprocessing; part of the reward's digest.
    """

    name: str
    direction: int
    range: tuple[float, float]
    needs_weights: bool
    preprocessing: int

    def score(self, images: np.ndarray, examples: Sequence[Example]) -> np.ndarray:
        """Raw scores float32 [B]; NaN where the reward does not apply to that sample.

        A row's value may depend on B, never on the other rows: what is shared with them (targets, references) is
        computed at a shape of its own.

        Args:
            images: float32 [B,3,H,W] in [0,1], the policy's output before paste-back, always of the server's fixed B.
            examples: B entries; rows that only pad the batch repeat a real one.
        """
        ...


def is_remote(reward: object) -> bool:
    """True for a reward whose answers may differ between runs: its class sets `remote = True` (judges)."""
    return bool(getattr(reward, "remote", False))


@runtime_checkable
class HasCounters(Protocol):
    """What a reward offers that knows more of its cost than rows and seconds."""

    def take_counters(self) -> dict[str, float]:
        """Numbers since the last call (requests, retries, tokens, cache hits ...); logged beside the reward."""
        ...


@runtime_checkable
class HasWeights(Protocol):
    """What a reward with `needs_weights = True` also offers.

    Attributes:
        weights_digest: sha256 over the bytes of its weight files; part of the reward's digest.
    """

    weights_digest: str
