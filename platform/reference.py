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
from pydantic_core import PydanticUndefined

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
    plain = {name: info for name, info in Recipe.model_fields.items() if not _models(info.annotation)}
    parts = [_HEAD, _table("The recipe itself", Recipe.__doc__, _rows(plain, ""))]
    for name, info in Recipe.model_fields.items():
        for model in _models(info.annotation):
            parts.append(_table(f"`{name}`", info.description, _rows(model.model_fields, f"{name}.")))
    for kind, cls in TABLE.items():
        fields = cls.Options.model_fields
        if fields:
            parts.append(_table(f"Options of `{kind}`", cls.__doc__, _rows(fields, "options.")))
    return "\n".join(parts)


def _rows(fields: dict[str, FieldInfo], prefix: str) -> Iterator[str]:
    """A line for each field; fields that are models are followed into, lists of models as `name[]`."""
    for name, info in fields.items():
        models = list(_models(info.annotation))
        many = typing.get_origin(info.annotation) is tuple
        if models:
            if many or _optional(info.annotation):
                yield _row(f"{prefix}{name}", info)
            for model in models:
                yield from _rows(model.model_fields, f"{prefix}{name}{'[]' if many else ''}.")
        else:
            yield _row(f"{prefix}{name}", info)


def _row(path: str, info: FieldInfo) -> str:
    words = [info.description or "", "(run option)" if is_run_option(info) else ""]
    cells = [f"`{path}`", _type(info), _default(info), " ".join(filter(None, words))]
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _table(title: str, words: str | None, rows: Iterator[str]) -> str:
    first = (words or "").strip().split("\n\n")[0].replace("\n", " ")
    sentence = first[:1].upper() + first[1:].rstrip(".")
    return "\n".join(
        [f"## {title}\n\n{sentence}.\n", "| key | value | default | meaning |", "|---|---|---|---|", *rows, ""]
    )


def _default(info: FieldInfo) -> str:
    if info.default is PydanticUndefined:
        return "required"
    value = info.default
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    elif isinstance(value, tuple):
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


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models(argument)


def _optional(annotation: Any) -> bool:
    return type(None) in typing.get_args(annotation)


def commands_reference() -> str:
    """tests/repo/cli.txt: one line a command, then one line an argument or option."""
    import typer

    from burnish.platform.cli import app

    return "\n".join([*_commands(typer.main.get_command(app), "burnish"), ""])


def _commands(command: Any, path: str) -> Iterator[str]:
    yield path
    for parameter in command.params:
        names = "/".join([*parameter.opts, *parameter.secondary_opts])
        marks = ["required"] if parameter.required else []
        marks += ["repeatable"] if getattr(parameter, "multiple", False) else []
        flag = getattr(parameter, "is_flag", False)
        kind = "" if flag else f" {(parameter.metavar or parameter.type.name).upper()}"
        yield f"  {names}{kind}{' (' + ', '.join(marks) + ')' if marks else ''}"
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        yield from _commands(inner, f"{path} {name}")


TEXTS: dict[str, Callable[[], str]] = {"recipe": recipe_reference, "commands": commands_reference}

if __name__ == "__main__":
    sys.stdout.write(TEXTS[sys.argv[1]]())
