"""The metrics and labels that a PromQL expression names. A reader of names, not a parser of the language.

It finds what goes wrong in practice: a metric nobody exports, a label it does not have, brackets left open.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from burnish.data.errors import Problem
from burnish.platform.lookup import did_you_mean
from burnish.platform.telemetry import exported_labels

RAY = ("ray_node_mem_used", "ray_node_mem_total", "ray_node_cpu_utilization", "ray_node_gpus_utilization")
"""Metrics of Ray itself that may be used; their labels are Ray's."""
SERVED = {
    "burnish_requests_total": {"route", "status"},
    "burnish_pictures_total": {"policy", "version"},
    "burnish_request_seconds_bucket": {"route", "le"},
    "burnish_request_seconds_count": {"route"},
    "burnish_request_seconds_sum": {"route"},
    "burnish_requests_in_work": set[str](),
    "burnish_version_changes_total": {"event"},
    "burnish_version_share": {"policy", "version"},
    "burnish_replayed_total": set[str](),
}
"""Metrics of the server's own `/metrics`."""
ADDED = {
    "instance",
    "job",
    "namespace",
    "pod",
    "cluster",
    "NodeAddress",
    "SessionName",
    "WorkerId",
    "Version",
    "Component",
}
"""Labels that Ray and Prometheus put on every series."""
_WORD = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_STRING = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'")
_LABELS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^()]*)\)")
_SELECTOR = re.compile(rf"({_WORD})\s*(\{{[^{{}}]*\}})?\s*(\(?)")
_KEYWORDS = "and or unless bool offset by without on ignoring group_left group_right inf nan start end"
_WORDS = frozenset(_KEYWORDS.split())
_PAIRS = {")": "(", "]": "[", "}": "{"}


def expression_problems(text: str, *, recorded: Mapping[str, set[str]] | None = None) -> Iterator[Problem]:
    """Problems of an expression.

    Args:
        text: PromQL; Grafana's `$variables` may stand in it.
        recorded: names that recording rules make -> their labels.
    """
    bare = _STRING.sub('""', re.sub(r"\$\{?\w+\}?", "1m", text))
    if not _balanced(bare):
        yield Problem("", text[:80], "brackets that are closed in order")
        return
    known = {**exported_labels(), **SERVED, **{name: set[str]() for name in RAY}, **(recorded or {})}
    grouped = {name.strip() for found in _LABELS.findall(bare) for name in found.split(",") if name.strip()}
    used: set[str] = set()
    for name, matchers in metric_names(bare):
        used.add(name)
        if name not in known:
            allowed = "a metric of burnish (docs/operations/monitoring.md) or a recorded name"
            yield Problem("", name, allowed, did_you_mean(name, known))
            continue
        for label in re.findall(rf"({_WORD})\s*(?:=~|!~|!=|=)", matchers):
            yield from _label(name, label, known)
    if used and used <= known.keys() and not used & set(RAY):
        for label in sorted(grouped):
            if all(list(_label(name, label, known)) for name in used):
                yield Problem("", f"label {label}", ", ".join(sorted(set().union(*(known[n] for n in used)))))


def metric_names(bare: str) -> Iterator[tuple[str, str]]:
    """(metric, its matchers) of an expression without strings: words that are no function, keyword, label or unit."""
    rest = re.sub(r"\[[^\]]*\]", "", _LABELS.sub(" ", bare))
    rest = re.sub(r"(?<![\w:])\d+(?:\.\d+)?(?:[eE][+-]?\d+|ms|[smhdwy])?(?![\w:])", " ", rest)
    for match in _SELECTOR.finditer(rest):
        name, matchers, call = match[1], match[2] or "", match[3]
        if name.lower() not in _WORDS and not (call and not matchers):
            yield name, matchers


def _label(name: str, label: str, known: Mapping[str, set[str]]) -> Iterator[Problem]:
    if name not in RAY and label not in known[name] | ADDED:
        yield Problem(
            "", f"{name} has no label {label}", ", ".join(sorted(known[name])), did_you_mean(label, known[name])
        )


def _balanced(text: str) -> bool:
    opened: list[str] = []
    for sign in text:
        if sign in _PAIRS.values():
            opened.append(sign)
        elif sign in _PAIRS and (not opened or opened.pop() != _PAIRS[sign]):
            return False
    return not opened
