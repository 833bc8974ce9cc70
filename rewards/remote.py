"""The reward `http`: scores from a service of yours. docs/judges.md describes the protocol.

Called by the reward server. Also holds what both remote rewards need: which rows to ask about, and images as bytes.
Legend: B batch, R rows of a request, H W pixels.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from io import BytesIO
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field, ValidationInfo, field_validator
from safetensors.numpy import save

from burnish.data.images import resize, to_uint8
from burnish.data.records import Example
from burnish.rewards.endpoint import EndpointOptions
from burnish.rewards.replies import MalformedReply, finite_number, strict_json
from burnish.rewards.transport import Transport

PROTOCOL = 1
"""Version of the request's form, its field `protocol`."""

JPEG_QUALITY = 80
READY_SIDE = 32
"""Side in pixels of the grey image that asks whether an endpoint is there."""

ImageForm = Literal["png", "jpeg"]


def distinct_rows(images: np.ndarray, examples: Sequence[Example]) -> list[list[int]]:
    """Rows of equal image and same example, together: each list is asked once. Non-finite images stand in none.

    Args:
        images: float32 [B,3,H,W].
        examples: B entries; padding rows repeat a real row.
    """
    groups: dict[tuple[bytes, int], list[int]] = {}
    for row, (image, example) in enumerate(zip(images, examples, strict=True)):
        if np.isfinite(image).all():
            groups.setdefault((hashlib.sha256(image.tobytes()).digest(), id(example)), []).append(row)
    return list(groups.values())


def spread(values: Sequence[float | None], groups: Sequence[Sequence[int]], *, count: int) -> np.ndarray:
    """Float32 [count]: each group's rows get its value; NaN for None and for rows in no group."""
    scores = np.full(count, np.nan, np.float32)
    for value, rows in zip(values, groups, strict=True):
        scores[list(rows)] = np.nan if value is None else value
    return scores


def encode_image(image: np.ndarray, *, form: ImageForm = "png", long_side: int | None = None) -> bytes:
    """An image file.

    Args:
        image: float32 [3,H,W] or [1,H,W] in [0,1].
        form: "png" (exact at 8 bits) or "jpeg" (quality 80).
        long_side: a longer image is shrunk to it, in pixels; None = as it is.
    """
    height, width = image.shape[1:]
    if long_side is not None and max(height, width) > long_side:
        share = long_side / max(height, width)
        image = resize(image, height=max(round(height * share), 1), width=max(round(width * share), 1))
    pixels = to_uint8(image).transpose(1, 2, 0)
    stream = BytesIO()
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    picture.save(stream, format=form.upper(), **({"quality": JPEG_QUALITY} if form == "jpeg" else {}))
    return stream.getvalue()


def parse_scores(reply: bytes, *, count: int, lowest: float, highest: float) -> list[float | None]:
    """`{"scores": [number or null, ...]}` of `count` entries; null = missing.

    Raises:
        MalformedReply: another length, a value that is no finite number, or one outside lowest .. highest.
    """
    given = strict_json(reply)
    scores = given.get("scores") if isinstance(given, dict) else None
    if not isinstance(scores, list) or len(scores) != count:
        raise MalformedReply(f"no list of {count} scores")
    values = [None if score is None else finite_number(score) for score in scores]
    if not all(value is None or lowest <= value <= highest for value in values):
        raise MalformedReply(f"a score outside {lowest}..{highest}")
    return values


class HttpOptions(EndpointOptions):
    """A service and what it is sent."""

    body: Literal["json", "safetensors"] = Field(default="json", description="form of the request")
    rows_per_request: int = Field(default=16, ge=1, description="rows of a batch that one request carries at most")
    send_image: bool = Field(default=True, description="send the examples' inputs")
    send_mask: bool = Field(default=True, description="send the examples' masks")
    send_target: bool = Field(default=True, description="send the examples' targets")
    send_references: bool = Field(default=True, description="send the examples' references")
    lowest: float = Field(default=0.0, description="lowest score; a lower one is malformed")
    highest: float = Field(default=1.0, description="highest score; larger is better")

    @field_validator("highest")
    @classmethod
    def _check_range(cls, highest: float, info: ValidationInfo) -> float:
        if highest <= info.data.get("lowest", -np.inf):
            raise ValueError("above lowest")
        return highest


class HttpReward:
    """What a service of yours says: one score a row; missing where it says null, fails or answers nonsense."""

    Options = HttpOptions
    name = "http"
    direction = 1
    range = (0.0, 1.0)
    needs_weights = False
    preprocessing = 1
    remote = True

    def __init__(self, options: HttpOptions) -> None:
        self.options = options
        self.range = (options.lowest, options.highest)
        self._transport = Transport(options, url=options.url)

    def score(self, images: np.ndarray, examples: Sequence[Example]) -> np.ndarray:
        """Float32 [B] in `range` of images [B,3,H,W] in [0,1]; NaN = missing."""
        groups, size = distinct_rows(images, examples), self.options.rows_per_request
        parts = [[rows[0] for rows in groups[start : start + size]] for start in range(0, len(groups), size)]
        replies = self._transport.each(lambda rows: self._ask(images[rows], [examples[r] for r in rows]), parts)
        return spread([value for reply in replies for value in reply], groups, count=len(images))

    def check_ready(self) -> None:
        """Ask once about a grey image.

        Raises:
            InfrastructureError: no answer. ConfigError: the token is missing, or the answer is a refusal.
        """
        grey = np.full((3, READY_SIDE, READY_SIDE), 0.5, np.float32)
        body, kind = self._body(grey[None], [Example("ready", "", None, None)])
        self._transport.probe(body, kind=kind)

    def take_counters(self) -> dict[str, float]:
        """Sums since the last call: requests, retries, failures, malformed (replies), breaker_open (rows)."""
        return self._transport.counters.take()

    def _ask(self, images: np.ndarray, examples: Sequence[Example]) -> list[float | None]:
        lowest, highest = self.range
        body, kind = self._body(images, examples)
        values = self._transport.ask(
            body,
            kind=kind,
            rows=len(images),
            parse=lambda reply: parse_scores(reply, count=len(images), lowest=lowest, highest=highest),
        )
        return [None] * len(images) if values is None else values

    def _body(self, images: np.ndarray, examples: Sequence[Example]) -> tuple[bytes, str]:
        """The request and its content type."""
        unique = list({id(e): e for e in examples}.values())
        order = {id(e): index for index, e in enumerate(unique)}
        request = {
            "protocol": PROTOCOL,
            "rows": [order[id(e)] for e in examples],
            "examples": [
                {"id": e.id, "instruction": e.instruction, "references": [r.kind for r in self._references(e)]}
                for e in unique
            ],
        }
        arrays = {key: value for index, e in enumerate(unique) for key, value in self._arrays(e, index).items()}
        if self.options.body == "safetensors":
            return safetensors_body(images, arrays, request), "application/octet-stream"
        return json_body(images, arrays, request), "application/json"

    def _references(self, example: Example) -> Sequence[Any]:
        return example.references if self.options.send_references else ()

    def _arrays(self, example: Example, index: int) -> dict[str, np.ndarray]:
        """Name -> float32 [C,h,w] of all that is sent of an example."""
        options = self.options
        named = {
            "image": example.image if options.send_image else None,
            "mask": example.mask if options.send_mask else None,
            "target": example.target if options.send_target else None,
            **{f"reference{k}": r.image for k, r in enumerate(self._references(example))},
        }
        return {f"example{index}.{name}": array for name, array in named.items() if array is not None}


def json_body(images: np.ndarray, arrays: dict[str, np.ndarray], request: dict[str, Any]) -> bytes:
    """The request as JSON: `images` and `arrays` are PNG files in base64."""
    texts = [base64.b64encode(encode_image(image)).decode() for image in images]
    named = {name: base64.b64encode(encode_image(array)).decode() for name, array in arrays.items()}
    return json.dumps({**request, "images": texts, "arrays": named}).encode()


def safetensors_body(images: np.ndarray, arrays: dict[str, np.ndarray], request: dict[str, Any]) -> bytes:
    """The request as safetensors: tensors `images` uint8 [R,3,H,W] and `arrays` uint8; the rest is metadata."""
    tensors = {"images": to_uint8(images), **{name: to_uint8(array) for name, array in arrays.items()}}
    return save(
        {name: np.ascontiguousarray(array) for name, array in tensors.items()}, {"request": json.dumps(request)}
    )
