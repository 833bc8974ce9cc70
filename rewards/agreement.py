"""How far two rewards order the same samples alike: what a shadow is judged by. Pure numpy."""

from __future__ import annotations

import math

import numpy as np


def rank_correlation(first: np.ndarray, second: np.ndarray, *, valid: np.ndarray) -> float:
    """Mean over groups of Spearman's rank correlation within the group, in [-1,1].

    GRPO compares samples of one group only, so agreement between groups would say nothing. Groups with fewer than two
    valid samples, or in which a reward does not vary, are left out.

    Args:
        first, second: [P,G] scores of P groups of G samples.
        valid: bool [P,G], True where both rewards have a value.

    Returns:
        NaN if no group is left.
    """
    from scipy.stats import rankdata

    found = []
    for a, b, keep in zip(first, second, valid, strict=True):
        x, y = rankdata(a[keep]), rankdata(b[keep])
        if keep.sum() >= 2 and np.ptp(x) > 0 and np.ptp(y) > 0:
            found.append(float(np.corrcoef(x, y)[0, 1]))
    return float(np.mean(found)) if found else math.nan
