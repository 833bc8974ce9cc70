"""References to container images: by digest, so that every pod, and every restart, runs the same bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from burnish.data.errors import Problem
from burnish.platform.lint.values import is_unset

_DIGEST = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}")


def image_problems(field: str, image: object) -> Iterator[Problem]:
    """A problem where an image is named by tag only, or not by a whole sha256."""
    if not isinstance(image, str) or is_unset(image) or _DIGEST.fullmatch(image):
        return
    hint = "a tag may point elsewhere tomorrow; `docker inspect` shows the digest"
    yield Problem(field, repr(image), "name@sha256:<64 hex digits>", hint)
