"""Dotted overrides on the command line: `--grpo.iterations 4` changes the recipe before it is validated.

Called by the command line (splitting) and `config.py` (applying). Values go through the recipe's own YAML loader. Lists
are replaced as a whole.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

from burnish.data.errors import ConfigError, Problem
from burnish.platform.lookup import read_value

_DOTTED = re.compile(r"--([A-Za-z_][\w-]*(?:\.[\w-]+)+)(?:=(.*))?", re.DOTALL)

Override = tuple[str, str]
"""(dotted field, value as YAML text)."""


def split_overrides(argv: Sequence[str]) -> tuple[list[str], list[Override]]:
    """Part `--a.b value` and `--a.b=value` from the options that the command line declares itself.

    What follows a bare `--` is left alone.

    Returns:
        (the other arguments in order, the overrides in order).

    Raises:
        ConfigError: an override without a value; all of them are listed.
    """
    rest: list[str] = []
    found: list[Override] = []
    problems: list[Problem] = []
    tokens = list(argv)
    while tokens:
        token = tokens.pop(0)
        match = _DOTTED.fullmatch(token)
        if token == "--":
            return [*rest, token, *tokens], found
        if match is None:
            rest.append(token)
        elif match[2] is not None:
            found.append((match[1], match[2]))
        elif tokens and not tokens[0].startswith("--"):
            found.append((match[1], tokens.pop(0)))
        else:
            problems.append(Problem(match[1], "no value", f"--{match[1]} VALUE or --{match[1]}=VALUE"))
    if problems:
        raise ConfigError("override refused", problems)
    return rest, found


def apply_overrides(tree: dict[str, Any], overrides: Sequence[Override]) -> dict[str, Any]:
    """A copy of `tree` with the overrides set, later ones winning; unknown keys are left for the models to refuse.

    Raises:
        ConfigError: a value that is no YAML, or a path that leads through a value; all of them are listed.
    """
    result = copy.deepcopy(tree)
    problems: list[Problem] = []
    for field, text in overrides:
        try:
            _set(result, field, read_value(text, field=field))
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError("override refused", problems)
    return result


def _set(tree: dict[str, Any], field: str, value: Any) -> None:
    *parents, leaf = field.split(".")
    node = tree
    for depth, name in enumerate(parents):
        inner = node.get(name)
        if inner is None:
            inner = node[name] = {}
        if not isinstance(inner, dict):
            path = ".".join(parents[: depth + 1])
            kind = "a list" if isinstance(inner, list) else repr(inner)
            hint = f"lists are replaced as a whole: --{path} '[…]'" if isinstance(inner, list) else f"set --{path}"
            problem = Problem(field, f"{path} is {kind}", "a path through mappings", hint)
            raise ConfigError("override refused", [problem])
        node = inner
    node[leaf] = value
