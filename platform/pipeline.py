"""How well sampling, scoring and updating overlap, and how old the samples are. Pure arithmetic on one iteration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from burnish.data.records import PolicyVersion
from burnish.platform.scoring import Scored


def pipeline_metrics(
    groups: Sequence[Scored], *, version: PolicyVersion, learn: float, wall: float, sizes: Mapping[str, int]
) -> dict[str, float]:
    """What metrics.jsonl says of an iteration's pipeline.

    Args:
        groups: the iteration's.
        version: what the learner held before the update.
        learn: wall seconds of the update.
        wall: wall seconds of the iteration.
        sizes: role -> workers.

    Returns:
        `pipeline/staleness` and `_max`: versions between sampling and update, mean and largest. `pipeline/bubble`:
        wall / the longest stage, where sampling and scoring take their workers' seconds divided by their number; 1 is a
        pipeline without a gap, the sum over the longest a serial one.
    """
    ages = [version.number - group.summary.policy.number for group in groups]
    sample = sum(sum(group.summary.seconds.values()) for group in groups) / max(1, sizes.get("rollout", 1))
    score = sum(group.scores.seconds for group in groups) / max(1, sizes.get("reward", 1))
    longest = max(sample, score, learn)
    return {
        "pipeline/staleness": sum(ages) / len(ages),
        "pipeline/staleness_max": float(max(ages)),
        "pipeline/bubble": wall / longest if longest > 0 else 1.0,
    }
