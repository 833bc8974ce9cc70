"""From the bytes of a request to a job: every limit is checked in a picture's header before it is decoded.

Called by the routes, in a thread: decoding is work. All that is wrong with a request is reported at once.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from burnish.data.crops import check_box
from burnish.data.errors import DataError, Problem
from burnish.data.images import MIN_SIDE, decode_image, opened
from burnish.data.pictures import Channel, Picture, read_mask, read_picture
from burnish.data.records import MAX_REFERENCES, REFERENCE_KINDS, Example, Reference
from burnish.data.regions import Region, region_of
from burnish.serve.refusal import invalid
from burnish.serve.schema import (
    MAX_ENCODED,
    MAX_FORWARDS,
    MAX_INPUT,
    MAX_KEYS,
    MAX_OUTPUT,
    MAX_REGIONS,
    MAX_SEED,
    RefineOptions,
    RefineRequest,
)

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")
_DATA_URL = re.compile(r"data:image/(png|jpeg|webp);base64,")
EXAMPLE_ID = "request"
"""The id that keys the noise, the same for every request and for `burnish refine`: a seed means the same there."""


@dataclass(frozen=True, eq=False)
class Upload:
    """A request before anything is decoded.

    Args:
        options: its checked fields.
        image: an encoded picture. masks: encoded masks, one a region. boxes: boxes, one a region.
        references: (kind, encoded picture).
        mask_channel: what of a mask's pixels says "edit".
    """

    options: RefineOptions
    image: bytes
    masks: tuple[tuple[str, bytes], ...] = ()
    boxes: tuple[tuple[str, list[int]], ...] = ()
    references: tuple[tuple[str, str, bytes], ...] = ()
    mask_channel: Channel = "luminance"


@dataclass(frozen=True, eq=False)
class Job:
    """A request that can be carried out.

    Args:
        options: its checked fields.
        picture: the decoded image.
        example: what the refiner gets; its mask is None where there are regions.
        regions: where to edit; empty = the whole frame.
        cut: an instruction that is too long is cut as in training, not refused.
    """

    options: RefineOptions
    picture: Picture
    example: Example
    regions: tuple[Region, ...] = field(default=())
    cut: bool = False

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seed of each sample: seed, seed + 1, ..., wrapping at the largest."""
        return tuple((self.options.seed + i) % (MAX_SEED + 1) for i in range(self.options.n))


def checked(model: type[M], fields: Any) -> M:
    """Fields as a model of the schema.

    Raises:
        Refusal: 422 with every field that is wrong, or the mappings of more than `MAX_KEYS` fields.
    """
    if crowded := list(_crowded(fields, "")):
        raise invalid(*crowded)
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        found = [
            Problem(".".join(map(str, e["loc"]))[:80] or "body", _shown(e["input"], e["type"]), e["msg"])
            for e in error.errors(include_url=False)
        ]
        raise invalid(*found) from None


def _crowded(tree: Any, name: str) -> Iterator[Problem]:
    """A problem for each mapping that has more fields than any request: each would be a problem of its own."""
    if isinstance(tree, dict) and len(tree) > MAX_KEYS:
        yield Problem(name[:80] or "body", f"{len(tree)} fields", f"at most {MAX_KEYS}")
        return
    parts = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, part in parts:
        if isinstance(part, dict | list):
            yield from _crowded(part, f"{name}.{str(key)[:80]}".lstrip("."))


def _shown(value: Any, kind: str) -> str:
    return "nothing" if kind == "missing" else repr(value[:80] if isinstance(value, str | list) else value)[:80]


def json_upload(tree: Any) -> Upload:
    """The upload of a JSON body, a parsed tree.

    Raises:
        Refusal: 422 with everything that is wrong.
    """
    request = checked(RefineRequest, tree)
    problems: list[Problem] = []

    def decoded(name: str, text: str) -> bytes:
        try:
            return _unpacked(text)
        except ValueError as error:
            problems.append(Problem(name, str(error), "base64 of a PNG, JPEG or WebP, or a data: URL of one"))
            return b""

    masks = [("mask", decoded("mask", request.mask))] if request.mask is not None else []
    boxes = [("box", request.box)] if request.box is not None else []
    for index, region in enumerate(request.regions or ()):
        name = f"regions.{index}"
        if (region.box is None) == (region.mask is None):
            problems.append(Problem(name, "both or none of box and mask", "one of the two"))
        boxes += [(f"{name}.box", region.box)] if region.box is not None else []
        masks += [(f"{name}.mask", decoded(f"{name}.mask", region.mask))] if region.mask is not None else []
    if sum(part is not None for part in (request.mask, request.box, request.regions)) > 1:
        problems.append(Problem("mask, box, regions", "several of them", "at most one of them"))
    references = [
        (f"references.{i}", r.kind, decoded(f"references.{i}.image", r.image)) for i, r in enumerate(request.references)
    ]
    image = decoded("image", request.image)
    if problems:
        raise invalid(*problems)
    return Upload(request, image, tuple(masks), tuple(boxes), tuple(references))


def _unpacked(text: str) -> bytes:
    """Raises: ValueError says what it is instead of base64."""
    head = _DATA_URL.match(text)
    if head is None and ":" in text[:64]:
        raise ValueError("another URL")
    body = text[head.end() :] if head else text
    if len(body) > MAX_ENCODED * 4 // 3 + 4:
        raise ValueError(f"more than {MAX_ENCODED} bytes")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("no base64") from None


def make_job(upload: Upload, *, most: int = MAX_INPUT) -> Job:
    """Decode an upload, once its amounts and then its headers keep the limits.

    Args:
        upload: from a body.
        most: pixels of all its pictures together.

    Raises:
        Refusal: 422 with everything that is wrong with its amounts, else with its headers, else with its pictures and
            boxes.
    """
    problems = list(_too_many(upload)) or list(_too_large(upload, most))
    if problems:
        raise invalid(*problems)

    def tried(name: str, act: Callable[[], T]) -> T | None:
        try:
            return act()
        except DataError as error:
            problems.extend(error.problems or [_problem(name, error.message)])
            return None

    def picture(name: str, payload: bytes) -> Picture | None:
        return tried(name, lambda: read_picture(payload, name=name))

    def shown(name: str, payload: bytes) -> np.ndarray | None:
        return tried(name, lambda: decode_image(payload, name=name, min_side=1))

    image = picture("image", upload.image)
    masks = [
        (name, tried(name, lambda n=name, p=payload: read_mask(p, name=n, channel=upload.mask_channel)))
        for name, payload in upload.masks
    ]
    references = [(kind, shown(name, payload)) for name, kind, payload in upload.references]
    if image is None:
        raise invalid(*problems)
    height, width = image.pixels.shape[1:]
    regions = [tried(name, lambda n=name, b=box: _boxed(n, b, height, width)) for name, box in upload.boxes]
    regions += [tried(n, lambda n=n, m=m: _masked(n, m, height, width)) for n, m in masks if m is not None]
    if problems:
        raise invalid(*problems)
    seen = tuple(Reference(kind, pixels) for kind, pixels in references if pixels is not None)
    example = Example(EXAMPLE_ID, upload.options.instruction, image.pixels, None, seen)
    return Job(upload.options, image, example, tuple(r for r in regions if r is not None))


def _problem(name: str, message: str) -> Problem:
    got, _, allowed = message.removeprefix(f"{name}: ").removeprefix("got ").partition(", allowed ")
    return Problem(name, got[:160], allowed or "a picture that keeps the limits")


def _bounded(payload: bytes, name: str) -> bytes:
    if len(payload) > MAX_ENCODED:
        raise DataError(f"{name}: got {len(payload)} bytes, allowed at most {MAX_ENCODED}")
    return payload


def _too_many(upload: Upload) -> Iterator[Problem]:
    """What is known without a look at a picture."""
    if len(upload.references) > MAX_REFERENCES:
        yield Problem("references", str(len(upload.references)), f"at most {MAX_REFERENCES}")
    for name, kind, _ in upload.references:
        if kind not in REFERENCE_KINDS:
            yield Problem(f"{name}.kind", repr(kind)[:80], ", ".join(REFERENCE_KINDS))
    if len(upload.boxes) + len(upload.masks) > MAX_REGIONS:
        yield Problem("regions", str(len(upload.boxes) + len(upload.masks)), f"at most {MAX_REGIONS}")
    options = upload.options
    forwards = options.n * (options.steps or 1) * max(1, len(upload.boxes) + len(upload.masks))
    if forwards > MAX_FORWARDS:
        yield Problem("n, steps, regions", f"{forwards} forward passes", f"at most {MAX_FORWARDS}")


def _too_large(upload: Upload, most: int) -> Iterator[Problem]:
    """What headers say: sizes of each picture, and pixels of all of them, made and given."""
    parts = [("image", upload.image, MIN_SIDE), *((name, mask, MIN_SIDE) for name, mask in upload.masks)]
    parts += [(name, payload, 1) for name, _, payload in upload.references]
    given: list[int] = []
    for name, payload, least in parts:
        try:
            with opened(BytesIO(_bounded(payload, name)), name, least) as header:
                given.append(header.width * header.height)
        except DataError as error:
            yield _problem(name, error.message)
            given.append(0)
    if sum(given) > most:
        hint = "smaller pictures, or boxes in the place of masks"
        yield Problem("image, masks, references", f"{sum(given)} pixels", f"at most {most} pixels together", hint)
    samples = upload.options.n
    if samples * given[0] > MAX_OUTPUT:
        yield Problem("n", f"{samples} x {given[0]} pixels", f"at most {MAX_OUTPUT} pixels together")


def _boxed(name: str, box: list[int], height: int, width: int) -> Region:
    if len(box) != 4:
        raise DataError(f"{name}: got {len(box)} numbers, allowed [x1, y1, x2, y2]")
    corners = (box[0], box[1], box[2], box[3])
    check_box(corners, height=height, width=width)
    return Region(corners)


def _masked(name: str, mask: np.ndarray, height: int, width: int) -> Region:
    if mask.shape[1:] != (height, width):
        got = f"{mask.shape[2]}x{mask.shape[1]}"
        raise DataError(f"{name}: got {got} px, allowed the image's size, {width}x{height}")
    return region_of(mask)
