"""The request bodies of the OpenAPI document, with examples. Data only, read by the routes."""

from __future__ import annotations

from typing import Any

from burnish.serve.schema import (
    CanaryRequest,
    ErrorBody,
    FeedbackRequest,
    PromoteOptions,
    RefineOptions,
    RefineRequest,
    RollbackRequest,
)

_PICTURE = "iVBORw0KGgo..."
_FILE = {"type": "string", "format": "binary"}
_FILES = {"type": "array", "items": _FILE}


def _schema(model: Any) -> dict[str, Any]:
    """A model's JSON schema in one piece: the document has no place for its parts."""
    tree = model.model_json_schema()
    parts = tree.pop("$defs", {})

    def inlined(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return inlined(parts[value["$ref"].rpartition("/")[2]])
            return {key: inlined(entry) for key, entry in value.items()}
        return [inlined(entry) for entry in value] if isinstance(value, list) else value

    return inlined(tree)


def _form(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"schema": {"type": "object", "properties": properties, "required": required}}


_OPTIONS: dict[str, Any] = _schema(RefineOptions)["properties"]
_BOX = {"type": "array", "items": {"type": "string"}, "description": "x1,y1,x2,y2; repeat it for several regions"}
_KINDS = {"type": "array", "items": {"type": "string"}, "description": "one a reference, in their order"}
_NATIVE = {"image": _FILE, "mask": _FILES, "reference": _FILES, "reference_kind": _KINDS, "box": _BOX, **_OPTIONS}

REFINE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": _schema(RefineRequest),
                "examples": {
                    "box": {
                        "value": {"image": _PICTURE, "box": [120, 80, 200, 140], "instruction": "sharpen the label"}
                    },
                    "references": {
                        "value": {
                            "image": _PICTURE,
                            "mask": _PICTURE,
                            "references": [{"kind": "detail", "image": _PICTURE}],
                            "seed": 7,
                            "stream": True,
                        }
                    },
                },
            },
            "multipart/form-data": _form(_NATIVE, ["image"]),
        },
    }
}
_EDIT = {
    "image": {"anyOf": [_FILE, _FILES], "description": "the picture, then references"},
    "mask": {**_FILE, "description": "alpha < 128 = edit"},
    "prompt": {"type": "string"},
    "size": {"type": "string", "description": "auto, or the image's own size", "example": "auto"},
    "response_format": {"type": "string", "enum": ["b64_json", "url"]},
    "partial_images": {"type": "integer", "minimum": 0, "maximum": 3},
}
EDIT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"multipart/form-data": _form(_OPTIONS | _EDIT, ["image", "prompt"])},
    }
}


def _json(model: Any, example: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    content = {"application/json": {"schema": _schema(model), "example": example}}
    return {"requestBody": {"required": required, "content": content}}


def _header(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    text = {"type": "string", "contentEncoding": "base64", "contentMediaType": "application/json"}
    return {"name": name, "in": "header", "required": True, "schema": {**text, "contentSchema": schema}}


FEEDBACK_BODY = _json(FeedbackRequest, {"request_id": "5f0c", "verdict": "better"})
ROLLBACK_BODY = _json(RollbackRequest, {"reason": "labels are worse"}, required=False)
CANARY_BODY = _json(CanaryRequest, {"share": 0.2})
PROMOTE_BODY: dict[str, Any] = {
    "parameters": [
        _header("x-burnish-options", _schema(PromoteOptions)),
        _header("x-burnish-snapshot", {"type": "object", "description": "the run's snapshot.json"}),
    ],
    "requestBody": {"required": True, "content": {"application/octet-stream": {"schema": _FILE}}},
}
_REFUSED = {
    "code": "invalid",
    "message": "the request is refused",
    "type": "invalid_request_error",
    "param": "seed",
    "problems": [{"field": "seed", "got": "-1", "allowed": "at least 0", "hint": ""}],
    "request_id": "5f0c",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "model": ErrorBody,
        "description": "refused",
        "content": {"application/json": {"example": {"error": _REFUSED}}},
    },
    503: {"model": ErrorBody, "description": "try again after the seconds that Retry-After says"},
}
