"""JSON as it comes over a wire, read strictly: each key once, finite numbers, UTF-8, a bounded depth.

Called by every HTTP API of burnish. It converts nothing and knows no fields.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from burnish.data.errors import DataError, Problem

MAX_KEYS = 10_000
"""Keys of one mapping."""


def parse(raw: bytes, *, max_depth: int = 16, field: str = "body") -> Any:
    """A text as plain values.

    Args:
        raw: its bytes; the caller has bounded them.
        max_depth: levels of lists and mappings.
        field: what errors call it.

    Raises:
        DataError: bytes that are not UTF-8 or not JSON, a key twice, more than `MAX_KEYS` keys, a number
            that is not finite, too many levels.
    """
    try:
        tree = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_each_key_once, parse_constant=_refused_number, parse_float=_finite
        )
    except UnicodeDecodeError:
        raise _malformed(field, "other bytes", "UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise _malformed(field, f"{error.msg} at character {error.pos}", "JSON") from None
    except RecursionError:
        raise _malformed(field, f"more than {max_depth} levels", f"at most {max_depth} levels") from None
    except _Refused as error:
        raise _malformed(field, *error.args) from None
    except ValueError:
        raise _malformed(field, "a number with too many digits", "JSON") from None
    if any(depth > max_depth for depth in _depths(tree, 1, max_depth)):
        raise _malformed(field, f"more than {max_depth} levels", f"at most {max_depth} levels")
    return tree


class _Refused(ValueError):
    """Values that JSON's grammar allows and this reader does not: got, allowed."""


def _malformed(field: str, got: str, allowed: str) -> DataError:
    return DataError("the body is not readable", [Problem(field, got, allowed)])


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_KEYS:
        raise _Refused(f"a mapping of {len(pairs)} keys", f"at most {MAX_KEYS}")
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = sorted(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise _Refused(f"{', '.join(repr(key[:80]) for key in twice[:8])} more than once", "each key once")
    return found


def _refused_number(text: str) -> float:
    raise _Refused(text, "finite numbers")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refused_number(text[:20])


def _depths(value: Any, depth: int, deepest: int) -> Iterator[int]:
    """The depth of every list and mapping; it does not go further down than it must."""
    if isinstance(value, dict | list):
        yield depth
        if depth <= deepest:
            for entry in value.values() if isinstance(value, dict) else value:
                yield from _depths(entry, depth + 1, deepest)
