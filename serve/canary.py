"""Whether a version on trial is worse than the one it is to replace: scores, failures, votes. Pure arithmetic.

The promoter asks it before a switch, and after every request of a canary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

MIN_FAILURES = 3
FAILURE_SLACK = 0.1
"""How much higher the canary's share of failed requests may be."""
MIN_VOTES = 8
VOTE_SLACK = 0.25
"""How much higher the canary's share of votes "worse" may be."""


def worse_score(candidate: Sequence[float], present: Sequence[float], *, tolerance: float) -> str:
    """Why the candidate's canary scores are worse, "" where they are not.

    Args:
        candidate, present: scores of the same examples in the same order, larger is better; NaN = not finite or not
            scored.
        tolerance: forgiven loss of the mean, relative to the present mean's size.
    """
    new, old = np.array(candidate, np.float64), np.array(present, np.float64)
    lost = int((np.isnan(new) & ~np.isnan(old)).sum())
    if lost:
        return f"{lost} of {len(new)} canary examples have no score any more"
    both = ~np.isnan(new) & ~np.isnan(old)
    if not both.any():
        return ""
    mean, before = float(new[both].mean()), float(old[both].mean())
    if mean < before - tolerance * abs(before):
        return f"canary score {mean:.6g} is worse than {before:.6g} ({int(both.sum())} examples)"
    return ""


@dataclass
class Tally:
    """Requests of a version: answered, failed, voted better, voted worse."""

    answered: int = 0
    failed: int = 0
    better: int = 0
    worse: int = 0

    @property
    def failure_rate(self) -> float:
        """failed / (answered + failed), 0 without requests."""
        return self.failed / max(1, self.answered + self.failed)

    @property
    def votes(self) -> int:
        """better + worse."""
        return self.better + self.worse

    @property
    def vote_rate(self) -> float:
        """worse / votes, 0 without votes."""
        return self.worse / max(1, self.votes)


@dataclass
class Trial:
    """A canary's requests beside those of the active version, counted from the canary's start."""

    canary: Tally = field(default_factory=Tally)
    active: Tally = field(default_factory=Tally)

    def verdict(self) -> str:
        """Why the canary is to be rolled back, "" while it is not."""
        canary, active = self.canary, self.active
        if canary.failed >= MIN_FAILURES and canary.failure_rate > active.failure_rate + FAILURE_SLACK:
            return f"{canary.failure_rate:.0%} of the canary's requests failed, {active.failure_rate:.0%} of the others"
        if canary.votes >= MIN_VOTES and canary.vote_rate > active.vote_rate + VOTE_SLACK:
            return f"{canary.vote_rate:.0%} of the canary's votes say worse, {active.vote_rate:.0%} of the others"
        return ""
