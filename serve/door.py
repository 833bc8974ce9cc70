"""The whole ASGI application of a server: guard, routes, service, built on first use in the process that answers.

It holds plain values until then, so that Ray Serve can carry it to where it runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from burnish.data.errors import ConfigError, Problem
from burnish.serve.backend import Backend
from burnish.serve.guard import Guard, Receive, Scope, Send, Tokens
from burnish.serve.hosts import USER_TOKEN, beyond_loopback
from burnish.serve.service import Service
from burnish.serve.store import ServeConfig, Store, strong


def make_app(service: Service) -> Any:
    """The FastAPI application, without its guard."""
    from fastapi import FastAPI, Request, Response
    from starlette.exceptions import HTTPException

    from burnish.data.errors import BurnishError
    from burnish.serve.refusal import Refusal, refusal_of
    from burnish.serve.routes import add_public, refusal_response, request_id
    from burnish.serve.routes_admin import add_admin

    app = FastAPI(title="burnish", docs_url=None, redoc_url=None, redirect_slashes=False)
    add_public(app, service)
    add_admin(app, service)

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> Response:
        return refusal_response(error, request)

    @app.exception_handler(BurnishError)
    async def mistaken(request: Request, error: BurnishError) -> Response:
        return refusal_response(refusal_of(error), request)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return refusal_response(service.internal(request_id(request), request.url.path[:80], error), request)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid")
        problem = Problem("request", f"{request.method} {request.url.path}"[:120], "a route of this server")
        return refusal_response(Refusal(error.status_code, code, str(error.detail), [problem]), request)

    return app


def tokens_of(config: ServeConfig) -> Tokens:
    """The admin token, made on first use, and the users', where one is set.

    Raises:
        ConfigError: a token that is too short, or none for users of a server that others than this machine can reach.
    """
    store = Store(Path(config.directory))
    user = os.environ.get(USER_TOKEN) or None
    if user is not None:
        strong(user, USER_TOKEN)
    elif (store.directory / "user.token").exists():
        user = store.token("user")
    elif foreign := beyond_loopback(config.hosts):
        hint = f"without one anybody who reaches the server can use it: set {USER_TOKEN}, or write the file"
        place = f"a user token, in {USER_TOKEN} or {store.directory / 'user.token'}"
        raise ConfigError("server refused", [Problem("hosts", ", ".join(foreign), f"{place}, or loopback alone", hint)])
    return Tokens(store.token("admin"), user)


class Door:
    """An ASGI application that builds itself at its first call.

    Args:
        config: plain values.
        backend: makes the backend, in the process that answers.
    """

    def __init__(self, config: ServeConfig, backend: Callable[[], Backend]) -> None:
        self._config, self._backend = config, backend
        self._guard: Guard | None = None
        self.service: Service | None = None

    def open(self) -> Service:
        """Build what answers, once; the service.

        Raises:
            ConfigError: as `tokens_of`.
        """
        if self.service is None:
            tokens = tokens_of(self._config)
            self.service = Service(self._config, self._backend())
            self._guard = Guard(make_app(self.service), self.service, tokens)
        return self.service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the lifespan."""
        self.open().start()
        assert self._guard is not None
        await self._guard(scope, receive, send)
