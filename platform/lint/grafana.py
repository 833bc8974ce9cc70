"""A dashboard of Grafana: panels that do not cover each other, over metrics that exist, from a chosen data source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from burnish.data.errors import Problem
from burnish.platform.lint.documents import Document, entries, mapping, under
from burnish.platform.lint.promql import expression_problems
from burnish.platform.lint.schema import shape_problems

COLUMNS = 24


def dashboard_problems(document: Document) -> Iterator[Problem]:
    """Problems of a dashboard as Grafana exports and imports it."""
    tree = document.tree
    yield from shape_problems(tree, "monitoring", "dashboard")
    if tree.get("id") is not None:
        yield Problem("id", str(tree["id"]), "null or nothing", "it is the number in somebody's Grafana")
    sources = [v.get("name") for _, v in entries(tree, "templating", "list") if v.get("type") == "datasource"]
    if not sources:
        yield Problem(
            "templating.list", "no variable of type datasource", "one, so that the dashboard fits any Grafana"
        )
    panels = entries(tree, "panels")
    ids: set[Any] = set()
    for index, panel in panels:
        place = f"panels.{index}"
        if panel.get("id") in ids:
            yield Problem(f"{place}.id", str(panel.get("id")), "a number that no other panel has")
        ids.add(panel.get("id"))
        yield from under(place, _panel(panel, {f"${{{name}}}" for name in sources} | {f"${name}" for name in sources}))
    yield from _covered([(index, mapping(panel, "gridPos")) for index, panel in panels])


def _panel(panel: Mapping[str, Any], sources: set[str]) -> Iterator[Problem]:
    if panel.get("type") != "row" and not panel.get("description"):
        yield Problem("description", "nothing", "a sentence that says how to read it")
    for index, target in entries(panel, "targets"):
        uid = mapping(target, "datasource").get("uid", mapping(panel, "datasource").get("uid"))
        if uid not in sources:
            yield Problem(f"targets.{index}.datasource.uid", repr(uid), ", ".join(sorted(sources)) or "a variable")
        if isinstance(target.get("expr"), str):
            yield from under(f"targets.{index}.expr", expression_problems(target["expr"]))


def _covered(places: list[tuple[int, Mapping[str, Any]]]) -> Iterator[Problem]:
    boxes = [(i, p["x"], p["y"], p["w"], p["h"]) for i, p in places if {"x", "y", "w", "h"} <= p.keys()]
    for number, (index, x, y, w, h) in enumerate(boxes):
        if x + w > COLUMNS:
            yield Problem(f"panels.{index}.gridPos", f"x {x} and w {w}", f"at most {COLUMNS} columns")
        for other, left, top, wide, high in boxes[:number]:
            if x < left + wide and left < x + w and y < top + high and top < y + h:
                yield Problem(f"panels.{index}.gridPos", f"over panel {other}", "a place of its own")
