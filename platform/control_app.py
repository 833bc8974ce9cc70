"""The routes of a run's control API. Called by `control.py`; the guard around them has let the request in.

No `from __future__ import annotations` here: FastAPI reads the types of the routes' arguments, and they are imported
where they are needed, so that a driver that cannot import FastAPI still trains.
"""

import re
from collections.abc import Mapping
from typing import Any, Protocol

from burnish.data.errors import BurnishError, Problem
from burnish.platform.changes import Change, change_from
from burnish.platform.control_schema import INTERNAL, Refusal, error_body, parse_body, refusal_of

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Desk(Protocol):
    """Where the API hands changes in and asks about them; called from the server's thread."""

    def submit(self, change: Change) -> str:
        """Hand in a change; returns its id.

        Raises:
            ConfigError: it does not fit the run; the run goes on undisturbed.
        """
        ...

    def status(self) -> Mapping[str, Any]:
        """The present rubric, its rewards, the shadows and all changes, as JSON values."""
        ...

    def change(self, change_id: str) -> Mapping[str, Any] | None:
        """One change, None if there is no such id."""
        ...


class Workers(Protocol):
    """Where sizes of pools are handed in; called from the server's thread."""

    def ask(self, wanted: Mapping[str, object]) -> Mapping[str, Any]:
        """Want other sizes; returns the status.

        Raises:
            ConfigError: an unknown role or no such number.
        """
        ...

    def status(self) -> Mapping[str, Any]:
        """Role -> how many work and how many are wanted."""
        ...


def make_app(desk: Desk, workers: Workers | None = None) -> Any:
    """The FastAPI application of a run: status of its rewards and workers, changes of them, health.

    It has no page of documentation and no schema route. A change is answered with 202 and its id as soon as it is
    handed in; what became of it is asked under that id.

    Args:
        desk: where changes are handed in.
        workers: where sizes of pools are handed in; None = the run has none that could change.
    """
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)

    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @app.get("/v1/rewards")
    async def rewards() -> JSONResponse:
        return JSONResponse(dict(desk.status()))

    @app.post("/v1/rewards/changes")
    async def hand_in(request: Request) -> JSONResponse:
        change = change_from(parse_body(await request.body()))
        return JSONResponse({"id": desk.submit(change)}, status_code=202)

    @app.get("/v1/rewards/changes/{change_id}")
    async def change(change_id: str) -> JSONResponse:
        found = desk.change(change_id) if _ID.fullmatch(change_id) else None
        if found is None:
            raise Refusal(404, "no such change", [Problem("id", repr(change_id[:64]), "the id of a change")])
        return JSONResponse(dict(found))

    @app.get("/v1/workers")
    async def sizes() -> JSONResponse:
        return JSONResponse({} if workers is None else dict(workers.status()))

    @app.post("/v1/workers")
    async def resize(request: Request) -> JSONResponse:
        if workers is None:
            raise Refusal(409, "this run's workers cannot change")
        return JSONResponse(dict(workers.ask(parse_body(await request.body()))), status_code=202)

    _answer_failures(app)
    return app


def _answer_failures(app: Any) -> None:
    """Whatever a route raises becomes JSON with a status."""
    from fastapi import Request, Response
    from starlette.exceptions import HTTPException

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> Response:
        return _reply(error)

    @app.exception_handler(BurnishError)
    async def mistaken(request: Request, error: BurnishError) -> Response:
        return _reply(refusal_of(error))

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return _reply(Refusal(500, INTERNAL))

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        problem = Problem("request", f"{request.method} {request.url.path}"[:120], "a route of the control API")
        return _reply(Refusal(error.status_code, str(error.detail), [problem]), error.headers)

    def _reply(refusal: Refusal, headers: Any = None) -> Response:
        return Response(error_body(refusal), refusal.status, headers, media_type="application/json")
