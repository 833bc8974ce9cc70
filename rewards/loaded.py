"""A rubric made ready to score: rewards built, versions named, a canary scored.

Called by the reward server only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from burnish.data.records import Example, Reference, RewardVersion, RubricVersion
from burnish.rewards.batches import score_batches
from burnish.rewards.protocol import Reward
from burnish.rewards.rubric import RewardSpec, RubricConfig, canonical_digest, reward_version, rubric_version
from burnish.rewards.table import make_reward, reward_options

CANARY_SIDE = 24
"""Side in pixels of the canary's images."""


@dataclass(frozen=True, eq=False)
class LoadedRubric:
    """A rubric that is ready to score.

    Args:
        config: what was asked for.
        version: which rubric it is.
        rewards: one entry a spec, in the rubric's order.
        reward_versions: which rewards they are, in the same order.
    """

    config: RubricConfig
    version: RubricVersion
    rewards: tuple[Reward, ...]
    reward_versions: tuple[RewardVersion, ...]


def load_rubric(config: RubricConfig, *, number: int, held: Sequence[LoadedRubric] = ()) -> LoadedRubric:
    """Build what is new, share what is held, and score a canary with every new reward.

    A reward is shared where kind, options and batch are the same: only its weight or DRS can have changed.

    Args:
        config: the rubric.
        number: its counter.
        held: rubrics that are ready already.

    Raises:
        ConfigError: a reward cannot be built. RewardError: one fails on the canary.
    """
    ready = {_identity(s): r for old in held for s, r in zip(old.config.rewards, old.rewards, strict=True)}
    rewards = tuple(ready.get(_identity(spec)) or _warm(spec) for spec in config.rewards)
    versions = tuple(_number(reward_version(s, r), held) for s, r in zip(config.rewards, rewards, strict=True))
    return LoadedRubric(config, rubric_version(config, versions, number=number), rewards, versions)


def canary_example() -> Example:
    """An example that every local reward applies to: ramps, a box to edit, a style and a detail reference."""
    ramp = np.linspace(0, 1, CANARY_SIDE, dtype=np.float32)
    target = np.stack([np.tile(ramp, (CANARY_SIDE, 1)), np.tile(ramp[:, None], (1, CANARY_SIDE)), np.outer(ramp, ramp)])
    mask = np.zeros((1, CANARY_SIDE, CANARY_SIDE), np.float32)
    quarter = slice(CANARY_SIDE // 4, 3 * CANARY_SIDE // 4)
    mask[:, quarter, quarter] = 1
    image = np.where(mask > 0, np.float32(0.5), target)
    references = (Reference("style", target), Reference("detail", target[:, quarter, quarter]))
    return Example("canary", "restore the detail", image, mask, references, target)


def _warm(spec: RewardSpec) -> Reward:
    reward = make_reward(spec)
    example = canary_example()
    assert example.image is not None
    score_batches(reward, example.image[None], example=example, name=spec.name, batch=spec.batch)
    return reward


def _identity(spec: RewardSpec) -> str:
    """Equal for specs that the same built reward can serve."""
    return canonical_digest([spec.kind, spec.batch, reward_options(spec).model_dump(mode="json")])


def _number(version: RewardVersion, held: Sequence[LoadedRubric]) -> RewardVersion:
    """The version with its counter: a known digest keeps its number, a new one gets the next of its name."""
    known = [v for old in held for v in old.reward_versions if v.name == version.name]
    number = next((v.version for v in known if v.digest == version.digest), 0)
    return RewardVersion(version.name, number or max((v.version for v in known), default=0) + 1, version.digest)
