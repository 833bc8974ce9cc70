"""The admin routes: promote, rollback, canary. The guard lets the admin token through and no web page.

No `from __future__ import annotations` here: FastAPI reads the types of the routes' arguments.
"""

import asyncio
import base64
import binascii
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request

from burnish.data.errors import DataError, Problem
from burnish.data.strict_json import parse
from burnish.serve.examples import CANARY_BODY, ERRORS, PROMOTE_BODY, ROLLBACK_BODY
from burnish.serve.guard import too_large
from burnish.serve.intake import M, checked
from burnish.serve.leftovers import UPLOAD
from burnish.serve.pixels import in_thread
from burnish.serve.refusal import Refusal, invalid
from burnish.serve.schema import CanaryRequest, PromoteOptions, RollbackRequest
from burnish.serve.service import Service
from burnish.serve.versions import ServedVersion

HEADER_OPTIONS, HEADER_SNAPSHOT = "x-burnish-options", "x-burnish-snapshot"
"""Headers of a promotion: JSON in base64; the body is the adapter's safetensors file."""
MAX_HEADER = 16 << 10


def add_admin(app: FastAPI, service: Service) -> None:
    """Add the routes that need the admin token."""
    router = APIRouter(prefix="/v1/admin", responses=ERRORS)

    @router.post(
        "/promote", openapi_extra=PROMOTE_BODY, summary="Take an adapter live; the body is its safetensors file"
    )
    async def promote(request: Request) -> dict[str, Any]:
        await service.wait_ready()  # leftovers of earlier uploads are swept by then
        options = checked(PromoteOptions, _header(request, HEADER_OPTIONS))
        snapshot = _raw_header(request, HEADER_SNAPSHOT)
        with _stored(), tempfile.TemporaryDirectory(dir=service.config.directory, prefix=UPLOAD) as folder:
            adapter = Path(folder) / "adapter.safetensors"
            await _receive(request, adapter, service.config.promote_bytes)
            version = await service.promoter.promote(adapter, snapshot, options)
        return _shown(service, version)

    @router.post("/rollback", openapi_extra=ROLLBACK_BODY, summary="Give up a canary, or go back to the version before")
    async def rollback(request: Request) -> dict[str, Any]:
        asked = await in_thread(_checked_body, RollbackRequest, await request.body())
        with _stored():
            given_up, serving = await service.promoter.roll_back(asked.policy, asked.reason)
        return {"rolled_back": given_up.name, **_shown(service, serving)}

    @router.post("/canary", openapi_extra=CANARY_BODY, summary="Change a canary's share, or accept it")
    async def canary(request: Request) -> dict[str, Any]:
        asked = await in_thread(_checked_body, CanaryRequest, await request.body())
        if asked.accept == (asked.share is not None):
            raise invalid(Problem("share, accept", "both or none", "one of the two"))
        with _stored():
            version = await service.promoter.change_canary(asked.policy, share=asked.share, accept=asked.accept)
        return _shown(service, version)

    app.include_router(router)


@contextmanager
def _stored() -> Iterator[None]:
    """Says why the disk does not take a change; nothing is changed then.

    Raises:
        Refusal: 507.
    """
    try:
        yield
    except (TimeoutError, ConnectionError):  # not the disk's
        raise
    except OSError as error:
        why = error.strerror or type(error).__name__
        problem = Problem("directory", why, "room and rights for adapter and state")
        raise Refusal(507, "not_stored", f"the change cannot be stored: {why}", [problem]) from error


def _shown(service: Service, version: ServedVersion) -> dict[str, Any]:
    standing = service.versions.lines[version.policy].standings[version.number]
    return {
        "model": version.name,
        "policy": version.policy,
        "version": version.number,
        "digest": version.digest,
        "state": standing.state,
        "score": standing.score,
        "reason": standing.reason,
    }


def _body(raw: bytes) -> Any:
    try:
        return parse(raw) if raw else {}
    except DataError as error:
        raise Refusal(400, "malformed", error.message, error.problems) from None


def _checked_body(model: type[M], raw: bytes) -> M:
    return checked(model, _body(raw))


def _raw_header(request: Request, name: str) -> bytes:
    text = request.headers.get(name, "")
    try:
        if not 0 < len(text) <= MAX_HEADER:
            raise ValueError
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise invalid(Problem(name, text[:40] or "nothing", f"JSON in base64, at most {MAX_HEADER} bytes")) from None


def _header(request: Request, name: str) -> Any:
    return _body(_raw_header(request, name))


async def _receive(request: Request, file: Path, most: int) -> None:
    """Stream the body to a file.

    Raises:
        Refusal: 413 too large, declared or counted; 422 nothing.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > most:
        raise too_large(most)
    size = 0
    with file.open("wb") as stream:
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise too_large(most)
            await asyncio.to_thread(stream.write, part)
        stream.flush()
        os.fsync(stream.fileno())
    if not size:
        raise invalid(Problem("body", "nothing", "a safetensors file"))
