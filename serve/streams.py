"""Server-sent events: what a job tells while it runs, as text of `text/event-stream`.

Called by the routes. Leaving the stream cancels the job.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from burnish.serve.refusal import Refusal

WAITING = 10.0
"""Seconds without an event after which a comment shows that the server lives."""
COMMENT = b": waiting\n\n"
Emit = Callable[[str, dict[str, Any]], None]


def event(name: str, data: Any) -> bytes:
    """One event; without a name it is a comment, which says only that the job has begun."""
    if not name:
        return COMMENT
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


async def events(
    work: Callable[[Emit], Awaitable[tuple[str, dict[str, Any]]]],
    *,
    request_id: str,
    failed: Callable[[BaseException], Refusal],
) -> AsyncGenerator[bytes, None]:
    """The events of a job, then its last one. What fails before the first event is raised: no status is sent yet.

    Args:
        work: does the job, emits events on the way, returns the last one.
        request_id: for the error's body.
        failed: says an error that nobody foresaw.
    """
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()
    task = asyncio.ensure_future(work(lambda name, data: queue.put_nowait(event(name, data))))
    task.add_done_callback(lambda _: queue.put_nowait(None))
    begun = False
    try:
        while True:
            try:
                part = await asyncio.wait_for(queue.get(), WAITING if begun else None)
            except TimeoutError:
                yield COMMENT
                continue
            if part is None:
                break
            begun = True
            yield part
        try:
            yield event(*task.result())
        except Exception as error:  # where the status is sent already, the stream says what went wrong
            if not begun:
                raise
            refusal = error if isinstance(error, Refusal) else failed(error)
            yield b"event: error\ndata: " + refusal.body(request_id) + b"\n\n"
    finally:
        task.cancel()
