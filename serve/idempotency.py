"""Repeats of a request: the same key and the same body get the first one's answer; another body is refused.

Bounded in number, bytes and time. Only answers are remembered, never failures: a retry after those does the work.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from burnish.data.errors import Problem
from burnish.serve.refusal import Refusal

MAX_KEYS = 512
MAX_BYTES = 64 << 20
SECONDS = 600.0


@dataclass(frozen=True)
class Answer:
    """A whole answer: body and headers of a status 200."""

    body: bytes
    headers: dict[str, str]


@dataclass(eq=False)
class _Entry:
    body: str
    since: float
    task: asyncio.Task[Answer]
    size: int = 0
    askers: int = 0


class Repeats:
    """What was answered lately, by key.

    Args:
        clock: seconds, only ever growing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0

    def orphans(self, *, but: str | None = None) -> int:
        """Works that go on although everybody who asked for them left; not that of the key `but`."""
        return sum(not e.task.done() and not e.askers for key, e in self._entries.items() if key != but)

    async def answer(self, key: str, body: str, work: Callable[[], Awaitable[Answer]]) -> tuple[Answer, bool]:
        """(answer, whether it is a repeat's).

        Args:
            key: the client's.
            body: digest of the request's route and body.
            work: makes the answer; called unless the key is known. It goes on when the asker leaves: others may wait.

        Raises:
            Refusal: 409, the key was used with another body; or what `work` raises.
        """
        self._forget()
        entry = self._entries.get(key)
        if entry is not None:
            if entry.body != body:
                problem = Problem("idempotency-key", key, "a key that was not used with another request")
                raise Refusal(409, "idempotency_conflict", "the key was used with another request", [problem])
            return await self._wait(entry), True
        entry = _Entry(body, self._clock(), asyncio.ensure_future(work()))
        self._entries[key] = entry
        entry.task.add_done_callback(lambda task: self._settle(key, entry, task))
        return await self._wait(entry), False

    async def _wait(self, entry: _Entry) -> Answer:
        entry.askers += 1
        try:
            return await asyncio.shield(entry.task)
        finally:
            entry.askers -= 1

    def _settle(self, key: str, entry: _Entry, task: asyncio.Task[Answer]) -> None:
        if task.cancelled() or task.exception() is not None:
            if self._entries.get(key) is entry:
                del self._entries[key]
            return
        entry.size = len(task.result().body)
        self._bytes += entry.size
        self._forget()

    def _forget(self) -> None:
        """Drop what is old or too much, oldest first; what is in work stays."""
        for key, entry in list(self._entries.items()):
            crowded = len(self._entries) > MAX_KEYS or self._bytes > MAX_BYTES
            if not entry.task.done() or not (crowded or self._clock() - entry.since > SECONDS):
                continue
            del self._entries[key]
            self._bytes -= entry.size
