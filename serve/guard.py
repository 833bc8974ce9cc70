"""What stands before every route: who may speak, how much, and how many at once.

An ASGI application round another one. It refuses before a byte of a body is read: a foreign Host (DNS rebinding), a web
page of another origin, a missing or wrong token, a full queue; and while it is read: a body that is too large or slow.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from burnish.data.errors import Problem
from burnish.serve.hosts import host_name
from burnish.serve.page import PATHS
from burnish.serve.refusal import RETRY_SECONDS, Refusal
from burnish.serve.schema import HEADER_IDEMPOTENCY, HEADER_REQUEST, MAX_BODY
from burnish.serve.service import Service

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PUBLIC = frozenset({*PATHS, "/healthz", "/readyz"})
HEAVY = frozenset({"/v1/refine", "/v1/images/edits"})
"""Routes whose requests count towards the queue."""
ADMIN = "/v1/admin/"
PROMOTE = "/v1/admin/promote"
BODY_SECONDS = 60.0
SPREAD = 4
"""Over how many seconds those are spread whom a full queue refuses."""
_ID = re.compile(rb"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Tokens:
    """Secrets of a server; no user token = user routes are open, and it is reached from this machine alone."""

    admin: str
    user: str | None = None


class Guard:
    """Let a request through to `app`, or answer it.

    Args:
        app: the routes.
        service: its queue and log.
        tokens: what `Authorization: Bearer` may say.
    """

    def __init__(self, app: App, service: Service, tokens: Tokens) -> None:
        self._app, self._service, self._tokens = app, service, tokens
        self._refused = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        if scope["type"] != "http":
            return
        began, path = time.monotonic(), scope["path"]
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        status: list[int] = []

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                status.append(message["status"])
                message["headers"] = [*message.get("headers", []), (HEADER_REQUEST.encode(), request_id.encode())]
            await send(message)

        try:
            self._admit(scope)
            await self._queued(scope, receive, noting)
        except Refusal as refusal:
            await refuse(refusal, request_id, noting)
        except Exception as error:  # the server goes on, and the answer tells nothing of it
            refusal = self._service.internal(request_id, path[:80], error)
            if not status:
                await refuse(refusal, request_id, noting)
        route = path if path in HEAVY else "other"
        self._service.metrics.requests.labels(route, str(status[0] if status else 499)).inc()
        self._service.metrics.seconds.labels(route).observe(time.monotonic() - began)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            ending = message["type"] == "lifespan.shutdown"
            if ending:
                self._service.close()
            await send({"type": f"{message['type']}.complete"})
            if ending:
                return

    def _admit(self, scope: Scope) -> None:
        """Raises: Refusal 421, 403 or 401."""
        host = _values(scope, b"host")
        if len(host) != 1 or host_name(host[0].decode("latin-1")) not in self._service.config.hosts:
            raise Refusal(421, "misdirected", "the request is refused", [Problem("Host", "another host", "this one")])
        path = scope["path"]
        admin = path.startswith(ADMIN)
        for origin in _values(scope, b"origin"):
            if admin or origin.rpartition(b"://")[2].lower() != host[0].lower():
                raise Refusal(
                    403, "forbidden", "the request is refused", [Problem("Origin", "a web page", "this server's page")]
                )
        if path in PUBLIC or (self._tokens.user is None and not admin):
            return
        given = self._given(_values(scope, b"authorization"))
        is_admin = _same(given, self._tokens.admin)
        is_user = _same(given, self._tokens.user)
        if is_user and admin:
            problem = Problem("Authorization", "a user's token", "the admin token")
            raise Refusal(403, "forbidden", "the request is refused", [problem])
        if not (is_admin or is_user):
            problem = Problem("Authorization", "no token or another one", "Bearer and a token of this server")
            raise Refusal(401, "unauthorized", "the request is refused", [problem])

    def _given(self, values: list[bytes]) -> bytes:
        if len(values) != 1:
            return b""
        scheme, _, token = values[0].partition(b" ")
        return token.strip() if scheme.lower() == b"bearer" else b""

    async def _queued(self, scope: Scope, receive: Receive, send: Send) -> None:
        service, heavy = self._service, scope["path"] in HEAVY and scope["method"] == "POST"
        if heavy:
            if service.draining:
                raise Refusal(503, "unavailable", "the server is about to end")
            key = b"".join(_values(scope, HEADER_IDEMPOTENCY.encode())[:1]).decode("latin-1")
            waiting = service.busy + service.repeats.orphans(but=key)  # who comes back for its own adds nothing
            if waiting >= service.config.queue:
                problem = Problem("queue", f"{waiting} requests", f"at most {service.config.queue}")
                self._refused += 1  # told different times, they do not come back all at once
                retry = RETRY_SECONDS + self._refused % SPREAD
                raise Refusal(429, "queue_full", "too many requests are waiting", [problem], retry)
        service.busy += heavy
        service.metrics.busy.set(service.busy)
        try:
            if scope["method"] != "POST" or scope["path"] == PROMOTE:  # an adapter streams to disk, see routes_admin
                await self._app(scope, receive, send)
            else:
                scope["state"]["body"] = body = await _body(scope, receive, MAX_BODY)
                await self._app(scope, _once(body, receive), send)
        finally:
            service.busy -= heavy
            service.metrics.busy.set(service.busy)


def _same(given: bytes, token: str | None) -> bool:
    """Nothing is never the same, not even as an empty token."""
    return bool(given and token) and hmac.compare_digest(given, str(token).encode())


def _request_id(scope: Scope) -> str:
    given = _values(scope, HEADER_REQUEST.encode())
    return given[0].decode() if len(given) == 1 and _ID.fullmatch(given[0]) else uuid.uuid4().hex


def _values(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key.lower() == name]


async def _body(scope: Scope, receive: Receive, most: int) -> bytes:
    """Raises: Refusal 413 too large, declared or counted; 408 too slow."""
    declared = b"".join(_values(scope, b"content-length")[:1])
    if declared.isdigit() and int(declared[:20]) > most:
        raise too_large(most)
    try:
        return await asyncio.wait_for(_read(receive, most), BODY_SECONDS)
    except TimeoutError:
        problem = Problem("body", "a part of it", f"all of it within {BODY_SECONDS:.0f} s")
        raise Refusal(408, "deadline_passed", "the body is too slow", [problem]) from None


async def _read(receive: Receive, most: int) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Refusal(400, "malformed", "the sender left")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise too_large(most)
        if not message.get("more_body"):
            return b"".join(parts)


def too_large(most: int) -> Refusal:
    """413."""
    return Refusal(
        413, "too_large", "the body is too large", [Problem("body", f"over {most} bytes", f"at most {most}")]
    )


def _once(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read, then whatever follows it."""
    given: list[bool] = []

    async def again() -> Message:
        if given:
            return await receive()
        given.append(True)
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def refuse(refusal: Refusal, request_id: str, send: Send) -> None:
    """Answer with a refusal."""
    body = refusal.body(request_id)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in refusal.headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
