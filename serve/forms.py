"""Multipart bodies: files and text fields of `POST /v1/refine`, by the names of docs/serve.md.

Called by the routes and by `edits.py`. The guard has bounded the body; starlette takes it apart in memory.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from burnish.data.errors import DataError, Problem
from burnish.data.strict_json import parse
from burnish.serve.intake import Upload, checked
from burnish.serve.refusal import Refusal, invalid
from burnish.serve.schema import MAX_ENCODED, RefineOptions

MAX_FILES, MAX_FIELDS = 32, 64
MAX_TEXT = 1 << 20
"""Bytes of a text field."""
_BOX = re.compile(r"\d{1,6}(,\d{1,6}){3}")
_TEXTS = ("instruction", "model", "sampler", "margin_frame", "output_format")
"""Options whose text is taken as it stands; the others are numbers, true or false."""


@dataclass
class Form:
    """A multipart body: name -> values in their order."""

    files: dict[str, list[bytes]] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)

    def check_names(self, files: Sequence[str], texts: Sequence[str], repeated: Sequence[str]) -> None:
        """Raises: Refusal 422, unknown names, or a field twice that stands for one value."""
        problems = [Problem(n[:80], "an unknown file", ", ".join(files)) for n in self.files if n not in files]
        problems += [Problem(n[:80], "an unknown field", ", ".join(texts)) for n in self.texts if n not in texts]
        both = [*self.files.items(), *self.texts.items()]
        problems += [Problem(n[:80], f"{len(v)} times", "once") for n, v in both if len(v) > 1 and n not in repeated]
        if problems:
            raise invalid(*problems)


async def read_form(request: Any) -> Form:
    """Take a multipart request apart.

    Raises:
        Refusal: 400 not multipart, or too many parts; 413 a file that is too large.
    """
    from starlette.exceptions import HTTPException

    form = Form()
    try:
        async with request.form(max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=MAX_TEXT) as parts:
            for name, value in parts.multi_items():
                if isinstance(value, str):
                    form.texts.setdefault(name, []).append(value)
                    continue
                payload = await value.read()
                if len(payload) > MAX_ENCODED:
                    problem = Problem(name[:80], f"{len(payload)} bytes", f"at most {MAX_ENCODED}")
                    raise Refusal(413, "too_large", "a file is too large", [problem])
                form.files.setdefault(name, []).append(payload)
    except (HTTPException, UnicodeDecodeError) as error:
        text = str(getattr(error, "detail", "not UTF-8"))
        raise Refusal(400, "malformed", "the body is not readable", [Problem("body", text[:120], "a form")]) from None
    return form


def options_of(form: Form) -> RefineOptions:
    """The form's options, checked.

    Raises:
        Refusal: 422 with every field that is wrong.
    """
    return checked(
        RefineOptions, {n: _typed(n, form.texts[n][0]) for n in RefineOptions.model_fields if n in form.texts}
    )


def _typed(name: str, text: str) -> Any:
    """A field's text as JSON would have it; what is no JSON stays text and is refused by its type."""
    if name in _TEXTS:
        return text.replace("\r\n", "\n")  # browsers send the line breaks of a form's text so
    try:
        value = parse(text.encode(), field=name)
    except DataError:
        return text
    return float(value) if name in ("margin", "deadline") and type(value) is int else value


def form_upload(form: Form) -> Upload:
    """The upload of a form of `POST /v1/refine`.

    Raises:
        Refusal: 422 with everything that is wrong.
    """
    texts = (*RefineOptions.model_fields, "reference_kind", "box")
    form.check_names(("image", "mask", "reference"), texts, ("mask", "reference", "reference_kind", "box"))
    options = options_of(form)
    masks, boxes = form.files.get("mask", []), form.texts.get("box", [])
    references, kinds = form.files.get("reference", []), form.texts.get("reference_kind", [])
    problems = [Problem("box", b[:80], "x1,y1,x2,y2") for b in boxes if not _BOX.fullmatch(b.replace(" ", ""))]
    if "image" not in form.files:
        problems.append(Problem("image", "nothing", "a file"))
    if masks and boxes:
        problems.append(Problem("mask, box", "both", "one of the two"))
    if kinds and len(kinds) != len(references):
        problems.append(Problem("reference_kind", f"{len(kinds)} kinds", f"one a reference ({len(references)})"))
    if problems:
        raise invalid(*problems)
    corners = [[int(part) for part in box.replace(" ", "").split(",")] for box in boxes]
    kinds = kinds or ["detail"] * len(references)
    shown = tuple((f"reference.{i}", k, r) for i, (k, r) in enumerate(zip(kinds, references, strict=True)))
    named = tuple((f"mask.{i}" if i else "mask", mask) for i, mask in enumerate(masks))
    return Upload(options, form.files["image"][0], named, tuple(("box", c) for c in corners), shown)
