"""Texts made from the code: every key of a recipe, and every command with its options.

`python -m burnish.platform.reference recipe` prints docs/recipe-reference.md, `… commands` prints tests/repo/cli.txt;
`make generated` writes both, and tests hold them current. Nothing else calls it.
"""

from __future__ import annotations

import json
import sys
import typing
from collections.abc import Callable, Iterator
from types import UnionType
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from burnish.platform.config import Recipe
from burnish.platform.validation import is_run_option
from burnish.rewards.table import TABLE

_HEAD = """# Every key of a recipe

Made from the code by `make generated`; do not edit. A key is written with dots, as on the command line:
`--grpo.update.kl.beta 0.1`. Keys marked (run option) change no number of a run: they are left out of its
`config_digest`, and a resume may change them. Defaults are those of the code; the recipes set their own.
"""
_BOUNDS = {"gt": "> {}", "ge": ">= {}", "lt": "< {}", "le": "<= {}", "multiple_of": "multiple of {}"}
_PLAIN = {int: "integer", float: "number", str: "text", bool: "true or false"}


def recipe_reference() -> str:
    """docs/recipe-reference.md: a table of keys for each part of a recipe, and the options of each kind of reward."""
    fields = Recipe.model_fields
    plain = {name: info for name, info in fields.items() if not _model(info.annotation)}
    parts = [_HEAD, _table("The recipe itself", Recipe.__doc__, _rows(plain, ""))]
    for name, info in fields.items():
        model = _model(info.annotation)
        if model is not None:
            rows = _rows(model.model_fields, f"{name}.", _own_default(info))
            parts.append(_table(f"`{name}`", info.description, rows))
    for kind, cls in TABLE.items():
        if cls.Options.model_fields:
            parts.append(_table(f"Options of `{kind}`", cls.__doc__, _rows(cls.Options.model_fields, "options.")))
    return "\n".join(parts)


def _rows(fields: dict[str, FieldInfo], prefix: str, filled: object = None) -> Iterator[str]:
    """A line for each field; models are followed into, lists of models as `name[]`.

    Args:
        fields: of one model.
        prefix: dotted path of the model.
        filled: an instance that says the defaults, or anything else: the fields' own are shown.
    """
    for name, info in fields.items():
        model = _model(info.annotation)
        default = getattr(filled, name) if isinstance(filled, BaseModel) else _own_default(info)
        many = typing.get_origin(info.annotation) is tuple
        if model is None or many or default is None:
            yield _row(f"{prefix}{name}", info, default)
        if model is not None:
            yield from _rows(model.model_fields, f"{prefix}{name}{'[]' if many else ''}.", default)


def _row(path: str, info: FieldInfo, default: object) -> str:
    words = [info.description or "", "(run option)" if is_run_option(info) else ""]
    cells = [f"`{path}`", _type(info), _shown(default), " ".join(filter(None, words))]
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _table(title: str, words: str | None, rows: Iterator[str]) -> str:
    first = (words or "").strip().split("\n\n")[0].replace("\n", " ")
    sentence = first[:1].upper() + first[1:].rstrip(".")
    return "\n".join(
        [f"## {title}\n\n{sentence}.\n", "| key | value | default | meaning |", "|---|---|---|---|", *rows, ""]
    )


def _own_default(info: FieldInfo) -> object:
    """The field's default, or an ellipsis where it has none."""
    return ... if info.is_required() else info.default


def _shown(value: object) -> str:
    if value is ...:
        return "required"
    if isinstance(value, tuple):
        value = [v.model_dump(mode="json", exclude_defaults=True) if isinstance(v, BaseModel) else v for v in value]
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _type(info: FieldInfo) -> str:
    bounds = [
        t.format(getattr(m, n)) for m in info.metadata for n, t in _BOUNDS.items() if getattr(m, n, None) is not None
    ]
    return ", ".join([_words(info.annotation), *bounds])


def _words(annotation: Any) -> str:
    """An annotation in words."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(map(str, arguments))
    if origin is tuple:
        inner = dict.fromkeys(_words(a) for a in arguments if a is not Ellipsis)
        return f"list of {' / '.join(inner)}" if Ellipsis in arguments else f"{len(arguments)} x {' / '.join(inner)}"
    if origin is UnionType:
        return " or ".join(_words(a) for a in arguments)
    if origin is dict:
        return "mapping"
    if annotation is type(None):
        return "null"
    return _PLAIN.get(annotation, "mapping")


def _model(annotation: Any) -> type[BaseModel] | None:
    """The one model in an annotation, also inside a list or beside None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model, typing.get_args(annotation))), None)


def commands_reference() -> str:
    """tests/repo/cli.txt: one line a command, then one line an argument or option."""
    import typer

    from burnish.platform.cli import app

    return "\n".join([*_commands(typer.main.get_command(app), "burnish"), ""])


def _commands(command: Any, path: str) -> Iterator[str]:
    yield f"{path}: {(command.help or '').splitlines()[0]}"
    for parameter in command.params:
        names = "/".join([*parameter.opts, *parameter.secondary_opts])
        value = "" if getattr(parameter, "is_flag", False) else f" {parameter.metavar or 'VALUE'}"
        marks = [name for name in ("required", "multiple") if getattr(parameter, name)]
        marks += [f"default {parameter.default}"] if value and parameter.default not in (None, (), []) else []
        yield f"  {names}{value}{' (' + ', '.join(marks) + ')' if marks else ''}"
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        yield from _commands(inner, f"{path} {name}")


TEXTS: dict[str, Callable[[], str]] = {"recipe": recipe_reference, "commands": commands_reference}

if __name__ == "__main__":
    sys.stdout.write(TEXTS[sys.argv[1]]())
