"""A rule file of Prometheus: its shape, and expressions over metrics that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from burnish.data.errors import Problem
from burnish.platform.lint.documents import Document, entries, under
from burnish.platform.lint.promql import expression_problems
from burnish.platform.lint.schema import shape_problems

SEVERITIES = ("critical", "warning", "info")


def rule_problems(document: Document) -> Iterator[Problem]:
    """Problems of a rule file."""
    tree = document.tree
    yield from shape_problems(tree, "monitoring", "rules")
    rules = [(f"groups.{i}.rules.{j}", r) for i, g in entries(tree, "groups") for j, r in entries(g, "rules")]
    recorded = {str(rule["record"]): _labels(rule) for _, rule in rules if "record" in rule}
    seen: set[str] = set()
    for place, rule in rules:
        if ("record" in rule) == ("alert" in rule):
            yield Problem(place, "both or neither of record and alert", "one of record and alert")
        name = str(rule.get("record", rule.get("alert")))
        if name in seen:
            yield Problem(place, name, "a name that no other rule has")
        seen.add(name)
        if isinstance(rule.get("expr"), str):
            yield from under(f"{place}.expr", expression_problems(rule["expr"], recorded=recorded))
        if "alert" in rule:
            yield from under(place, _alert(rule))


def _labels(rule: Mapping[str, Any]) -> set[str]:
    """Labels that an aggregation leaves."""
    found = re.findall(r"\bby\s*\(([^()]*)\)", str(rule.get("expr", "")))
    return {name.strip() for part in found for name in part.split(",")}


def _alert(rule: Mapping[str, Any]) -> Iterator[Problem]:
    labels, notes = rule.get("labels") or {}, rule.get("annotations") or {}
    if labels.get("severity") not in SEVERITIES:
        yield Problem("labels.severity", repr(labels.get("severity")), ", ".join(SEVERITIES))
    for name in ("summary", "runbook_url"):
        if not notes.get(name):
            yield Problem(f"annotations.{name}", "nothing", "text", "whoever is woken reads it")
