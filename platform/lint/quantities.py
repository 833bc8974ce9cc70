"""Kubernetes quantities as numbers, to compare them: 500m, 4, 16Gi."""

from __future__ import annotations

import re
from fractions import Fraction

_FORM = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+))(?:([KMGTPE])i|([numkMGTPE])|[eE]([+-]?\d+))?")
_SMALL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}


def amount(value: object) -> Fraction | None:
    """The number that a quantity stands for; None where it is none."""
    match = _FORM.fullmatch(str(value)) if isinstance(value, int | float | str) and value is not True else None
    if match is None:
        return None
    number = Fraction(match[1])
    if match[2]:
        return number * 1024 ** ("KMGTPE".index(match[2]) + 1)
    power = _SMALL[match[3]] if match[3] else int(match[4] or 0)
    return number * Fraction(10) ** power
