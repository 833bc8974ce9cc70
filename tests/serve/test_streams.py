"""Events of a job: failures before the first one, silence, a listener that leaves."""

import asyncio

import pytest

from burnish.serve.refusal import Refusal, unavailable
from burnish.serve.streams import COMMENT, events


def stream(work):
    return events(work, request_id="r", failed=lambda error: Refusal(500, "internal", str(error)))


async def all_of(parts):
    return [part async for part in parts]


async def refused(emit):
    raise unavailable("no replica is there")


async def refused_late(emit):
    emit("accepted", {})
    raise unavailable("no replica is there")


async def slow(emit):
    emit("", {})
    await asyncio.sleep(0.1)
    return "done", {}


def test_what_fails_before_the_first_event_is_raised_and_later_it_is_told():
    with pytest.raises(Refusal, match="no replica is there"):
        asyncio.run(all_of(stream(refused)))
    first, last = asyncio.run(all_of(stream(refused_late)))
    assert first.startswith(b"event: accepted") and last.startswith(b"event: error") and b"no replica is there" in last


def test_silence_is_filled_with_comments_once_the_response_has_begun(monkeypatch):
    monkeypatch.setattr("burnish.serve.streams.WAITING", 0.02)
    parts = asyncio.run(all_of(stream(slow)))
    assert parts[:2] == [COMMENT, COMMENT] and parts[-1] == b"event: done\ndata: {}\n\n"


def test_leaving_a_stream_ends_its_work():
    ended = []

    async def endless(emit):
        emit("accepted", {})
        try:
            await asyncio.sleep(60.0)
        finally:
            ended.append(True)

    async def leave():
        parts = stream(endless)
        await anext(parts)
        await asyncio.sleep(0)
        await parts.aclose()
        await asyncio.sleep(0)

    asyncio.run(leave())
    assert ended == [True]
