"""What goes over the wire of the public API: requests, replies, limits and the body of an error.

Read by the routes, the client and the page. It opens no socket, decodes no picture and knows no policy. Pictures are
base64 text in JSON bodies and files in multipart bodies; the field names are the same in both.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from burnish.data.records import MAX_REFERENCES, REFERENCE_KINDS

MAX_BODY = 32 << 20
"""Bytes of a request's body; more are not read."""
MAX_ENCODED = 20 << 20
"""Bytes of one encoded picture."""
MAX_KEYS = 64
"""Fields of one mapping of a request."""
MAX_REGIONS = 16
MAX_PROMPT = 2000
"""Characters of an instruction."""
MAX_STEPS = 100
MAX_SAMPLES = 4
MAX_SEED = 2**63 - 1
MAX_FORWARDS = 800
"""Samples times steps times regions of one request."""
MAX_OUTPUT = 2 << 24
"""Pixels of all samples of one request together."""
MAX_INPUT = 64 << 20
"""Pixels of all pictures of one request together, unless the server's configuration says otherwise."""
NAME = r"[a-z0-9][a-z0-9._-]{0,63}"
"""A policy's name; `NAME@VERSION` pins one version of it."""
MODEL = rf"{NAME}(@[1-9][0-9]{{0,8}})?"
FORMATS = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg"}
"""Formats of a reply; png and webp are lossless, jpeg is labelled inexact."""
EVENTS = ("accepted", "progress", "done", "error")
"""Names of the server-sent events of `POST /v1/refine`."""

HEADER_REQUEST = "x-request-id"
HEADER_MODEL = "x-burnish-model"
HEADER_VERSION = "x-burnish-version"
HEADER_DIGEST = "x-burnish-digest"
HEADER_SEED = "x-burnish-seed"
HEADER_EXACT = "x-burnish-exact"
HEADER_IDEMPOTENCY = "idempotency-key"
HEADER_REPLAYED = "x-burnish-replayed"


Kind = Literal["detail", "subject", "background", "style", "lighting", "pose"]
assert set(REFERENCE_KINDS) == set(Kind.__args__)  # type: ignore[attr-defined]


class Strict(BaseModel):
    """A model that refuses unknown fields and converts nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ReferenceIn(Strict):
    """A reference picture."""

    kind: Kind = Field(default="detail", description="what the reference shows")
    image: str = Field(description="base64 of a PNG, JPEG or WebP, or a data: URL of one", min_length=1)


class RegionIn(Strict):
    """One region: a box or a mask."""

    box: list[int] | None = Field(default=None, description="[x1, y1, x2, y2], pixels, half-open", max_length=4)
    mask: str | None = Field(
        default=None, description="base64 of a picture of the image's size, luminance >= 128 = edit"
    )


class RefineOptions(Strict):
    """What a refinement takes beside its pictures; JSON and multipart bodies have these fields in common."""

    instruction: str = Field(default="", description="what to do, in words", max_length=MAX_PROMPT)
    model: str | None = Field(default=None, description="NAME or NAME@VERSION; null = the server's default policy")
    seed: int = Field(default=0, description="keys the noise; sample i takes seed + i", ge=0, le=MAX_SEED)
    n: int = Field(default=1, description="samples", ge=1, le=MAX_SAMPLES)
    steps: int | None = Field(
        default=None, description="denoising steps; null = as the policy's snapshot says", ge=1, le=MAX_STEPS
    )
    sampler: Literal["ode", "flow_sde", "dance_sde", "cps"] | None = Field(
        default=None, description="dynamics of the steps; null = as the policy's snapshot says"
    )
    margin: float | None = Field(
        default=None,
        description="context round the region, in margin_frame; null = as trained",
        ge=0.0,
        le=8192.0,
        allow_inf_nan=False,
    )
    margin_frame: Literal["box", "pixels", "area1024"] | None = Field(
        default=None,
        description="margin counts box sides, pixels, or pixels of an image scaled to 1024^2; null = as trained",
    )
    output_format: Literal["png", "webp", "jpeg"] | None = Field(
        default=None, description="null = the input's where that is lossless, else png"
    )
    output_quality: int = Field(default=95, description="of a jpeg", ge=1, le=100)
    stream: bool = Field(default=False, description="answer with server-sent events")
    previews: bool = Field(default=True, description="progress events carry a picture of the region")
    deadline: float | None = Field(
        default=None, description="unix seconds after which nobody waits any more", allow_inf_nan=False
    )

    @field_validator("instruction")
    @classmethod
    def _printable(cls, text: str) -> str:
        if any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" for c in text):
            raise ValueError("allowed text without control characters")
        return text

    @field_validator("model")
    @classmethod
    def _named(cls, text: str | None) -> str | None:
        if text is not None and not re.fullmatch(MODEL, text):
            raise ValueError("allowed NAME or NAME@VERSION, NAME of a-z 0-9 . _ - with at most 64 characters")
        return text


class RefineRequest(RefineOptions):
    """Body of `POST /v1/refine`: one of mask, box and regions; with none of them the whole frame is refined."""

    image: str = Field(description="base64 of a PNG, JPEG or WebP, or a data: URL of one", min_length=1)
    mask: str | None = Field(
        default=None, description="base64 of a picture of the image's size, luminance >= 128 = edit"
    )
    box: list[int] | None = Field(
        default=None, description="[x1, y1, x2, y2], pixels of the upright image, half-open", max_length=4
    )
    regions: list[RegionIn] | None = Field(
        default=None,
        description="several regions; overlapping ones are refined as one",
        min_length=1,
        max_length=MAX_REGIONS,
    )
    references: list[ReferenceIn] = Field(default=[], description="in pointer order", max_length=MAX_REFERENCES)


class ImageOut(BaseModel):
    """One refined picture."""

    b64: str = Field(description="base64 of the encoded picture")
    mime: str = Field(description="image/png, image/webp or image/jpeg")
    seed: int = Field(description="seed of this sample")


class RegionOut(BaseModel):
    """Where a region lay and what the policy saw of it."""

    box: list[int] = Field(description="tight box of the region, [x1, y1, x2, y2]")
    crop: list[int] = Field(description="box of what was cut out, refined and blended back")


class RefineReply(BaseModel):
    """Answer of `POST /v1/refine`, and data of the event `done`."""

    id: str = Field(description="request id, for feedback and logs")
    created: int = Field(description="unix seconds")
    model: str = Field(description="NAME@VERSION that made the pixels")
    version: int = Field(description="version of the policy on this server")
    digest: str = Field(description="sha256 of the policy's weights")
    seed: int = Field(description="seed of the first sample")
    steps: int = Field(description="denoising steps")
    exact: bool = Field(description="true: pixels outside the blended mask equal the input, bit for bit")
    width: int = Field(description="pixels, as the upright input")
    height: int = Field(description="pixels, as the upright input")
    regions: list[RegionOut] = Field(description="regions after overlapping ones were joined")
    images: list[ImageOut] = Field(description="one a sample")
    seconds: float = Field(description="from the request's arrival to its answer")


class ErrorProblem(BaseModel):
    """One thing that is wrong with a request."""

    field: str
    got: str
    allowed: str
    hint: str = ""


class ErrorEntry(BaseModel):
    """What went wrong; `type` and `param` are what OpenAI's clients read."""

    code: str = Field(description="snake case, stable")
    message: str
    type: str = Field(description="invalid_request_error, authentication_error, rate_limit_error or server_error")
    param: str | None = Field(description="the first field that is wrong")
    problems: list[ErrorProblem] = Field(description="every single thing that is wrong")
    request_id: str


class ErrorBody(BaseModel):
    """Body of every reply with status 400 and above, and data of the event `error`."""

    error: ErrorEntry


class VersionOut(BaseModel):
    """One version of a policy on this server."""

    version: int
    digest: str = Field(description="sha256 of the policy's weights")
    state: Literal["active", "canary", "held", "retired", "refused"] = Field(
        description="active serves; canary serves a share; held can be rolled back to; the others serve nothing"
    )
    share: float = Field(description="part of the policy's requests, 0 to 1")
    lineage: dict[str, Any] = Field(description="run, checkpoint, iterations, base digest, where known")
    score: float | None = Field(description="mean score of the canary examples; larger is better")
    since: float = Field(description="unix seconds of the last change of state")
    reason: str = Field(description="why it is in this state")


class PolicyOut(BaseModel):
    """A policy that is served by name."""

    name: str
    default: bool
    versions: list[VersionOut]


class PoliciesReply(BaseModel):
    """Answer of `GET /v1/policies`."""

    policies: list[PolicyOut]
    feedback: bool = Field(description="whether `POST /v1/feedback` stores anything")


class PromoteOptions(Strict):
    """The field `options` of `POST /v1/admin/promote`, beside the files `adapter` and `snapshot`."""

    policy: str = Field(description="name to promote under", pattern=rf"^{NAME}$")
    canary: float = Field(default=0.0, description="share of requests to try it on; 0 = switch at once", ge=0.0, lt=1.0)
    lineage: dict[str, str | int] = Field(default={}, description="run, checkpoint, iterations")


class RollbackRequest(Strict):
    """Body of `POST /v1/admin/rollback`."""

    policy: str | None = Field(default=None, description="null = the default policy", pattern=rf"^{NAME}$")
    reason: str = Field(default="asked for", description="goes to the log", max_length=200)


class CanaryRequest(Strict):
    """Body of `POST /v1/admin/canary`: change a running canary's share, or make it the active version."""

    policy: str | None = Field(default=None, description="null = the default policy", pattern=rf"^{NAME}$")
    share: float | None = Field(default=None, description="0 < share < 1", gt=0.0, lt=1.0)
    accept: bool = Field(default=False, description="switch to the canary now")


class FeedbackRequest(Strict):
    """Body of `POST /v1/feedback`."""

    request_id: str = Field(description="the id of a reply", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    verdict: Literal["better", "worse"] | None = Field(default=None, description="the output against the input")
    corrected: str | None = Field(default=None, description="base64 of how the picture should have become, same size")
