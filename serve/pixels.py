"""Threads for work on whole pictures: decoding, cutting, pasting, encoding.

Few of them, so that the event loop, which refuses what is too much, is never kept waiting by those who were let in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
THREADS = 2
_POOL = ThreadPoolExecutor(THREADS, "pixels")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What the function returns, called in one of the threads."""
    return await asyncio.get_running_loop().run_in_executor(_POOL, lambda: function(*args, **kwargs))
