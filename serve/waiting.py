"""Wait for an answer as long as the client does. Called by the routes that answer in one piece."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from burnish.serve.refusal import Refusal

T = TypeVar("T")


async def while_connected(request: Any, work: Awaitable[T]) -> T:
    """The work's result; the work is cancelled when the client leaves first.

    Args:
        request: starlette's, its body read.
        work: what the client waits for.

    Raises:
        Refusal: 408, nobody waits any more; nobody will read it either.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait([task, watch], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Refusal(408, "deadline_passed", "the client left")
        return task.result()
    finally:
        for waiting in (task, watch):
            waiting.cancel()


async def _left(request: Any) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
