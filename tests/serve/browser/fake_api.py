"""The API as the page knows it, without a policy: a loopback server that tints the region and notes what it was sent.

No `from __future__ import annotations` here: FastAPI reads the types of the routes' arguments.
"""

import asyncio
import base64
import io
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from PIL import Image, ImageFilter

from burnish.serve.page import add_page

STEPS = 4


@dataclass
class Fake:
    """What the server should do, and what it saw."""

    token: str | None = None
    feedback: bool = True
    pause: float = 0.02
    active: int = 2
    refusal: tuple[int, dict[str, Any], dict[str, str]] | None = None
    forms: list[dict[str, list[Any]]] = field(default_factory=list)
    replies: list[dict[str, Any]] = field(default_factory=list)
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    left: int = 0

    def refused(self, request: Request) -> Response | None:
        """A refusal for want of the token."""
        given = request.headers.get("authorization", "")
        if self.token is None or given == f"Bearer {self.token}":
            return None
        return refusal(401, "the request is refused", [problem("Authorization", "no token", "Bearer and a token")])


def problem(name: str, got: str, allowed: str, hint: str = "") -> dict[str, str]:
    return {"field": name, "got": got, "allowed": allowed, "hint": hint}


def body(message: str, problems: list[dict[str, str]]) -> dict[str, Any]:
    return {"error": {"code": "x", "message": message, "problems": problems, "request_id": "r1"}}


def refusal(status: int, message: str, problems: list[dict[str, str]], **headers: str) -> Response:
    return JSONResponse(body(message, problems), status, headers={k.replace("_", "-"): v for k, v in headers.items()})


def application(fake: Fake) -> FastAPI:
    """The routes that the page calls."""
    app = FastAPI(openapi_url=None)

    add_page(app)

    @app.get("/v1/policies")
    async def policies(request: Request) -> Response:
        version = {
            "digest": "ab" * 32,
            "share": 1.0,
            "lineage": {"run": "tiny"},
            "score": None,
            "since": 0,
            "reason": "",
        }
        held = [version | {"version": n, "state": "held"} for n in range(1, fake.active)]
        tuned = [*held, version | {"version": fake.active, "state": "active"}]
        found = [{"name": "tuned", "default": True, "versions": tuned}]
        found += [{"name": "base", "default": False, "versions": [version | {"version": 1, "state": "active"}]}]
        return fake.refused(request) or JSONResponse({"policies": found, "feedback": fake.feedback})

    @app.post("/v1/refine")
    async def refine(request: Request) -> Response:
        if refused := fake.refused(request):
            return refused
        if fake.refusal is not None:
            status, content, headers = fake.refusal
            return JSONResponse(content, status, headers=headers)
        async with request.form() as form:
            names = dict.fromkeys(form.keys())
            fields = {n: [v if isinstance(v, str) else await v.read() for v in form.getlist(n)] for n in names}
        fake.forms.append(fields)
        return StreamingResponse(work(fake, fields), media_type="text/event-stream")

    @app.post("/v1/feedback", status_code=201)
    async def feedback(request: Request) -> Response:
        asked = await request.json()
        fake.verdicts.append(asked)
        return JSONResponse({"status": "stored"}, 201)

    return app


async def work(fake: Fake, fields: dict[str, list[Any]]) -> AsyncIterator[str]:
    """Events of one call."""
    source = Image.open(io.BytesIO(fields["image"][0])).convert("RGB")
    masks = [Image.open(io.BytesIO(m)).convert("L") for m in fields["mask"]]
    crops = [grown(mask.getbbox() or (0, 0, *mask.size), mask.size) for mask in masks]
    regions = [{"box": list(m.getbbox() or ()), "crop": list(c)} for m, c in zip(masks, crops, strict=True)]
    common = {"id": f"r{len(fake.forms)}", "model": f"tuned@{fake.active}", "version": fake.active, "digest": "ab"}
    common |= {"seed": int(fields["seed"][0]), "steps": STEPS, "regions": regions}
    try:
        yield event("accepted", common)
        better = tinted(source)
        for number, crop in enumerate(crops):
            for step in range(1, STEPS + 1):
                await asyncio.sleep(fake.pause)
                draft = better.crop(crop).filter(ImageFilter.GaussianBlur(8 * (STEPS - step)))
                entry = {"step": step, "steps": STEPS, "region": number, "regions": len(crops)}
                entry |= {"sample": 0, "samples": 1}
                entry["fraction"] = (number * STEPS + step) / (STEPS * len(crops))
                yield event("progress", entry | {"preview": {**encoded(draft), "crop": crop}})
    except asyncio.CancelledError:
        fake.left += 1
        raise
    for mask in masks:
        source.paste(better, (0, 0), mask)
    reply = common | {"exact": True, "width": source.width, "height": source.height, "seconds": 0.1, "created": 0}
    reply["images"] = [encoded(source) | {"seed": common["seed"]}]
    fake.replies.append(reply)
    yield event("done", reply)


def event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


def tinted(image: Image.Image) -> Image.Image:
    """The same picture, a little warmer and sharper."""
    red, green, blue = image.filter(ImageFilter.UnsharpMask(2, 90, 0)).split()
    return Image.merge("RGB", (red.point(lambda v: min(255, v * 1.05)), green, blue.point(lambda v: v * 0.94)))


def grown(box: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    return max(0, box[0] - 12), max(0, box[1] - 12), min(size[0], box[2] + 12), min(size[1], box[3] + 12)


def encoded(image: Image.Image) -> dict[str, str]:
    raw = io.BytesIO()
    image.save(raw, "PNG")
    return {"b64": base64.b64encode(raw.getvalue()).decode(), "mime": "image/png"}


def serve(fake: Fake) -> tuple[str, Callable[[], None]]:
    """Serve in a thread; gives the origin and the function that ends it."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(application(fake), log_level="error", ws="none", http="h11", loop="asyncio", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: server.run(sockets=[listening]), daemon=True)
    thread.start()

    def stop() -> None:
        server.should_exit = server.force_exit = True
        thread.join(10)
        listening.close()

    return f"http://127.0.0.1:{listening.getsockname()[1]}", stop
