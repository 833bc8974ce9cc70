"""The reward `judge`: a vision model behind an OpenAI-compatible chat endpoint scores each output by a rubric.

Called by the reward server. One chat completion a distinct row. What is asked and how it is read stands in
`judge_rubrics.py`. Legend: B batch, H W pixels.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import numpy as np
from pydantic import Field, JsonValue, ValidationInfo, field_validator

from burnish.data.records import Box, Example
from burnish.rewards.endpoint import HIDDEN, EndpointOptions
from burnish.rewards.judge_rubrics import RUBRICS
from burnish.rewards.regions import region_box
from burnish.rewards.remote import READY_SIDE, ImageForm, distinct_rows, encode_image, spread
from burnish.rewards.replies import MalformedReply, strict_json
from burnish.rewards.transport import Transport

JSON = "application/json"
OWN_FIELDS = ("model", "messages", "temperature", "max_tokens", "stream", "n")
"""Fields of a request that the judge sets itself, or that would change the reply's form."""


class JudgeOptions(EndpointOptions):
    """Which judge, what it is asked, and what it is shown."""

    model: str = Field(min_length=1, description="the endpoint's name of the model")
    rubric: Literal["overall", "text", "six", "five"] = Field(
        default="overall", description="overall: 100 points; text: 0-10; six: six of 0-10; five: five of 1-5"
    )
    criterion: str = Field(default="", description="count one criterion of the rubric only; '' = all")
    temperature: float | None = Field(default=0.0, ge=0, le=2, description="null = not sent")
    max_tokens: int | None = Field(default=1024, ge=16, description="most tokens of a reply; null = not sent")
    body: dict[str, JsonValue] = Field(default={}, description="further fields of the request, such as seed")
    crop: Literal["region", "frame"] = Field(
        default="region", description="region: show the edit region's box and its margin; frame: the whole image"
    )
    margin: float = Field(default=0.25, ge=0, le=4, description="share of the box's longer side added on each side")
    image_format: ImageForm = Field(default="png", description="png: exact; jpeg: quality 80, smaller")
    long_side: int | None = Field(
        default=None, ge=16, description="pixels that a longer image is shrunk to; null = as is"
    )
    price_in: float = Field(default=0.0, ge=0, description="price of a million prompt tokens, for the cost counter")
    price_out: float = Field(default=0.0, ge=0, description="price of a million completion tokens")

    @field_validator("criterion")
    @classmethod
    def _known_criterion(cls, criterion: str, info: ValidationInfo) -> str:
        rubric = RUBRICS.get(info.data.get("rubric", ""))
        known = [c.name for c in rubric.criteria] if rubric else []
        if criterion and criterion not in known:
            raise ValueError(f"one of {known} or ''")
        return criterion

    @field_validator("body")
    @classmethod
    def _foreign_fields(cls, body: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if set(OWN_FIELDS) & set(body) or HIDDEN in body.values():
            raise ValueError(f"fields other than {', '.join(OWN_FIELDS)}, and no secret")
        return body


class Judge:
    """A vision model's judgement in [0,1]; missing where it does not apply, refuses, or answers nonsense twice."""

    Options = JudgeOptions
    name = "judge"
    direction = 1
    range = (0.0, 1.0)
    needs_weights = False
    preprocessing = 1  # covers the prompts and parsers of judge_rubrics.py
    remote = True

    def __init__(self, options: JudgeOptions) -> None:
        self.options = options
        self._rubric = RUBRICS[options.rubric]
        counts = ("prompt_tokens", "completion_tokens", "cost")
        self._transport = Transport(options, url=chat_url(options.url), counts=counts)

    def score(self, images: np.ndarray, examples: Sequence[Example]) -> np.ndarray:
        """Float32 [B] in [0,1] of images [B,3,H,W] in [0,1]; NaN = missing."""
        height, width = images.shape[2:]
        boxes = {id(e): self._box(e, height=height, width=width) for e in examples}
        before = {key: self._before(e, box) for key, e in _by_id(examples).items() if (box := boxes[key]) is not None}

        def judge(row: int) -> float | None:
            example = examples[row]
            box, context = boxes[id(example)], before.get(id(example))
            return None if box is None or context is None else self._ask(_crop(images[row], box), example, context)

        groups = distinct_rows(images, examples)
        return spread(self._transport.each(judge, [rows[0] for rows in groups]), groups, count=len(images))

    def check_ready(self) -> None:
        """Ask once for a word about a grey image.

        Raises:
            InfrastructureError: no answer. ConfigError: the token is missing, or the answer is a refusal.
        """
        grey = self._image(np.full((3, READY_SIDE, READY_SIDE), 0.5, np.float32))
        self._transport.probe(self._request("Reply with the word ready.", [grey]), kind=JSON)

    def take_counters(self) -> dict[str, float]:
        """Sums since the last call.

        requests, retries, failures, malformed (replies), breaker_open (rows), prompt_tokens, completion_tokens, cost.
        """
        return self._transport.counters.take()

    def _ask(self, crop: np.ndarray, example: Example, before: list[dict[str, Any]]) -> float | None:
        number = sum(part["type"] == "image_url" for part in before) + 1
        content = [*before, _text(f"Image {number}: the output to judge."), self._image(crop)]
        kinds = {reference.kind for reference in example.references}
        request = self._request(self._rubric.system, content)
        return self._transport.ask(request, kind=JSON, parse=lambda reply: self._read(reply, kinds))

    def _read(self, reply: bytes, kinds: set[str]) -> float:
        answer = strict_json(reply)
        self._count(answer)
        judgement = self._rubric.parse(chat_text(answer))
        return self._rubric.value(judgement, kinds=kinds, criterion=self.options.criterion)

    def _count(self, answer: Any) -> None:
        """Add a reply's tokens, also a malformed one's: they are paid for."""
        usage = answer.get("usage") if isinstance(answer, dict) else None
        given = [usage.get(key) if isinstance(usage, dict) else 0 for key in ("prompt_tokens", "completion_tokens")]
        tokens_in, tokens_out = (n if isinstance(n, int) and 0 <= n < 1 << 40 else 0 for n in given)
        cost = (tokens_in * self.options.price_in + tokens_out * self.options.price_out) / 1e6
        self._transport.counters.add(prompt_tokens=tokens_in, completion_tokens=tokens_out, cost=cost)

    def _request(self, system: str, content: list[dict[str, Any]]) -> bytes:
        options = self.options
        sampling = {"temperature": options.temperature, "max_tokens": options.max_tokens}
        messages = [{"role": "system", "content": system}, {"role": "user", "content": content}]
        fields = {key: value for key, value in sampling.items() if value is not None}
        return json.dumps({"model": options.model, "messages": messages, **fields, **options.body}).encode()

    def _box(self, example: Example, *, height: int, width: int) -> Box | None:
        """What of the frame is shown; None where nothing is to be judged."""
        kinds = {reference.kind for reference in example.references}
        if not self._rubric.counting(kinds, criterion=self.options.criterion):
            return None
        box = region_box(example, height=height, width=width)
        if box is None:
            return None
        if self.options.crop == "frame":
            return 0, 0, width, height
        extra = round(self.options.margin * max(box[2] - box[0], box[3] - box[1]))
        return max(box[0] - extra, 0), max(box[1] - extra, 0), min(box[2] + extra, width), min(box[3] + extra, height)

    def _before(self, example: Example, box: Box) -> list[dict[str, Any]] | None:
        """What stands in a request before the output; None where the rubric has nothing to compare with."""
        target = None if example.target is None else _crop(example.target, box)
        given = None if example.image is None else _crop(example.image, box)
        references = [(f"a reference of kind {r.kind}", r.image) for r in example.references]
        shown = {
            "goal": [("the target, as the output should be", target)] if target is not None else references,
            "references": references,
            "input": [("the input, before refinement", given)] if given is not None else [],
        }[self._rubric.sees]
        if self._rubric.sees == "goal" and not shown:
            return None
        content = [_text(f"Instruction:\n<<<\n{example.instruction or '(none)'}\n>>>")]
        for number, (caption, image) in enumerate(shown, start=1):
            content += [_text(f"Image {number}: {caption}."), self._image(image)]
        return content

    def _image(self, image: np.ndarray) -> dict[str, Any]:
        form = self.options.image_format
        payload = base64.b64encode(encode_image(image, form=form, long_side=self.options.long_side)).decode()
        return {"type": "image_url", "image_url": {"url": f"data:image/{form};base64,{payload}"}}


def chat_url(url: str) -> str:
    """The address of chat completions: the API's base (ending in /v1 or the like), or that address itself."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    path = path if path.endswith("/chat/completions") else f"{path}/chat/completions"
    return urlunsplit(parts._replace(path=path))


def chat_text(answer: Any) -> str:
    """The text of a chat completion's first choice.

    Raises:
        MalformedReply: there is none, as when the model refuses.
    """
    try:
        text = answer["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        text = None
    if not isinstance(text, str):
        raise MalformedReply("no text in the first choice")
    return text


def _by_id(examples: Sequence[Example]) -> dict[int, Example]:
    return {id(example): example for example in examples}


def _crop(image: np.ndarray, box: Box) -> np.ndarray:
    x1, y1, x2, y2 = box
    return image[:, y1:y2, x1:x2]


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
