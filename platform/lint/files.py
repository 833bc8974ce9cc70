"""`burnish lint`: the files under a path, each checked by what it is, all problems at once.

Called by the command line. It changes nothing; with `write` the checked files are written elsewhere, values filled in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from burnish.data.errors import ConfigError, Problem
from burnish.platform.lint.dockerfile import dockerfile_problems
from burnish.platform.lint.documents import Document, parse
from burnish.platform.lint.grafana import dashboard_problems
from burnish.platform.lint.kubernetes import kubernetes_problems
from burnish.platform.lint.prometheus import rule_problems
from burnish.platform.lint.ray_up import ray_up_problems
from burnish.platform.lint.serve_config import serve_file_problems
from burnish.platform.lint.slurm import slurm_problems
from burnish.platform.lint.values import fill, unset
from burnish.platform.runs import write_text

LARGEST = 2 << 20
SUFFIXES = {".yaml", ".yml", ".json", ".sbatch"}
_SKIPPED = {".git", ".venv", "node_modules", "__pycache__"}


@dataclass(frozen=True)
class Kind:
    """A kind of file: its name, how it is told, and its check."""

    name: str
    is_one: Callable[[Document], bool]
    problems: Callable[[Document], Iterator[Problem]]


KINDS = (
    Kind("Dockerfile", lambda d: "Dockerfile" in d.path.name, dockerfile_problems),
    Kind("Slurm script", lambda d: d.path.suffix == ".sbatch", slurm_problems),
    Kind("Kubernetes object", lambda d: "kind" in d.tree or "apiVersion" in d.tree, kubernetes_problems),
    Kind("ray up cluster", lambda d: "cluster_name" in d.tree or "available_node_types" in d.tree, ray_up_problems),
    Kind("Prometheus rules", lambda d: "groups" in d.tree, rule_problems),
    Kind("Serve config", lambda d: "applications" in d.tree, serve_file_problems),
    Kind("Grafana dashboard", lambda d: "panels" in d.tree, dashboard_problems),
)


@dataclass(frozen=True)
class Checked:
    """A file that was checked: path, name of its kind, its text with the values filled in."""

    path: Path
    kind: str
    text: str


def lint(path: Path, values: Mapping[str, str]) -> list[Checked]:
    """Check a file, or every file under a directory that looks like one of `KINDS`.

    Raises:
        ConfigError: every problem of every file: `path: field`, got, allowed, hint; or there is nothing to check.
    """
    paths = list(_files(path))
    if not paths:
        allowed = f"a file, or a directory with {', '.join(sorted(SUFFIXES))} or a Dockerfile"
        raise ConfigError("nothing to check", [Problem("PATH", str(path), allowed)])
    checked: list[Checked] = []
    problems: list[Problem] = []
    for each in paths:
        done, found = _check(each, values)
        checked += done
        problems += (Problem(f"{each}: {p.field}".rstrip(": "), p.got, p.allowed, p.hint) for p in found)
    if problems:
        raise ConfigError(f"files refused: {len(problems)} problems, {len(paths)} files checked", problems)
    return checked


def write(checked: list[Checked], root: Path, to: Path) -> None:
    """Write checked files to a new directory, in their places below `root`.

    Raises:
        ConfigError: the directory exists.
    """
    if to.exists():
        raise ConfigError("not written", [Problem("--write", str(to), "a directory that does not exist")])
    for file in checked:
        target = to / (file.path.relative_to(root) if root.is_dir() else file.path.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, file.text)


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for found in sorted(path.rglob("*")):
        wanted = found.suffix in SUFFIXES or found.name.startswith("Dockerfile") or found.suffix == ".Dockerfile"
        if wanted and found.is_file() and not _SKIPPED & set(found.relative_to(path).parts):
            yield found


def _check(path: Path, values: Mapping[str, str]) -> tuple[list[Checked], list[Problem]]:
    try:
        raw = path.read_bytes()
        if len(raw) > LARGEST:
            return [], [Problem("", f"{len(raw)} bytes", f"at most {LARGEST}")]
        text = fill(raw.decode("utf-8"), values)
    except (OSError, UnicodeDecodeError) as error:
        return [], [Problem("", str(error), "a readable file of UTF-8 text")]
    tree, broken = parse(text, source="") if path.suffix in (".yaml", ".yml", ".json") else ({}, [])
    missing = list(unset(text))
    if broken:
        lines = (replace(p, field=re.sub(r"^:(\d+)", r"line \1", p.field)) for p in broken)
        return [], [*missing, *lines]
    document = Document(path, text, tree)
    kind = next((kind for kind in KINDS if kind.is_one(document)), None)
    if kind is None:
        return [], [Problem("", "an unknown kind of file", ", ".join(kind.name for kind in KINDS))]
    return [Checked(path, kind.name, text)], [*missing, *kind.problems(document)]
