"""Labelled places where a test can make the process die, as if it were killed there.

Set `BURNISH_FAIL_POINT=label` (or `label:3`: the third time) and the process kills itself with SIGKILL at that place;
with `label:3:hang` it stops itself there, as if it hung, and with `label:3:raise` it raises `InjectedFault`, which
nothing catches. Several points are separated by commas; each process counts its own visits.
Without the variable a fail point costs a dictionary look-up. Production code never sets it.

Labels, in the order of an iteration: rubric (a change of the rubric is on disk and not yet obeyed), sample, score (a
worker has a result and has not yet given it back), journal (the scores are on disk), learn (updated, nothing
published), sync (a rollout worker took new weights), log (metrics are on disk), then those of a commit: after-tmp,
mid-file, after-manifest, before-rename, after-rename, before-prune; and mirror (files are in the mirror, and no
commit there names them).
"""

from __future__ import annotations

import os
import signal
from collections import Counter

VARIABLE = "BURNISH_FAIL_POINT"
_hits: Counter[str] = Counter()
_reached: list[str] = []


class InjectedFault(BaseException):
    """A death that leaves the process alive, for tests that count what is left in it."""


def armed(label: str) -> bool:
    """Count a visit of `label`; True if the process should die at this one."""
    wanted = [point for point in os.environ.get(VARIABLE, "").split(",") if point.split(":")[0] == label]
    if not wanted:
        return False
    _hits[label] += 1
    _reached[:] = [point for point in wanted if int([*point.split(":"), "1"][1] or 1) == _hits[label]]
    return bool(_reached)


def die() -> None:
    """End the process at once: no clean-up, no buffers written. Or what the point reached says: `hang` or `raise`.

    Raises:
        InjectedFault: it says `raise`; visits are counted afresh.
    """
    (point,) = _reached or [""]
    if point.endswith(":raise"):
        _hits.clear()
        raise InjectedFault(point)
    os.kill(os.getpid(), signal.SIGSTOP if point.endswith(":hang") else signal.SIGKILL)


def fail_point(label: str) -> None:
    """Die here if the environment asks for it."""
    if armed(label):
        die()
