"""What the tests of the repository read: its files, and its code as syntax trees."""

import ast
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("data", "policies", "rewards", "learners", "rollouts", "serve", "platform")
LEFT = re.compile(
    r"(^|/)(__pycache__|\.venv|\.typing|\.\w+_cache|runs|build|dist|[^/]*\.egg-info)/|\.pyc$|uv\.lock$|\.db$"
)
"""What tests, builds and runs leave behind."""


@dataclass(frozen=True, eq=False)
class Module:
    """One Python file of a room: room, path from the root, syntax tree."""

    room: str
    path: str
    tree: ast.Module

    def imports(self, *, top_only: bool = False) -> list[str]:
        """Dotted names that it imports; relative ones are resolved. `top_only`: what runs when it is imported."""
        nodes = _executed(self.tree) if top_only else ast.walk(self.tree)
        names = [alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names]
        nodes = _executed(self.tree) if top_only else ast.walk(self.tree)
        return names + [self._from(n, a) for n in nodes if isinstance(n, ast.ImportFrom) for a in n.names]

    def _from(self, node: ast.ImportFrom, alias: ast.alias) -> str:
        package = ["burnish", self.room][: 3 - node.level] if node.level else []
        return ".".join([*package, *filter(None, [node.module]), alias.name])


def _executed(tree):
    """Nodes outside functions and outside `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        skip = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if skip or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            continue
        yield node
        yield from _executed(node)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def module():
    """Make a Module of a piece of code, to see a check bite."""
    return lambda room, code: Module(room, f"{room}/planted.py", ast.parse(code))


@pytest.fixture(scope="session")
def modules() -> tuple[Module, ...]:
    """All Python files of all rooms."""
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    return tuple(
        Module(p.relative_to(ROOT).parts[0], str(p.relative_to(ROOT)), ast.parse(p.read_text())) for p in paths
    )


@pytest.fixture(scope="session")
def files() -> tuple[Path, ...]:
    """Every file that belongs to the repository: tracked, or new and not ignored; without git, all but what is left."""
    if not (ROOT / ".git").exists():
        found = sorted(path for path in ROOT.rglob("*") if path.is_file())
        return tuple(p for p in found if not LEFT.search(p.relative_to(ROOT).as_posix()))
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return tuple(path for name in sorted(listed.split("\0")) if name and (path := ROOT / name).is_file())


@pytest.fixture(scope="session")
def snippets(files) -> tuple[tuple[str, str, str], ...]:
    """Every fenced block of README, CONTRIBUTING and docs: (file:line, language, text)."""
    found = []
    for path in (p for p in files if p.suffix == ".md" and "benchmarks" not in p.parts):
        text = path.read_text()
        for block in re.finditer(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            line = text[: block.start()].count("\n") + 1
            found.append((f"{path.relative_to(ROOT)}:{line}", block[1], block[2]))
    return tuple(found)
