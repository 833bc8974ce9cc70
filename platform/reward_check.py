"""Load one reward here and score a sample with it, as a run does before it uses one.

Called by `burnish rewards check`. It changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from burnish.data.errors import BurnishError, ConfigError
from burnish.platform.validation import validate
from burnish.rewards.checking import Check
from burnish.rewards.checking import check_reward as try_reward
from burnish.rewards.rubric import RewardSpec


def check_reward(tree: Mapping[str, Any]) -> Check:
    """Build the reward that a mapping describes, check its files, and score a sample.

    Raises:
        ConfigError: the spec is refused, files are missing or others than it names, or the reward fails on the sample.
    """
    try:
        spec = validate(RewardSpec, tree, source="SPEC")
    except ConfigError as error:
        raise ConfigError("the reward is refused", error.problems) from None
    try:
        return try_reward(spec)
    except ConfigError:
        raise
    except BurnishError as error:
        raise ConfigError(error.message, error.problems) from error
    except OSError as error:
        raise ConfigError(f"reward {spec.name!r} cannot be loaded: {type(error).__name__}: {error}") from error
