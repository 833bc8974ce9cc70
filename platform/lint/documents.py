"""A file that is checked, and how its kind is told. Called by `files.py` and by the checks; it knows no rule.

A check is a function from a document to problems whose fields are paths inside the file; `files.py` puts the file's own
path before them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from burnish.data.errors import ConfigError, Problem
from burnish.platform.lookup import read_yaml


@dataclass(frozen=True)
class Document:
    """One file, its values filled in.

    Args:
        path: where it lies.
        text: its text.
        tree: what it holds, where it is YAML or JSON; empty where it is neither.
    """

    path: Path
    text: str
    tree: Mapping[str, Any] = field(default_factory=dict)


def parse(text: str, *, source: str) -> tuple[dict[str, Any], list[Problem]]:
    """(tree, problems) of a YAML or JSON document; one that cannot be read is empty and has problems."""
    try:
        return read_yaml(text, source=source), []
    except ConfigError as error:
        return {}, list(error.problems)


def under(prefix: str, problems: Iterable[Problem]) -> Iterator[Problem]:
    """The problems of a part, with its place before their fields."""
    for problem in problems:
        yield replace(problem, field=join(prefix, problem.field))


def join(prefix: str, name: str) -> str:
    """Two parts of a dotted path."""
    return f"{prefix}.{name}" if prefix and name else prefix or name


def mapping(tree: Any, *path: str) -> Mapping[str, Any]:
    """The mapping at a path; empty where something else or nothing is there: the schema has spoken of it."""
    for name in path:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree if isinstance(tree, Mapping) else {}


def entries(tree: Any, *path: str) -> list[tuple[int, Mapping[str, Any]]]:
    """(index, mapping) of the list at a path; empty where something else or nothing is there."""
    found = mapping(tree, *path[:-1]).get(path[-1])
    return [(i, e) for i, e in enumerate(found) if isinstance(e, Mapping)] if isinstance(found, list) else []
