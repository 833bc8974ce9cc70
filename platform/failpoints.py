"""Labelled places where a test can make the process die, as if it were killed there.

Set `BURNISH_FAIL_POINT=label` (or `label:3`: the third time) and the process ends with exit code 137 at that place,
with no clean-up. Without the variable a fail point costs a dictionary look-up. Production code never sets it.
"""

from __future__ import annotations

import os
from collections import Counter

VARIABLE = "BURNISH_FAIL_POINT"
EXIT_CODE = 137
_hits: Counter[str] = Counter()


def armed(label: str) -> bool:
    """Count a visit of `label`; True if the process should die at this one."""
    wanted, _, count = os.environ.get(VARIABLE, "").partition(":")
    if wanted != label:
        return False
    _hits[label] += 1
    return _hits[label] == int(count or 1)


def die() -> None:
    """End the process at once: no clean-up, no buffers written."""
    os._exit(EXIT_CODE)


def fail_point(label: str) -> None:
    """Die here if the environment asks for it."""
    if armed(label):
        die()
