"""What stands before every route of the control API: who may speak, and how much.

An ASGI application around another one. It refuses before anything of a body is parsed: a Host that is not loopback
(DNS rebinding), any Origin (a browser), a missing or wrong token, a body that is too large, too slow or no JSON.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from burnish.data.errors import Problem
from burnish.platform.control_schema import BODY_SECONDS, INTERNAL, MAX_BODY, Refusal, error_body

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
OPEN = ("GET", "/healthz")
"""The one request that needs no token; it says that somebody listens and nothing else."""


class Guard:
    """Let a request through to `app`, or answer it.

    Args:
        app: the routes.
        token: what `Authorization: Bearer` must say.
        warn: gets a line for an error that no route foresaw.
    """

    def __init__(self, app: App, token: str, *, warn: Callable[[str], None]) -> None:
        self._app, self._token, self._warn = app, token.encode(), warn

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        sent: list[bool] = []

        async def noting(message: Message) -> None:
            sent.append(True)
            await send(message)

        try:
            self._admit(scope)
            body = await _body(scope, receive)
            await self._app(scope, _once(body, receive), noting)
        except Refusal as refusal:
            await _refuse(refusal, send)
        except Exception as error:  # whatever a route does, the run goes on and the answer tells nothing of it
            self._warn(f"control API: {type(error).__name__}: {error}")
            if not sent:
                await _refuse(Refusal(500, INTERNAL), send)

    def _admit(self, scope: Scope) -> None:
        """Raises: Refusal 421, 403 or 401."""
        if not _is_loopback(_values(scope, b"host")):
            raise Refusal(421, "the request is refused", [Problem("Host", "another host", "a loopback address")])
        if _values(scope, b"origin"):
            raise Refusal(
                403, "the request is refused", [Problem("Origin", "a web page's request", "no Origin header")]
            )
        if (scope["method"], scope["path"]) != OPEN and not self._knows(_values(scope, b"authorization")):
            problem = Problem("Authorization", "no or another token", "Bearer and the text of the run's control.token")
            raise Refusal(401, "the request is refused", [problem])

    def _knows(self, values: list[bytes]) -> bool:
        if len(values) != 1:
            return False
        scheme, _, token = values[0].partition(b" ")
        return hmac.compare_digest(token.strip(), self._token) and scheme.lower() == b"bearer"


def _values(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key.lower() == name]


def _is_loopback(hosts: list[bytes]) -> bool:
    if len(hosts) != 1:
        return False
    text = hosts[0].decode("latin-1").lower()
    end = text.find("]") + 1 if text.startswith("[") else text.find(":")
    name, port = (text, "") if end < 0 else (text[:end], text[end:])
    return name in LOOPBACK and (not port or port[1:].isdigit())


async def _body(scope: Scope, receive: Receive) -> bytes:
    """The whole body of a POST; no other route takes one.

    Raises:
        Refusal: 413 too large, declared or counted; 415 not JSON; 408 too slow.
    """
    declared = b"".join(_values(scope, b"content-length")[:1])
    if declared.isdigit() and int(declared[:20]) > MAX_BODY:
        raise _too_large()
    if scope["method"] != "POST":
        return b""
    kinds = [value.partition(b";")[0].strip().lower() for value in _values(scope, b"content-type")]
    if kinds != [b"application/json"]:
        raise Refusal(415, "the request is refused", [Problem("Content-Type", "another one", "application/json")])
    try:
        return await asyncio.wait_for(_read(receive), BODY_SECONDS)
    except TimeoutError:
        allowed = f"all of it within {BODY_SECONDS:.0f} s"
        raise Refusal(408, "the request is refused", [Problem("body", "a part of it", allowed)]) from None


async def _read(receive: Receive) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Refusal(400, "the sender left")
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        if size > MAX_BODY:
            raise _too_large()
        if not message.get("more_body"):
            return b"".join(parts)


def _too_large() -> Refusal:
    return Refusal(413, "the request is refused", [Problem("body", f"over {MAX_BODY} bytes", f"at most {MAX_BODY}")])


def _once(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read, then whatever follows it."""
    given: list[bool] = []

    async def again() -> Message:
        if given:
            return await receive()
        given.append(True)
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(refusal: Refusal, send: Send) -> None:
    body = error_body(refusal)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if refusal.status in (408, 413):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
