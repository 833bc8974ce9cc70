"""A declarative config of Ray Serve, which Serve itself accepts with unknown keys in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from burnish.data.errors import Problem
from burnish.platform.lint.documents import Document, entries, mapping
from burnish.platform.lint.schema import shape_problems


def serve_file_problems(document: Document) -> Iterator[Problem]:
    """Problems of a file that `serve deploy` would take."""
    yield from serve_problems(document.tree)


def serve_problems(tree: Mapping[str, Any]) -> Iterator[Problem]:
    """Problems of a Serve config: its shape, then names, routes and bounds."""
    yield from shape_problems(tree, "serve", "serve")
    for key in ("name", "route_prefix"):
        seen: set[Any] = set()
        for index, app in entries(tree, "applications"):
            value = app.get(key)
            if value is not None and value in seen:
                yield Problem(f"applications.{index}.{key}", repr(value), f"a {key} that no other application has")
            seen.add(value)
    for index, app in entries(tree, "applications"):
        for number, deployment in entries(app, "deployments"):
            bounds = mapping(deployment, "autoscaling_config")
            low, high = bounds.get("min_replicas", 1), bounds.get("max_replicas", 1)
            if isinstance(low, int) and isinstance(high, int) and low > high:
                field = f"applications.{index}.deployments.{number}.autoscaling_config.min_replicas"
                yield Problem(field, str(low), f"<= {high}, max_replicas")
