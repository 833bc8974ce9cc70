"""Values that only the user knows: image digests, names of their cluster. A file names them `${BURNISH_…}`.

Called by `files.py`. An unset value is a problem where it is needed; a set one must look like what it is, so that it
can stand in YAML, a Dockerfile or a script without quoting. No value has a default.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from burnish.data.errors import ConfigError, Problem
from burnish.platform.lookup import did_you_mean

PLACE = re.compile(r"\$\{(BURNISH_[A-Z_]+)\}")
_LINE = re.compile(r"([A-Za-z_]\w*)=(.*)")
_NAMESPACE = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DIGEST = r"[a-z0-9][\w./:-]*@sha256:[0-9a-f]{64}"


@dataclass(frozen=True)
class Value:
    """What a value looks like: a pattern of the whole, and words for it."""

    pattern: str
    allowed: str


VALUES: dict[str, Value] = {
    "BURNISH_IMAGE": Value(_DIGEST, "registry/name@sha256:<64 hex digits>"),
    "BURNISH_BASE_IMAGE": Value(_DIGEST, "name@sha256:<64 hex digits>"),
    "BURNISH_RECIPE": Value(r"[\w./-]+", "name of a recipe or path of a recipe file"),
    "BURNISH_STORAGE_CLASS": Value(r"[a-z0-9][a-z0-9.-]*", "a storage class with ReadWriteMany volumes"),
    "BURNISH_SPOT_LABEL": Value(r"([a-z0-9.-]+/)?[\w.-]+", "key of the node label that marks spot nodes"),
    "BURNISH_SPOT_VALUE": Value(r"[\w.-]+", "value of that label"),
    "BURNISH_MONITORING_NAMESPACE": Value(_NAMESPACE, "name of the namespace in which Prometheus runs"),
    "BURNISH_CLIENT_NAMESPACE": Value(_NAMESPACE, "name of the namespace from which the server is called"),
    "BURNISH_HOST": Value(r"[a-zA-Z0-9.-]+(:\d+)?", "host name, with its port where it is not the usual one"),
    "BURNISH_REGION": Value(r"[a-z]{2}(-[a-z]+)+-\d", "an AWS region"),
    "BURNISH_AMI": Value(r"ami-[0-9a-f]+", "id of a machine image"),
    "BURNISH_FILE_SYSTEM": Value(r"fs-[0-9a-f]+", "id of an EFS file system"),
    "BURNISH_SECURITY_GROUP": Value(r"sg-[0-9a-f]+", "id of a security group"),
}


def is_unset(text: str) -> bool:
    """True where a value is still missing; other checks leave such text alone."""
    return PLACE.search(text) is not None


def collect(file: Path | None, settings: Iterable[str]) -> dict[str, str]:
    """Name -> value from a file of NAME=VALUE lines and from `--set`, which wins. Empty values are unset.

    Raises:
        ConfigError: an unreadable file, a line that is none, an unknown name, a value that does not look like one.
    """
    lines = [(f"--set {text}", text) for text in settings]
    if file is not None:
        try:
            found = [(f"{file}:{n}", line) for n, line in enumerate(file.read_text("utf-8").splitlines(), start=1)]
        except (OSError, UnicodeDecodeError) as error:
            problem = Problem("--values", str(error), "a readable file of NAME=VALUE lines")
            raise ConfigError("values refused", [problem]) from error
        lines = [*found, *lines]
    values: dict[str, str] = {}
    problems: list[Problem] = []
    for where, line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            problems.append(Problem(where, line.strip(), "NAME=VALUE"))
        elif match[1] not in VALUES:
            hint = did_you_mean(match[1], VALUES)
            problems.append(Problem(where, match[1], ", ".join(VALUES), hint))
        elif match[2]:
            problems += _misfit(where, match[1], match[2])
            values[match[1]] = match[2]
    if problems:
        raise ConfigError("values refused", problems)
    return values


def _misfit(where: str, name: str, text: str) -> list[Problem]:
    if re.fullmatch(VALUES[name].pattern, text, re.ASCII):
        return []
    return [Problem(f"{where}: {name}", repr(text), VALUES[name].allowed)]


def fill(text: str, values: Mapping[str, str]) -> str:
    """The text with every set value in its place."""
    return PLACE.sub(lambda match: values.get(match[1], match[0]), text)


def unset(text: str) -> Iterator[Problem]:
    """A problem for each value that is missing, at its first line; comments do not count."""
    seen: set[str] = set()
    for number, line in enumerate(text.splitlines(), start=1):
        for name in PLACE.findall("" if line.lstrip().startswith("#") else line):
            if name in seen:
                continue
            seen.add(name)
            known = VALUES.get(name)
            allowed = known.allowed if known else ", ".join(VALUES)
            hint = f"--set {name}=… or a line in --values FILE" if known else did_you_mean(name, VALUES)
            yield Problem(f"line {number}", f"{name} unset" if known else f"unknown {name}", allowed, hint)
