"""Who may import whom. The table of docs/architecture.md, held here."""

import re
import sys
import tomllib

import pytest

TABLE = {
    "data": set(),
    "policies": {"data"},
    "rewards": {"data"},
    "learners": {"data", "policies"},
    "rollouts": {"data", "policies", "rewards"},
    "serve": {"data", "policies", "rewards"},
    "platform": {"data", "policies", "rewards", "learners", "rollouts", "serve"},
}
HEAVY = {
    "diffusers",
    "transformers",
    "deepspeed",
    "peft",
    "mlflow",
    "open_clip",
    "dreamsim",
    "skimage",
    "sklearn",
    "scipy",
}
SERVE = "ray.serve"
"""The one part of Ray that may stand outside platform/, in serve/."""
RAY_AT_THE_TOP = {
    "platform/actors.py",
    "platform/calls.py",
    "platform/cluster.py",
    "platform/crew.py",
    "serve/deploy.py",
}
"""Imported only where a Ray runs: inside functions, or by a declarative Serve config."""


def back_edges(module):
    """Imports of a module that the table forbids, and imports of a room by its folder's bare name."""
    for name in module.imports():
        parts = name.split(".")
        if parts[0] == "burnish":
            if len(parts) < 3 or parts[1] not in {module.room} | TABLE[module.room]:
                yield f"{module.path}: {name}"
        elif parts[0] in TABLE and parts[0] not in sys.stdlib_module_names:
            yield f"{module.path}: {name} (write burnish.{name})"


def misplaced_packages(module):
    """Ray where it does not belong, and heavy packages that an import of the module would pull in."""
    for name in set(module.imports()):
        served = name == SERVE or name.startswith(f"{SERVE}.")
        if name.split(".")[0] == "ray" and module.room != ("serve" if served else "platform"):
            yield f"{module.path}: {name}"
    for package in {name.split(".")[0] for name in module.imports(top_only=True)}:
        if package in HEAVY or (package == "ray" and module.path not in RAY_AT_THE_TOP):
            yield f"{module.path}: {package} at the top"


def test_imports_go_one_way(modules):
    assert [edge for module in modules for edge in back_edges(module)] == []


def test_ray_and_heavy_packages_stay_where_they_belong(modules):
    assert [found for module in modules for found in misplaced_packages(module)] == []


@pytest.mark.parametrize(
    ("room", "code"),
    [
        ("data", "from burnish.policies.tiny import TinyConfig"),
        ("data", "from ..policies.tiny import TinyConfig"),
        ("rewards", "def score():\n    import burnish.rollouts.metrics"),
        ("learners", "from policies.tiny import TinyConfig"),
        ("policies", "from .. import rewards"),
    ],
)
def test_a_planted_back_edge_is_found(module, room, code):
    assert list(back_edges(module(room, code)))


@pytest.mark.parametrize("code", ["def f():\n    import ray", "import peft", "class A:\n    import deepspeed.ops"])
def test_a_planted_package_is_found(module, code):
    assert list(misplaced_packages(module("rollouts", code)))


def test_rooms_are_the_folders_that_are_installed(modules, root):
    mapped = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
    assert {module.room for module in modules} == set(TABLE)
    assert mapped == {f"burnish.{name}": name for name in (*TABLE, "recipes", "clusters")}


def test_the_table_in_the_document_is_this_one(root):
    text = (root / "docs" / "architecture.md").read_text()
    rows = {m[1]: m[2] for m in re.finditer(r"^\| `(\w+)/` \|.*\| ([a-z, ]+) \|$", text, re.MULTILINE)}
    words = {"nothing": set(), "all": set(TABLE) - {"platform"}}
    assert {room: words.get(names, set(names.split(", "))) for room, names in rows.items()} == TABLE
