"""OpenAI's images-edit call: its fields as an upload, its answers and its stream events.

`image` is the picture to edit and, where there are several, the others are references; a mask's transparent pixels
(alpha < 128) are the region. Pictures keep their size, so `size` is "auto" or the image's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from burnish.data.errors import Problem
from burnish.serve.forms import Form, options_of
from burnish.serve.intake import Job, Upload
from burnish.serve.refusal import invalid
from burnish.serve.schema import RefineOptions
from burnish.serve.service import Outcome
from burnish.serve.work import mime_of

_RENAMED = {"prompt": "instruction", "output_compression": "output_quality"}
_IGNORED = (
    "user",
    "quality",
    "input_fidelity",
    "moderation",
    "background",
    "partial_images",
    "size",
    "response_format",
)
"""Fields of the call that change no pixel here, or are read by name below."""


@dataclass(frozen=True)
class EditOptions:
    """What the call says beside the native options."""

    size: str
    response_format: str
    partial_images: int


def edit_upload(form: Form) -> tuple[Upload, EditOptions]:
    """The upload that a form of the call stands for.

    Raises:
        Refusal: 422 with everything that is wrong.
    """
    native = [name for name in RefineOptions.model_fields if name != "instruction"]
    files = ("image", "image[]", "mask")
    form.check_names(files, [*native, *_RENAMED, *_IGNORED], ("image", "image[]"))
    images = [*form.files.get("image", []), *form.files.get("image[]", [])]
    texts = {name: values[0] for name, values in form.texts.items()}
    partial = texts.get("partial_images", "0")
    problems = []
    if not images:
        problems.append(Problem("image", "nothing", "a file, or several"))
    if not texts.get("prompt"):
        problems.append(Problem("prompt", "nothing", "what to do, in words"))
    if texts.get("response_format", "b64_json") not in ("b64_json", "url"):
        problems.append(Problem("response_format", texts["response_format"][:80], "b64_json or url (a data: URL)"))
    if partial not in ("0", "1", "2", "3"):
        problems.append(Problem("partial_images", partial[:80], "0 to 3"))
    if problems:
        raise invalid(*problems)
    renamed = {_RENAMED.get(name, name): form.texts[name] for name in form.texts if name not in _IGNORED}
    if form.texts.get("output_format", [""])[0] not in ("jpeg", "") or renamed.get("output_quality") == ["0"]:
        renamed.pop("output_quality", None)  # png and webp are lossless here
    options = options_of(Form(texts=renamed))
    masks = tuple(("mask", payload) for payload in form.files.get("mask", []))
    references = tuple((f"image.{i}", "detail", payload) for i, payload in enumerate(images[1:], start=1))
    upload = Upload(options, images[0], masks, (), references, mask_channel="alpha")
    size, answer = texts.get("size", "auto"), texts.get("response_format", "b64_json")
    return upload, EditOptions(size, answer, int(partial))


def check_size(job: Job, options: EditOptions) -> None:
    """Raises: Refusal 422, a size that is not the image's."""
    height, width = job.picture.pixels.shape[1:]
    if options.size not in ("auto", f"{width}x{height}"):
        hint = "pictures keep their size: leave it out"
        raise invalid(Problem("size", repr(options.size)[:80], f"auto or {width}x{height}", hint))


def edit_reply(outcome: Outcome, options: EditOptions) -> dict[str, Any]:
    """OpenAI's ImagesResponse."""
    mime = mime_of(outcome.done.format)
    as_url = options.response_format == "url"
    data = [{"url": f"data:{mime};base64,{b64}"} if as_url else {"b64_json": b64} for b64 in outcome.images]
    common = _common(outcome)
    return {"created": outcome.created, "data": data, "output_format": common["output_format"], "size": common["size"]}


def _common(outcome: Outcome) -> dict[str, Any]:
    height, width = outcome.job.picture.pixels.shape[1:]
    opaque = outcome.job.picture.alpha is None
    return {
        "output_format": outcome.done.format.lower(),
        "size": f"{width}x{height}",
        "background": "opaque" if opaque else "transparent",
        "quality": "auto",
        "created_at": outcome.created,
    }


def completed(outcome: Outcome) -> dict[str, Any]:
    """The event `image_edit.completed`; there are no tokens to count."""
    details = {"image_tokens": 0, "text_tokens": 0}
    usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "input_tokens_details": details}
    return {"type": "image_edit.completed", "b64_json": outcome.images[0], "usage": usage, **_common(outcome)}


def partial(index: int, preview: str, *, job: Job, created: int) -> dict[str, Any]:
    """The event `image_edit.partial_image`: the policy's present idea of the region, as PNG."""
    height, width = job.picture.pixels.shape[1:]
    return {
        "type": "image_edit.partial_image",
        "b64_json": preview,
        "partial_image_index": index,
        "output_format": "png",
        "size": f"{width}x{height}",
        "background": "opaque",
        "quality": "auto",
        "created_at": created,
    }
