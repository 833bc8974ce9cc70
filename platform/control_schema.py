"""What the control API and its client agree on: two files, strict JSON in, errors with every problem out.

Read by `control*.py`; it opens no socket and knows no route.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from burnish.data.errors import BurnishError, ConfigError, Problem

ADDRESS, TOKEN = "control.json", "control.token"
"""Files of the run directory: where the API listens, and the secret that every request must bring."""
MAX_BODY = 1 << 20
"""Bytes of a request's body; more are not read."""
MAX_DEPTH = 16
"""Levels of lists and mappings in a body."""
BODY_SECONDS = 10.0
"""How long a body may take to arrive."""
INTERNAL = "internal error; the run's own output says more"
"""All that an answer tells of an error that no route foresaw."""


class Refusal(Exception):
    """A request that is not answered with what it asked for.

    Args:
        status: HTTP status.
        message: one sentence.
        problems: every single thing that is wrong.
    """

    def __init__(self, status: int, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(status, message, tuple(problems))
        self.status, self.message, self.problems = status, message, tuple(problems)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.status, self.message, self.problems)


def refusal_of(error: BurnishError) -> Refusal:
    """How the API says an error: 422 for what the sender can mend, else 409."""
    return Refusal(422 if isinstance(error, ConfigError) else 409, error.message, error.problems)


def error_body(refusal: Refusal) -> bytes:
    """The reply's body: `{"error": {"code", "message", "problems": [{"field", "got", "allowed", "hint"}]}}`."""
    problems = [vars(problem) for problem in refusal.problems]
    entry = {"code": refusal.status, "message": refusal.message, "problems": problems}
    return json.dumps({"error": entry}).encode()


def parse_body(raw: bytes) -> dict[str, Any]:
    """A request's body as plain values.

    Args:
        raw: at most MAX_BODY bytes.

    Raises:
        Refusal: 400 for bytes that are not UTF-8, not JSON, hold a key twice, a number that is not finite or more than
            MAX_DEPTH levels; 422 if the top is not a mapping.
    """
    try:
        tree = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_each_key_once, parse_constant=_refused_number, parse_float=_finite
        )
    except UnicodeDecodeError:
        raise _malformed("other bytes", "UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise _malformed(f"{error.msg} at character {error.pos}", "JSON") from None
    except RecursionError:
        raise _malformed(f"more than {MAX_DEPTH} levels", f"at most {MAX_DEPTH} levels") from None
    except ValueError:
        raise _malformed("a number with too many digits", "JSON") from None
    if any(depth > MAX_DEPTH for depth in _depths(tree, 1)):
        raise _malformed(f"more than {MAX_DEPTH} levels", f"at most {MAX_DEPTH} levels")
    if not isinstance(tree, dict):
        raise Refusal(422, "the body is refused", [Problem("body", f"a {type(tree).__name__}", "a mapping of keys")])
    return tree


def _malformed(got: str, allowed: str) -> Refusal:
    return Refusal(400, "the body is not readable", [Problem("body", got, allowed)])


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        raise _malformed(f"{', '.join(map(repr, twice[:8]))} more than once", "each key once")
    return found


def _refused_number(text: str) -> float:
    raise _malformed(text, "finite numbers")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refused_number(text[:20])


def _depths(value: Any, depth: int) -> Iterator[int]:
    """The depth of every list and mapping; it does not go further down than it must."""
    if isinstance(value, dict | list):
        yield depth
        if depth <= MAX_DEPTH:
            for entry in value.values() if isinstance(value, dict) else value:
                yield from _depths(entry, depth + 1)
