"""What a sender can do about a refusal, in a sentence: by code, and for a field that is invalid by its name.

Fills the `hint` of every problem that brings none of its own; page and clients show it beside what is allowed.
"""

from __future__ import annotations

import re

_PICTURE = "resize it to what is allowed, or save it anew as an 8-bit PNG, JPEG or WebP"
_PLACE = "count pixels from the upright picture's upper left corner: x1, y1, x2, y2, the second pair outside"
CODES = {
    "malformed": "send one JSON object in UTF-8, or a form, with each field once",
    "unauthorized": "send the header Authorization: Bearer TOKEN",
    "forbidden": "ask whoever runs this server for the token, or use its own page",
    "not_found": "GET /openapi.json lists the routes; what was answered long ago is forgotten",
    "method_not_allowed": "GET /openapi.json lists the routes and their methods",
    "deadline_passed": "send it again with a later deadline, or none",
    "idempotency_conflict": "take a new key for every new request",
    "feedback_full": "move the collected feedback away, or raise feedback_bytes",
    "no_canary": "burnish promote with a share starts one",
    "nothing_to_roll_back": "GET /v1/models lists the versions",
    "promotion_refused": "GET /v1/models lists what is served; the server's log says more",
    "too_large": "send fewer or smaller pictures",
    "unsupported_media_type": "set the header Content-Type to what the body is",
    "misdirected": "name the host in the server's hosts",
    "queue_full": "send it again after the seconds of Retry-After",
    "unavailable": "send it again after the seconds of Retry-After",
    "not_stored": "free the server's disk, then send it again; nothing was changed",
    "internal": "send it again; if that fails too, report it with the request id",
    "invalid": "correct it and send it again; GET /openapi.json has every field",
}
"""Code of a refusal -> hint."""

FIELDS = {
    "image": _PICTURE,
    "corrected": f"{_PICTURE}, of the size of the picture that it corrects",
    "references": f"{_PICTURE}; at least 1 pixel a side",
    "mask": f"{_PICTURE} of the image's size, white where it may change",
    "box": _PLACE,
    "regions": _PLACE,
    "model": "GET /v1/models lists what is served",
    "instruction": "say in a sentence or two what to restore",
    "prompt": "say in a sentence or two what to restore",
    "n": "ask for fewer samples, steps or regions at once",
    "request_id": "take it from the header x-request-id of the answer that is judged",
}
"""First part of the name of an invalid field -> hint."""


def hint_for(code: str, field: str) -> str:
    """The hint for a problem that has none of its own."""
    first = re.split(r"[^a-z_]", field, maxsplit=1)[0]
    return FIELDS.get(first, CODES["invalid"]) if code == "invalid" else CODES[code]
