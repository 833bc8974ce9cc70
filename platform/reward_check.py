"""Load one reward here and score a sample with it, as a run does before it uses one.

Called by `burnish rewards check`. It changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from burnish.data.errors import BurnishError, ConfigError
from burnish.platform.console import number
from burnish.platform.validation import validate
from burnish.rewards.loaded import LoadedReward, load_reward
from burnish.rewards.rubric import RewardSpec

OUTPUTS = ("the damaged input", "the target itself", "its negative", "half way between")
"""What the canary scores, in its order (`rewards/canary.py`); a remote reward gets the first ones only."""


@dataclass(frozen=True)
class Checked:
    """A reward that a run would take.

    Args:
        spec: what was asked for.
        loaded: what became of it.
    """

    spec: RewardSpec
    loaded: LoadedReward

    def to_json(self) -> dict[str, Any]:
        """What is known of it; a missing score is null."""
        loaded, prepared = self.loaded, self.loaded.prepared
        scores = [value if math.isfinite(value) else None for value in prepared.canary]
        return {
            "name": self.spec.name,
            "kind": self.spec.kind,
            "better": "larger" if loaded.reward.direction > 0 else "smaller",
            "digest": prepared.digest,
            "weights_sha256": loaded.weights_digest,
            "seconds": round(prepared.seconds, 3),
            "shares_calls": prepared.crosses,
            "scores": dict(zip(OUTPUTS, scores, strict=False)),
        }

    def text(self) -> str:
        """The same for people."""
        tree = self.to_json()
        scores = tree.pop("scores")
        lines = [f"{name.replace('_', ' '):14}  {number(value)}" for name, value in tree.items() if value != ""]
        rows = [f"  {name:18} {'missing' if value is None else number(value)}" for name, value in scores.items()]
        return "\n".join([*lines, f"scores of a sample, {tree['better']} is better:", *rows])


def check_reward(tree: Mapping[str, Any]) -> Checked:
    """Build the reward that a mapping describes, check its files, and score the canary.

    Raises:
        ConfigError: the spec is refused, files are missing or others than it names, or the canary fails.
    """
    try:
        spec = validate(RewardSpec, tree, source="SPEC")
    except ConfigError as error:
        raise ConfigError("the reward is refused", error.problems) from None
    try:
        return Checked(spec, load_reward(spec))
    except ConfigError:
        raise
    except BurnishError as error:
        raise ConfigError(error.message, error.problems) from error
    except OSError as error:
        raise ConfigError(f"reward {spec.name!r} cannot be loaded: {type(error).__name__}: {error}") from error
