"""A judge on loopback that does what a test says: a reward service at /score, and chat completions at /v1.

    with FakeJudge() as judge:
        judge.mode = "500"            # until it is changed
        judge.script = ["429", "healthy"]  # for the next requests, before `mode` counts again
        ... judge.score_url, judge.chat_url, judge.requests, judge.peak

Answers are a pure function of the images, so that a healthy judge gives equal runs equal scores.
"""

import base64
import io
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image
from safetensors import deserialize

SIX = ("text_adherence", "subject_consistency", "style_consistency", "lighting_consistency", "background_consistency")
FIVE = ("visual_quality", "naturalness", "aesthetics", "detail", "faithfulness")


@dataclass(frozen=True)
class Request:
    """What arrived."""

    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, or the metadata of a safetensors body, as JSON."""
        if self.headers["Content-Type"] == "application/json":
            return json.loads(self.body)
        length = int.from_bytes(self.body[:8], "little")
        return json.loads(json.loads(self.body[8 : 8 + length])["__metadata__"]["request"])

    def tensors(self) -> dict[str, np.ndarray]:
        """A safetensors body's arrays."""
        return {k: np.frombuffer(v["data"], np.uint8).reshape(v["shape"]) for k, v in deserialize(self.body)}

    def images(self) -> list[np.ndarray]:
        """The images [H,W,3] to be scored (`/score`), or all that are shown (chat), uint8."""
        if self.headers["Content-Type"] != "application/json":
            return list(self.tensors()["images"].transpose(0, 2, 3, 1))
        if self.path == "/score":
            return [_decode(text) for text in self.json()["images"]]
        parts = self.json()["messages"][-1]["content"]
        urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        return [_decode(url.partition("base64,")[2]) for url in urls]


def _decode(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))


def healthy(request: Request) -> dict[str, Any]:
    """Scores that grow with the mean brightness, in 0..1, of what is judged."""
    light = [float(image.mean() / 255) for image in request.images()]
    if request.path == "/score":
        return {"scores": light}
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    return {"choices": [{"message": {"content": verdict(request.json(), light[-1])}}], "usage": usage}


def verdict(asked: dict[str, Any], light: float) -> str:
    """What a judge says by the rubric that it was asked for; `light` in 0..1 is how good the output is."""
    system = asked["messages"][0]["content"]
    if "[FINAL SCORE]" in system:
        return f"[ANALYSIS]\nx\n[SCORING RATIONALE]\ny\n[FINAL SCORE]\n{10 * light:.4f}"
    if "Total Score" in system:
        parts = {"Overall Consistency": 40, "Detail Consistency": 40, "Generated Image Quality": 20}
        return json.dumps({"Thinking": "x", **{k: v * light for k, v in parts.items()}, "Total Score": 99})
    if "text_adherence" in system:
        scores = {key: {"score": 10 * light, "reasoning": "x"} for key in (*SIX, "aesthetic_quality")}
        return f"```json\n{json.dumps({**scores, 'overall_average_score': 3})}\n```"
    return json.dumps(dict.fromkeys(FIVE, 1 + 4 * light))


class FakeJudge:
    """The server, and what it was asked.

    Attributes:
        mode: a key of MODES.
        script: modes of the next requests.
        requests: all that arrived, in order.
        peak: most requests that were open at once.
        seconds: how long "slow" waits.
        retry_after: what 429 asks to wait.
        expected: how many requests "full" waits for.
    """

    def __init__(self) -> None:
        self.mode, self.script = "healthy", []
        self.requests: list[Request] = []
        self.peak = self._open = 0
        self.seconds, self.retry_after, self.expected = 30.0, "0", 1
        self.lock, self.released = threading.Lock(), threading.Event()
        self.server = _Server(("127.0.0.1", 0), type("Bound", (_Handler,), {"judge": self}))
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> "FakeJudge":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def base(self) -> str:
        """Its address without a path."""
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def score_url(self) -> str:
        """Where reward `http` posts."""
        return f"{self.base}/score"

    @property
    def chat_url(self) -> str:
        """The base of the chat API."""
        return f"{self.base}/v1"

    def begin(self, request: Request) -> str:
        """Note a request; its mode."""
        with self.lock:
            self.requests.append(request)
            self._open += 1
            self.peak = max(self.peak, self._open)
            return self.script.pop(0) if self.script else self.mode

    def end(self) -> None:
        """Note that a request is answered."""
        with self.lock:
            self._open -= 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that has gone away is what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    judge: FakeJudge

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = Request(self.path, dict(self.headers), body)
        mode = self.judge.begin(request)
        try:
            MODES[mode](self, request)
        finally:
            self.judge.end()

    def answer(self, body: object, *, status: int = 200, **headers: str) -> None:
        """Send JSON, or bytes as they are."""
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(payload)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _slow(handler: _Handler, request: Request) -> None:
    handler.judge.released.wait(handler.judge.seconds)
    handler.answer(healthy(request))


def _full(handler: _Handler, request: Request) -> None:
    """Answer once `expected` requests are open, and leave time for one too many to come."""
    for _ in range(100):
        if handler.judge.peak >= handler.judge.expected or handler.judge.released.wait(0.01):
            break
    handler.judge.released.wait(0.03)
    handler.answer(healthy(request))


def _drip(handler: _Handler, request: Request) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    while not handler.judge.released.wait(0.02):
        handler.wfile.write(b" ")


def _short(handler: _Handler, request: Request) -> None:
    handler.answer({"scores": healthy(request)["scores"][:-1]})


def _status(status: int) -> Callable[[_Handler, Request], None]:
    return lambda handler, request: handler.answer({"error": "no"}, status=status)


MODES: dict[str, Callable[[_Handler, Request], None]] = {
    "healthy": lambda handler, request: handler.answer(healthy(request)),
    "full": _full,
    "slow": _slow,
    "drip": _drip,
    "malformed": lambda handler, request: handler.answer(b"<html>busy</html>"),
    "refusal": lambda handler, request: handler.answer({"choices": [{"message": {"content": None, "refusal": "no"}}]}),
    "prose": lambda handler, request: handler.answer({"choices": [{"message": {"content": "It looks nice."}}]}),
    "short": _short,
    "nan": lambda handler, request: handler.answer(b'{"scores": [NaN]}'),
    "null": lambda handler, request: handler.answer({"scores": [None] * len(request.images())}),
    "text": lambda handler, request: handler.answer({"scores": ["0.5"] * len(request.images())}),
    "beyond": lambda handler, request: handler.answer({"scores": [1.5] * len(request.images())}),
    "large": lambda handler, request: handler.answer(b" " * 5000 + b'{"scores": [0]}'),
    "packed": lambda handler, request: handler.answer(b"\x1f\x8b", Content_Encoding="gzip"),
    "redirect": lambda handler, request: handler.answer({}, status=307, Location=f"{handler.judge.base}/elsewhere"),
    "echo": lambda handler, request: handler.answer([*handler.headers.values()][::-1], status=400),
    "429": lambda handler, request: handler.answer({}, status=429, Retry_After=handler.judge.retry_after),
    **{str(status): _status(status) for status in (401, 404, 500, 502, 503, 504)},
}
"""What the judge can do, by name."""
