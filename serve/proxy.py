"""What stands round Ray Serve's HTTP proxy: its answer when the ingress dies in the middle of a request.

The proxy says nothing then and its server makes a bare 500 of that; here it becomes 503 with `Retry-After`, as from any
other replica. Serve calls `middlewares` where the environment variable
`RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH` holds `burnish.serve.proxy.middlewares`, as a Ray that burnish starts does.
"""

from __future__ import annotations

import uuid
from typing import Any

from burnish.serve.guard import App, Message, Receive, Scope, Send, refuse
from burnish.serve.refusal import unavailable
from burnish.serve.schema import HEADER_REQUEST


class Answering:
    """Answers where the application behind it gave none, and names a request once.

    Args:
        app: Serve's proxy.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            if message["type"] == "http.response.start":
                message = {**message, "headers": _named_once(message["headers"])}
            await send(message)

        await self._app(scope, receive, noting)
        if not started:
            await refuse(unavailable("the server's front is being restarted"), uuid.uuid4().hex, send)


def _named_once(headers: Any) -> list[tuple[bytes, bytes]]:
    """Serve's proxy adds the request's id, which the guard has written already."""
    name, kept, seen = HEADER_REQUEST.encode(), [], False
    for key, value in headers:
        if key.lower() == name:
            if seen:
                continue
            seen = True
        kept.append((key, value))
    return kept


def middlewares() -> list[Any]:
    """What Serve puts round its proxy."""
    from starlette.middleware import Middleware

    return [Middleware(Answering)]  # type: ignore[arg-type]
