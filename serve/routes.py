"""The public routes. The guard round them has let the request in; `Service` does the work.

No `from __future__ import annotations` here: FastAPI reads the types of the routes' arguments.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from burnish.data.errors import DataError, Problem
from burnish.data.strict_json import parse
from burnish.serve.edits import EditOptions, check_size, completed, edit_reply, edit_upload, partial
from burnish.serve.examples import EDIT_BODY, ERRORS, FEEDBACK_BODY, REFINE_BODY
from burnish.serve.forms import form_upload, read_form
from burnish.serve.idempotency import Answer
from burnish.serve.intake import Job, M, Upload, checked, json_upload, make_job
from burnish.serve.metrics import CONTENT_TYPE
from burnish.serve.page import add_page
from burnish.serve.pixels import in_thread
from burnish.serve.refusal import Refusal, unavailable
from burnish.serve.schema import (
    HEADER_IDEMPOTENCY,
    HEADER_REPLAYED,
    FeedbackRequest,
    PoliciesReply,
    RefineReply,
)
from burnish.serve.service import Outcome, Service, Taken
from burnish.serve.streams import Emit, events
from burnish.serve.waiting import while_connected

_KEY = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def add_public(app: FastAPI, service: Service) -> None:
    """Add the routes that need a user's token, or none."""
    router = APIRouter(responses=ERRORS)
    add_page(router)
    _add_looks(router, service)
    _add_work(router, service)
    app.include_router(router)


def _add_looks(router: APIRouter, service: Service) -> None:
    @router.get("/healthz", summary="The process lives")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/readyz", summary="Every named policy can answer")
    async def readyz() -> dict[str, str]:
        if service.draining:
            raise Refusal(503, "unavailable", "the server is about to end")
        service.start()
        try:
            held = await asyncio.wait_for(service.backend.holds(), 5.0) if service.ready else []
        except TimeoutError:
            raise unavailable("a replica does not answer") from None
        if not held:
            raise Refusal(503, "unavailable", "versions are being loaded")
        return {"status": "ready"}

    @router.get("/metrics", summary="Prometheus")
    async def metrics() -> Response:
        return Response(service.metrics.show(service.versions), media_type=CONTENT_TYPE)

    @router.get("/v1/models", summary="OpenAI's list of models")
    async def models() -> dict[str, Any]:
        versions = service.versions.loaded()
        ids = [*service.versions.lines, *(v.name for v in versions)]
        return {
            "object": "list",
            "data": [{"id": i, "object": "model", "created": 0, "owned_by": "burnish"} for i in ids],
        }

    @router.get("/v1/policies", summary="Policies, their versions and where these came from")
    async def policies() -> PoliciesReply:
        feedback = service.config.feedback is not None
        return PoliciesReply.model_validate({"policies": _policies(service), "feedback": feedback})


def _policies(service: Service) -> list[dict[str, Any]]:
    found = []
    for name, line in service.versions.lines.items():
        shares = {line.active: 1.0 - (line.share if line.canary is not None else 0.0), line.canary: line.share}
        versions = [
            {**vars(s), "version": n, "digest": v.digest, "share": shares.get(n, 0.0), "lineage": dict(v.lineage)}
            for (n, s), v in zip(line.standings.items(), line.versions.values(), strict=True)
        ]
        found.append({"name": name, "default": name == service.versions.default, "versions": versions})
    return found


def _add_work(router: APIRouter, service: Service) -> None:
    @router.post("/v1/refine", openapi_extra=REFINE_BODY, summary="Refine regions of a picture")
    async def refine(request: Request) -> RefineReply:
        upload = await _native_upload(request)
        if upload.options.stream:
            job = await in_thread(make_job, upload, most=service.config.input_pixels)
            return await _native_stream(service, request, job)  # type: ignore[return-value]
        return await _answered(service, request, lambda: _refined(service, request, upload))  # type: ignore[return-value]

    @router.post("/v1/images/edits", openapi_extra=EDIT_BODY, summary="OpenAI's images-edit call")
    async def edit(request: Request) -> dict[str, Any]:
        _content_type(request, ("multipart/form-data",))
        upload, options = await in_thread(edit_upload, await read_form(request))
        if upload.options.stream:
            job = await in_thread(make_job, upload, most=service.config.input_pixels)
            check_size(job, options)
            return await _edit_stream(service, request, job, options)  # type: ignore[return-value]
        return await _answered(service, request, lambda: _edited(service, request, upload, options))  # type: ignore[return-value]

    @router.post(
        "/v1/feedback", status_code=201, openapi_extra=FEEDBACK_BODY, summary="Better or worse, or a corrected picture"
    )
    async def feedback(request: Request) -> dict[str, str]:
        _content_type(request, ("application/json",))
        service.taken_feedback()
        asked = await in_thread(_checked_tree, FeedbackRequest, await request.body())
        await service.judge(asked)
        return {"status": "stored", "request_id": asked.request_id}


def request_id(request: Request) -> str:
    """The id that the guard gave."""
    return request.state.request_id


def _content_type(request: Request, allowed: tuple[str, ...]) -> str:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in allowed:
        problem = Problem("Content-Type", kind[:80] or "none", " or ".join(allowed))
        raise Refusal(415, "unsupported_media_type", "the request is refused", [problem])
    return kind


def _tree(raw: bytes) -> Any:
    try:
        return parse(raw)
    except DataError as error:
        raise Refusal(400, "malformed", error.message, error.problems) from None


def _checked_tree(model: type[M], raw: bytes) -> M:
    return checked(model, _tree(raw))


async def _native_upload(request: Request) -> Upload:
    if _content_type(request, ("application/json", "multipart/form-data")) == "application/json":
        body = await request.body()
        return await in_thread(lambda: json_upload(_tree(body)))
    return await in_thread(form_upload, await read_form(request))


async def _refined(service: Service, request: Request, upload: Upload) -> Answer:
    job = await in_thread(make_job, upload, most=service.config.input_pixels)
    outcome = await service.refine(await service.take(job), request_id(request), route="/v1/refine")
    return Answer(json.dumps(outcome.reply()).encode(), outcome.headers)


async def _edited(service: Service, request: Request, upload: Upload, options: EditOptions) -> Answer:
    job = await in_thread(make_job, upload, most=service.config.input_pixels)
    check_size(job, options)
    outcome = await service.refine(await service.take(job), request_id(request), route="/v1/images/edits")
    return Answer(json.dumps(edit_reply(outcome, options)).encode(), outcome.headers)


async def _answered(service: Service, request: Request, work: Callable[[], Awaitable[Answer]]) -> Response:
    """Do the work while the client stays, or give the answer that an earlier request with the same key got."""
    key = request.headers.get(HEADER_IDEMPOTENCY)
    if key is not None and not (1 <= len(key) <= 64 and set(key) <= _KEY):
        raise Refusal(
            422, "invalid", "the request is refused", [Problem(HEADER_IDEMPOTENCY, key[:80], "[A-Za-z0-9_-]{1,64}")]
        )
    body = request.state.body if key is not None else b""  # a form has been read off the stream
    digest = hashlib.sha256(request.url.path.encode() + _normal(request, body)).hexdigest()
    answer, again = await while_connected(request, service.once(key, digest, work))
    headers = answer.headers | ({HEADER_REPLAYED: "true"} if again else {})
    return Response(answer.body, headers=headers, media_type="application/json")


def _normal(request: Request, body: bytes) -> bytes:
    """The body without a multipart boundary, which clients draw anew for every try."""
    _, _, boundary = request.headers.get("content-type", "").partition("boundary=")
    return body.replace(boundary.strip('"').encode(), b"") if boundary else body


async def _stream(
    service: Service, request: Request, taken: Taken, work: Callable[[Emit], Awaitable[tuple[str, Any]]]
) -> StreamingResponse:
    """The response begins with the first event: what is refused before it gets its own status."""

    def failed(error: BaseException) -> Refusal:
        return service.internal(request_id(request), request.url.path, error)

    parts = events(work, request_id=request_id(request), failed=failed)
    first = await while_connected(request, anext(parts))

    async def whole() -> AsyncIterator[bytes]:
        async with aclosing(parts):
            yield first
            async for part in parts:
                yield part

    headers = {"cache-control": "no-cache", **taken.headers}
    return StreamingResponse(whole(), media_type="text/event-stream", headers=headers)


async def _native_stream(service: Service, request: Request, job: Job) -> StreamingResponse:
    taken = await while_connected(request, service.take(job))

    async def work(emit: Emit) -> tuple[str, Any]:
        outcome = await service.refine(taken, request_id(request), route="/v1/refine", tell=emit)
        return "done", outcome.reply()

    return await _stream(service, request, taken, work)


async def _edit_stream(service: Service, request: Request, job: Job, options: EditOptions) -> StreamingResponse:
    taken = await while_connected(request, service.take(job))
    created, sent = int(time.time()), []

    async def work(emit: Emit) -> tuple[str, Any]:
        def tell(name: str, data: dict[str, Any]) -> None:
            if name == "accepted":
                emit("", {})
            elif data["preview"] and len(sent) < options.partial_images:
                sent.append(1)
                entry = partial(len(sent) - 1, data["preview"]["b64"], job=job, created=created)
                emit(entry["type"], entry)

        outcome: Outcome = await service.refine(taken, request_id(request), route="/v1/images/edits", tell=tell)
        entry = completed(outcome)
        return entry["type"], entry

    return await _stream(service, request, taken, work)


def refusal_response(refusal: Refusal, request: Request) -> Response:
    """A refusal as a response."""
    body = refusal.body(request_id(request))
    return Response(body, refusal.status, headers=refusal.headers, media_type="application/json")
