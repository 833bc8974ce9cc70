"""What comes back from an endpoint: statuses, bounded bodies, strict JSON.

Called by `transport.py` and by what parses replies. Opens nothing and repeats nothing.
"""

from __future__ import annotations

import json
import re
import sys
import time
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

import requests

from burnish.rewards.endpoint import HIDDEN

PASSING = frozenset({429, 500, 502, 503, 504})
"""Statuses that may heal by themselves: asked again. All others but 2xx fail at once."""

SHOWN = 200
"""Characters of an endpoint's own words that an error repeats."""


class MalformedReply(ValueError):
    """An answer that arrived and is not what was agreed on."""


class Unanswered(Exception):
    """A request that got no usable answer.

    Args:
        reason: words that are safe to show.
        status: HTTP status, 0 = none arrived.
        passing: it may be different the next time.
        retry_after: seconds that the endpoint asked to wait.
        said: the start of its answer, without the token; '' = nothing fit to show.
    """

    def __init__(
        self, reason: str, *, status: int = 0, passing: bool = True, retry_after: float = 0.0, said: str = ""
    ) -> None:
        super().__init__(reason)
        self.status, self.passing, self.retry_after, self.said = status, passing, retry_after, said


def strict_json(text: str | bytes) -> Any:
    """What a JSON text says; NaN, Infinity and keys that stand twice are refused, raw newlines in strings are not.

    Raises:
        MalformedReply: it is not such JSON.
    """
    try:
        return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique, strict=False)
    except (ValueError, RecursionError) as error:
        raise MalformedReply(f"not JSON ({type(error).__name__})") from None


def finite_number(value: Any) -> float:
    """A JSON number as a float.

    Raises:
        MalformedReply: it is text, a bool or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise MalformedReply("not a finite number")
    return float(value)


def retry_seconds(header: str | None) -> float:
    """Seconds that a Retry-After header asks to wait (RFC 9110 10.2.3: seconds or a date); 0 = it asks nothing."""
    if header is None:
        return 0.0
    if re.fullmatch("[0-9]{1,9}", header.strip()):
        return float(header)
    with suppress(ValueError):
        date = parsedate_to_datetime(header)
        if date.tzinfo is not None:
            return max((date - datetime.now(date.tzinfo)).total_seconds(), 0.0)
    return 0.0


def accept(response: requests.Response, *, token: str, limit: int, until: float) -> bytes:
    """The body of a 2xx answer.

    Args:
        response: opened with `stream=True`, nothing of its body read yet.
        token: what must not be shown.
        limit: most bytes.
        until: `time.monotonic()` by which it must have ended.

    Raises:
        Unanswered: another status, or too slow. MalformedReply: compressed or too long.
    """
    status = response.status_code
    if status // 100 == 2:
        return _read(response, limit=limit, until=until)
    wait = retry_seconds(response.headers.get("Retry-After"))
    if status in PASSING:
        raise Unanswered(f"HTTP {status}", status=status, retry_after=wait)
    said = "" if status in (401, 403) else _start(response, token)
    reason = f"HTTP {status}" + (", a redirect; none is followed" if status // 100 == 3 else "")
    raise Unanswered(reason, status=status, passing=False, said=said)


def _start(response: requests.Response, token: str) -> str:
    """The first words of a refusal, without the token and without what may be the token's beginning at its end."""
    text = response.raw.read1(4096, decode_content=False).decode("utf-8", "replace")
    text = text.replace(token, HIDDEN) if token else text
    cut = next((n for n in range(len(token) - 1, 0, -1) if text.endswith(token[:n])), 0)
    return "".join(c if c.isprintable() else " " for c in text[: len(text) - cut])[:SHOWN].strip()


def _read(response: requests.Response, *, limit: int, until: float) -> bytes:
    """The body, at most `limit` bytes and before the clock says `until`, however slowly it drips."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise MalformedReply("compressed, which was not asked for")  # a small body may unpack into a huge one
    parts, size = [], 0
    while part := response.raw.read1(1 << 16, decode_content=False):
        parts.append(part)
        size += len(part)
        if size > limit:
            raise MalformedReply(f"longer than {limit} bytes")
        if time.monotonic() > until:
            raise Unanswered("the answer did not end in time")
    return b"".join(parts)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)
