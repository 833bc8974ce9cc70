"""Find and read the data files of burnish: recipes by name or path, as plain trees of dicts and lists.

Called by `config.py` and the command line. It knows YAML 1.2 and nothing about what a recipe means: types and
values are judged by the pydantic models of the rooms. Aliases are refused (an anchors bomb is one), and so are
duplicate keys, several documents, tags and numbers that are not finite.
"""

from __future__ import annotations

import difflib
import io
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish.data.errors import ConfigError, Problem

if TYPE_CHECKING:
    from ruamel.yaml import YAML

MAX_RECIPE_BYTES = 1 << 20
MAX_DEPTH = 16
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def data_file(*parts: str) -> Path:
    """Path of a file that burnish ships, for example `data_file("recipes", "tiny.yaml")`; it need not exist."""
    return Path(__file__).parents[1].joinpath(*parts)


def recipe_names() -> list[str]:
    """Names of the recipes that burnish ships, sorted."""
    return sorted(path.stem for path in data_file("recipes").glob("*.yaml"))


def recipe_path(name_or_path: str) -> Path:
    """Where a recipe lies.

    Args:
        name_or_path: a name in `recipes/`, or a path that ends in .yaml or .yml.

    Raises:
        ConfigError: no such recipe, naming the nearest one.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        if path.is_file():
            return path
        raise ConfigError("recipe not found", [Problem("RECIPE", name_or_path, "a file that exists")])
    path = data_file("recipes", f"{name_or_path}.yaml")
    if _NAME.fullmatch(name_or_path) and path.is_file():
        return path
    allowed = ", ".join(recipe_names()) or "a path to a .yaml file"
    hint = did_you_mean(name_or_path, recipe_names())
    raise ConfigError("recipe not found", [Problem("RECIPE", repr(name_or_path), allowed, hint)])


def nearest(key: str, allowed: Iterable[str]) -> str | None:
    """The entry of `allowed` that looks most like `key` (difflib ratio >= 0.6), or None."""
    close = difflib.get_close_matches(key, list(allowed), n=1, cutoff=0.6)
    return close[0] if close else None


def did_you_mean(key: str, allowed: Iterable[str]) -> str:
    """The hint "did you mean X?", or "" where nothing is near."""
    close = nearest(key, allowed)
    return f"did you mean {close}?" if close else ""


def read_recipe(path: Path) -> dict[str, Any]:
    """Read one recipe file into plain dicts, lists, str, int, float, bool and None.

    Raises:
        ConfigError: unreadable, not UTF-8, larger than 1 MiB, or refused by `read_yaml`.
    """
    try:
        raw = path.read_bytes()
        if len(raw) > MAX_RECIPE_BYTES:
            raise ConfigError("recipe too large", [Problem(str(path), f"{len(raw)} bytes", f"{MAX_RECIPE_BYTES}")])
        return read_yaml(raw.decode("utf-8"), source=str(path))
    except OSError as error:
        raise ConfigError("recipe not readable", [Problem(str(path), str(error), "a readable file")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError("recipe not readable", [Problem(str(path), "other bytes", "UTF-8 text")]) from error


def read_yaml(text: str, *, source: str) -> dict[str, Any]:
    """Parse one YAML 1.2 document whose top is a mapping.

    Args:
        text: the document; `1e-4` is a number, `yes` a string, `010` the number 10.
        source: what error texts call it.

    Raises:
        ConfigError: syntax, duplicate keys, aliases, tags, several documents, keys that are not text, values that JSON
            cannot hold; all problems that can be known are listed.
    """
    tree = _load(text, source=source)
    if not isinstance(tree, dict):
        got = "an empty file" if tree is None else type(tree).__name__
        raise ConfigError("recipe refused", [Problem(source, got, "a mapping of keys")])
    problems = list(_value_problems(tree, ""))
    if problems:
        raise ConfigError(f"recipe refused: {source}", problems)
    return tree


def read_value(text: str, *, field: str) -> Any:
    """Parse the value of an override with the same rules as a recipe: number, text, true, null, [1, 2] or {a: 1}.

    Raises:
        ConfigError: the text is no YAML value, naming `field`.
    """
    value = _load(text, source=field)
    problems = list(_value_problems(value, field))
    if problems:
        raise ConfigError("override refused", problems)
    return value


def write_yaml(tree: dict[str, Any]) -> str:
    """Text of a tree that `read_yaml` reads back to equal values: a key a line, lists of plain values in brackets."""
    from ruamel.yaml import YAML

    stream = io.StringIO()
    yaml = YAML(pure=True)
    yaml.default_flow_style = False
    yaml.width = 100
    yaml.dump(_flowing(tree), stream)
    return stream.getvalue()


def _flowing(value: Any) -> Any:
    from ruamel.yaml.comments import CommentedSeq

    if isinstance(value, dict):
        return {key: _flowing(entry) for key, entry in value.items()}
    if not isinstance(value, list):
        return value
    result = CommentedSeq(_flowing(entry) for entry in value)
    if not any(isinstance(entry, dict | list) for entry in value):
        result.fa.set_flow_style()
    return result


def _loader() -> YAML:
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.allow_duplicate_keys = False
    return yaml


def _load(text: str, *, source: str) -> Any:
    """Parse, looking at the event stream first: aliases must be refused before they are expanded."""
    from ruamel.yaml.error import YAMLError

    try:
        problems = list(_event_problems(text, source))
        if problems:
            raise ConfigError(f"YAML refused: {source}", problems)
        return _loader().load(text)
    except YAMLError as error:
        raise ConfigError("YAML refused", [_yaml_problem(error, source)]) from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError("YAML refused", [Problem(source, str(error), "YAML 1.2")]) from error


def _event_problems(text: str, source: str) -> Iterator[Problem]:
    documents, depth = 0, 0
    for event in _loader().parse(text):
        kind = type(event).__name__
        where = f"{source}:{event.start_mark.line + 1}"
        if kind == "AliasEvent":
            yield Problem(where, f"alias *{event.anchor}", "no anchors and aliases", "write the value out")
        if getattr(event, "tag", None) not in (None, "!"):
            yield Problem(where, f"tag {event.tag}", "no tags")
        documents += kind == "DocumentStartEvent"
        depth += kind.endswith(("MappingStartEvent", "SequenceStartEvent"))
        depth -= kind.endswith(("MappingEndEvent", "SequenceEndEvent"))
        if depth > MAX_DEPTH:
            yield Problem(where, f"more than {MAX_DEPTH} levels", f"at most {MAX_DEPTH} levels")
            return
    if documents > 1:
        yield Problem(source, f"{documents} documents", "one document", "remove the line ---")


def _yaml_problem(error: Exception, source: str) -> Problem:
    mark = getattr(error, "problem_mark", None)
    where = f"{source}:{mark.line + 1}" if mark is not None else source
    text = str(getattr(error, "problem", None) or error).splitlines()[0]
    if "duplicate key" in text:
        return Problem(where, text.split(" with value")[0].removeprefix("found "), "each key once")
    return Problem(where, text, "YAML 1.2")


def _value_problems(value: Any, field: str) -> Iterator[Problem]:
    if isinstance(value, dict):
        for key, entry in value.items():
            if not isinstance(key, str):
                yield Problem(field or "recipe", f"key {key!r}", "keys that are text")
                continue
            yield from _value_problems(entry, f"{field}.{key}" if field else key)
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _value_problems(entry, f"{field}.{index}")
    elif isinstance(value, float) and not math.isfinite(value):
        yield Problem(field, str(value), "a finite number")
    elif value is not None and not isinstance(value, str | int | float | bool):
        yield Problem(field, f"a {type(value).__name__}", "text, number, true, false, null, list, mapping", "quote it")
