"""What has the wrong shape: the reduced schemas beside this file, and jsonschema's findings as burnish's problems."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from burnish.data.errors import Problem
from burnish.platform.lint.documents import join
from burnish.platform.lint.values import is_unset
from burnish.platform.lookup import did_you_mean

_DIRECTORY = Path(__file__).parent / "schemas"
_SHOWN = 60


@functools.cache
def load(name: str) -> dict[str, Any]:
    """A schema file by its name without ending: kubernetes, serve or monitoring."""
    return json.loads((_DIRECTORY / f"{name}.json").read_text("utf-8"))


def shape_problems(tree: object, name: str, part: str) -> Iterator[Problem]:
    """What does not fit definition `part` of schema file `name`: unknown keys, missing keys, types, ranges."""
    schema = load(name)
    yield from schema_problems(tree, {"$ref": f"#/$defs/{part}", "$defs": schema["$defs"]})


def schema_problems(tree: Any, schema: Mapping[str, Any]) -> Iterator[Problem]:
    """What of a tree does not fit a schema, in the order of the tree; a value that is not set yet fits everywhere."""
    from jsonschema import Draft202012Validator

    errors = Draft202012Validator(schema).iter_errors(tree)
    for error in sorted(errors, key=lambda e: [str(part) for part in e.absolute_path]):
        field = ".".join(str(part) for part in error.absolute_path)
        if not (isinstance(error.instance, str) and is_unset(error.instance)):
            yield from _problems(field, error)


def _problems(field: str, error: Any) -> Iterator[Problem]:
    rule, schema, got = error.validator, error.schema, error.instance
    if rule == "additionalProperties" and not isinstance(schema[rule], Mapping):
        known = list(schema.get("properties", {}))
        for key in (k for k in got if k not in known):
            hint = did_you_mean(str(key), known)
            yield Problem(join(field, str(key)), "an unknown key", ", ".join(sorted(known)), hint)
    elif rule == "required":
        for key in (k for k in schema["required"] if k not in got):
            yield Problem(join(field, key), "nothing", "a value (required)")
    else:
        yield Problem(field, _shown(got), _allowed(rule, schema, error.message))


def _allowed(rule: str, schema: Mapping[str, Any], message: str) -> str:
    value = schema.get(rule)
    if "description" in schema and rule in ("anyOf", "pattern", "type"):
        return str(schema["description"])
    if rule == "enum" and isinstance(value, list):
        return ", ".join(map(str, value))
    words = {
        "const": "{}",
        "minimum": ">= {}",
        "maximum": "<= {}",
        "pattern": "text matching {}",
        "minItems": "at least {} entries",
        "minLength": "at least {} characters",
        "maxLength": "at most {} characters",
    }
    if rule in words:
        return words[rule].format(value)
    if rule == "type":
        kinds = value if isinstance(value, list) else [value]
        names = {"object": "a mapping", "array": "a list", "string": "text (quoted)", "integer": "a whole number"}
        return " or ".join(names.get(kind, f"a {kind}") for kind in map(str, kinds))
    return message


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
