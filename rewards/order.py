"""What a reward server is asked for: a part of a rubric, complete enough for a server that has just been restarted.

Made by the driver, read by the reward server; plain data that crosses processes.
"""

from __future__ import annotations

from dataclasses import dataclass

from burnish.data.records import RewardVersion, RubricVersion
from burnish.rewards.rubric import RewardSpec, canonical_digest
from burnish.rewards.table import reward_options


@dataclass(frozen=True)
class RewardOrder:
    """The rewards of one rubric that one pool of servers scores.

    Args:
        rubric: the rubric they belong to; the scores are stamped with it.
        specs: how to build them, in the rubric's order.
        versions: which rewards they must turn out to be, one entry a spec; empty = whatever they are.
    """

    rubric: RubricVersion
    specs: tuple[RewardSpec, ...]
    versions: tuple[RewardVersion, ...] = ()


def identity(spec: RewardSpec) -> str:
    """Equal for specs that one built reward can serve: same kind, batch and options."""
    return canonical_digest([spec.kind, spec.batch, reward_options(spec).model_dump(mode="json")])
