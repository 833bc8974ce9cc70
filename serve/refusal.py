"""How a request is refused: status, stable code, every problem; and the body that says so.

Raised anywhere behind the guard. It survives pickling: replicas raise it too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from burnish.data.errors import BurnishError, Problem
from burnish.serve.hints import hint_for

RETRY_SECONDS = 1
"""What `Retry-After` says at least."""
MAX_PROBLEMS = 32
"""Problems that one answer names; of the others it says how many there are."""
INTERNAL = "internal error; the server's log says more under this request id"
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Refusal(Exception):
    """A request that is not answered with what it asked for.

    Args:
        status: HTTP status.
        code: snake case, stable.
        message: one sentence.
        problems: every single thing that is wrong.
        retry: seconds that `Retry-After` says where it may pass.
    """

    def __init__(
        self, status: int, code: str, message: str, problems: Sequence[Problem] = (), retry: int = RETRY_SECONDS
    ) -> None:
        super().__init__(status, code, message, tuple(problems), retry)
        self.status, self.code, self.message, self.problems = status, code, message, tuple(problems)
        self.retry = retry

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.status, self.code, self.message, self.problems, self.retry)

    @property
    def headers(self) -> dict[str, str]:
        """Headers that go with it."""
        if self.status in (429, 503):
            return {"retry-after": str(self.retry)}
        if self.status == 401:
            return {"www-authenticate": "Bearer"}
        return {"connection": "close"} if self.status in (408, 413) else {}

    def body(self, request_id: str) -> bytes:
        """The body: an `ErrorBody` of `schema.py`."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        entry = {
            "code": self.code,
            "message": self.message,
            "type": kind,
            "param": self.problems[0].field if self.problems else None,
            "problems": [vars(p) | {"hint": p.hint or hint_for(self.code, p.field)} for p in self.problems],
            "request_id": request_id,
        }
        return json.dumps({"error": entry}).encode()


def invalid(*problems: Problem) -> Refusal:
    """422: fields or pictures that cannot be used; of more than `MAX_PROBLEMS` the first."""
    left = len(problems) - MAX_PROBLEMS
    more = [Problem("problems", f"{left} more", f"at most {MAX_PROBLEMS} are named")] if left > 0 else []
    return Refusal(422, "invalid", "the request is refused", [*problems[:MAX_PROBLEMS], *more])


class ReplicaDied(Refusal):
    """503: the replica that had the request died, perhaps of it."""

    def __init__(self) -> None:
        super().__init__(503, "unavailable", "a replica died")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), ()


def unavailable(why: str) -> Refusal:
    """503: try again in a moment."""
    return Refusal(503, "unavailable", why)


def refusal_of(error: BurnishError) -> Refusal:
    """How an error of the other rooms is said: the sender's data is at fault."""
    problems = error.problems or (Problem("request", error.message, "see the message"),)
    return Refusal(422, "invalid", error.message, problems)
