"""From scores to an update plan: scalars only, on the driver, over whole groups.

Rewards are gathered before anything is averaged, so masks, advantages and DAR weights do not depend on who scored what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from burnish.data.records import GroupPlan, Scores, UpdatePlan
from burnish.learners import dar
from burnish.learners.advantages import AdvantageConfig, compute_advantages
from burnish.learners.dar import DarConfig


@dataclass(frozen=True)
class Planned:
    """An update plan and what is logged of it."""

    plan: UpdatePlan
    metrics: dict[str, float]
    spread: float
