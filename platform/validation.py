"""Turn pydantic's findings into burnish's: every problem at once, with field, got, allowed and a hint.

Called by `config.py`; generic over the models, so that it is tested with small ones. It also says what of a model
counts for a digest: fields marked `json_schema_extra={"run_option": True}` do not.
"""

from __future__ import annotations

import hashlib
import json
import re
import typing
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, TypeVar, Union

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from burnish.data.errors import ConfigError, Problem
from burnish.platform.lookup import did_you_mean, nearest

ModelT = TypeVar("ModelT", bound=BaseModel)

DIGEST_SCHEMA = 1
"""Version of the canonical form that digests are taken over; raise it when a field's meaning changes."""

_SECRET = re.compile("token|secret|password|credential|api_?key", re.IGNORECASE)
_LIMITS = {
    "greater_than": ("gt", "> {}"),
    "greater_than_equal": ("ge", ">= {}"),
    "less_than": ("lt", "< {}"),
    "less_than_equal": ("le", "<= {}"),
    "multiple_of": ("multiple_of", "a multiple of {}"),
    "literal_error": ("expected", "{}"),
    "too_short": ("min_length", "at least {} entries"),
    "too_long": ("max_length", "at most {} entries"),
    "string_pattern_mismatch": ("pattern", "text matching {}"),
    "string_too_short": ("min_length", "at least {} characters"),
    "string_too_long": ("max_length", "at most {} characters"),
}


def validate(model: type[ModelT], tree: Mapping[str, Any], *, source: str) -> ModelT:
    """Build a model from a plain tree, strictly: no conversion of text or bool to number.

    Args:
        model: a pydantic model class; its validators may raise ValueError("field: got X, allowed Y") or a ConfigError
            with problems whose fields are relative to the model.
        tree: what `read_recipe` returned.
        source: file name for the error's first line.

    Raises:
        ConfigError: all problems, in the order of pydantic's report.
    """
    try:
        return model.model_validate_json(json.dumps(tree, allow_nan=False))
    except ValidationError as error:
        problems = [p for details in error.errors(include_url=False) for p in _problems(model, details)]
        raise ConfigError(f"recipe refused: {source}", problems) from None


def _problems(model: type[BaseModel], details: Mapping[str, Any]) -> Iterator[Problem]:
    kind, context = details["type"], details.get("ctx", {})
    shown, annotations = _follow(model, details["loc"])
    field = ".".join(shown)
    if kind in ("value_error", "assertion_error"):
        inner = {name for annotation in annotations for m in _models_in(annotation) for name in m.model_fields}
        yield from _validator_problems(field, inner, context.get("error"), details)
    elif kind == "extra_forbidden":
        yield _unknown_key(model, details["loc"])
    elif kind == "missing":
        yield Problem(field, "nothing", "a value (required)")
    elif kind in ("union_tag_invalid", "union_tag_not_found"):
        tag = ".".join([*shown, str(context["discriminator"]).strip("'")])
        yield Problem(tag, repr(context.get("tag")), str(context.get("expected_tags", "a value (required)")))
    else:
        yield Problem(field, _shown(details["input"]), _allowed(kind, context, str(details["msg"])))


def _allowed(kind: str, context: Mapping[str, Any], message: str) -> str:
    if kind in _LIMITS and _LIMITS[kind][0] in context:
        name, text = _LIMITS[kind]
        return text.format(context[name])
    text = message.removeprefix("Input should be ").removeprefix("a valid ")
    return f"{text} (not quoted)" if kind in ("int_type", "float_type", "bool_type") else text


def _validator_problems(field: str, inner: set[str], error: object, details: Mapping[str, Any]) -> Iterator[Problem]:
    """What a model's own validator said; names are relative to the model, `inner` are its fields."""
    if isinstance(error, ConfigError) and error.problems:
        for problem in error.problems:
            yield Problem(_join(field, problem.field, inner), problem.got, problem.allowed, problem.hint)
        return
    for line in str(error or details["msg"]).splitlines():
        name, found, rest = line.partition(": got ")
        got, allowed_found, allowed = rest.partition(", allowed ")
        if found and allowed_found:
            yield Problem(_join(field, name, inner), got, allowed)
        else:
            yield Problem(field or "recipe", _shown(details["input"]), line)


def _join(prefix: str, name: str, inner: set[str]) -> str:
    """The dotted path of a name said by a validator of a model (relative) or of a field (its own name)."""
    if not prefix:
        return name
    return f"{prefix}.{name}" if name.split(".")[0] in inner or not prefix.endswith(name) else prefix


def _shown(value: object) -> str:
    text = json.dumps(_redacted(value), default=str, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _redacted(value: Any) -> Any:
    """The value without what stands under the name of a secret: a token that was typed in place of its name."""
    if isinstance(value, Mapping):
        return {k: "(hidden)" if _SECRET.search(str(k)) else _redacted(v) for k, v in value.items()}
    return [_redacted(v) for v in value] if isinstance(value, list | tuple) else value


def _unknown_key(model: type[BaseModel], location: tuple[int | str, ...]) -> Problem:
    """Name the nearest key beside it, else the same key elsewhere in the recipe, else all that is allowed here."""
    shown, parents = _follow(model, location[:-1])
    leaf = str(location[-1])
    beside = {name for parent in parents for inner in _models_in(parent) for name in inner.model_fields}
    elsewhere = [path for path, _ in walk_fields(model) if path.rpartition(".")[2] == leaf]
    close = nearest(leaf, beside) or (elsewhere[0] if elsewhere else None)
    hint = f"did you mean {close}?" if close else did_you_mean(leaf, [path for path, _ in walk_fields(model)])
    return Problem(".".join([*shown, leaf]), "an unknown key", ", ".join(sorted(beside)) or "no keys here", hint)


def walk_fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Dotted path and field of every field of a model and of the models within it (also in lists and unions)."""
    for name, info in model.model_fields.items():
        path = f"{prefix}.{name}" if prefix else name
        yield path, info
        for inner in _models_in(info.annotation):
            yield from walk_fields(inner, path)


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)


def _follow(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[list[str], list[object]]:
    """The location as the user wrote it, without the union tags that pydantic puts in, and the annotations there."""
    shown: list[str] = []
    annotations: list[object] = [model]
    for part in location:
        inner = [a for annotation in annotations for a in _step(annotation, part)]
        is_tag = not inner and any(map(_is_union, annotations))
        if is_tag:
            annotations = [a for annotation in annotations for a in _tagged(annotation, part)]
        else:
            shown.append(str(part))
            annotations = [_unwrap(annotation) for annotation in inner]
    return shown, annotations


def _tagged(annotation: object, tag: int | str) -> list[object]:
    """The members of a discriminated union that carry the tag; all members where none does."""
    members = [_unwrap(member) for member in typing.get_args(annotation)]
    models = [inner for member in members for inner in _models_in(member)]
    chosen = [m for m in models if any(tag in typing.get_args(f.annotation) for f in m.model_fields.values())]
    return list(chosen or members)


def _step(annotation: object, part: int | str) -> list[object]:
    """Annotations that `part` leads to: a model's field, or the entry of a list or mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        info = annotation.model_fields.get(str(part))
        return [info.annotation] if info is not None else []
    arguments = [a for a in typing.get_args(annotation) if a is not Ellipsis]
    if _is_union(annotation):
        return [found for inner in arguments for found in _step(inner, part)]
    if isinstance(part, int) or typing.get_origin(annotation) in (dict, Mapping):
        return arguments[-1:]
    return []


def _unwrap(annotation: object) -> object:
    return _unwrap(typing.get_args(annotation)[0]) if typing.get_origin(annotation) is typing.Annotated else annotation


def _is_union(annotation: object) -> bool:
    return typing.get_origin(annotation) in (Union, UnionType)


def significant(value: object) -> Any:
    """The plain JSON tree of a model without its run options, at any depth."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {name: significant(getattr(value, name)) for name in fields if not is_run_option(fields[name])}
    if isinstance(value, Mapping):
        return {str(key): significant(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [significant(entry) for entry in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"a recipe must not hold a {type(value).__name__}: {value!r}")


def is_run_option(info: FieldInfo) -> bool:
    """True for a field that changes no number: worker counts, paths, tracking, words."""
    extra = info.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("run_option"))


def digest(model: BaseModel) -> str:
    """sha256 over the canonical JSON (sorted keys, no blanks) of the significant fields and the schema version."""
    tree = {"schema": DIGEST_SCHEMA, "recipe": significant(model)}
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def flatten(tree: object, prefix: str = "") -> dict[str, Any]:
    """Dotted path -> leaf; lists are leaves, empty mappings too."""
    if not isinstance(tree, Mapping) or not tree:
        return {prefix: tree}
    return {
        path: leaf
        for key, entry in tree.items()
        for path, leaf in flatten(entry, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def differing(first: BaseModel, second: BaseModel) -> dict[str, tuple[Any, Any]]:
    """Dotted path -> (first's value, second's value) of every significant leaf that differs; None where absent."""
    left, right = flatten(significant(first)), flatten(significant(second))
    paths = sorted(left.keys() | right.keys())
    return {path: (left.get(path), right.get(path)) for path in paths if left.get(path) != right.get(path)}
