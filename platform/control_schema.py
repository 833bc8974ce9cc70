"""What the control API and its client agree on: two files, strict JSON in, errors with every problem out.

Read by `control*.py`; it opens no socket and knows no route.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from burnish.data.errors import BurnishError, ConfigError, DataError, Problem
from burnish.data.strict_json import parse

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
        Refusal: 400 for what `strict_json.parse` refuses; 422 if the top is not a mapping.
    """
    try:
        tree = parse(raw, max_depth=MAX_DEPTH)
    except DataError as error:
        raise Refusal(400, error.message, error.problems) from None
    if not isinstance(tree, dict):
        raise Refusal(422, "the body is refused", [Problem("body", f"a {type(tree).__name__}", "a mapping of keys")])
    return tree
