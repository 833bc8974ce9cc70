"""Dependencies: pinned, above the known holes, declared where used and used where declared."""

import re
import sys
import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

FLOORS = {"ray": "2.54", "torch": "2.10", "diffusers": "0.38", "mlflow": "3.17.2", "urllib3": "2.7"}
IMPORT_NAMES = {
    "pillow": "PIL",
    "open_clip_torch": "open_clip",
    "ruamel.yaml": "ruamel",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
}
BY_DESIGN = {
    "python-multipart": "starlette's forms need it",
    "scikit-learn": "its bundled photographs are read by path",
}


@pytest.fixture(scope="module")
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def pins(root):
    lines = (root / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_uv_and_pip_are_held_to_the_same_set(project, pins):
    assert project["tool"]["uv"]["constraint-dependencies"] == pins


def test_pins_are_names_and_versions_only_and_sorted(pins):
    assert [pin for pin in pins if not re.fullmatch(r"[a-z0-9.-]+==[0-9][0-9a-z.+!]*", pin)] == []
    names = [pin.split("==")[0] for pin in pins]
    assert names == sorted(set(names))


def test_every_package_of_this_project_is_pinned(project, pins):
    """Follows what is installed from burnish on: each package that a requirement reaches has its line."""
    pinned = {pin.split("==")[0] for pin in pins}
    reached, waiting = set(), ["burnish"]
    while waiting:
        name = waiting.pop()
        extra = {"burnish": "test", "ray": "serve"}.get(name, "")
        for requirement in map(Requirement, metadata.requires(name) or []):
            canonical = re.sub(r"[-_.]+", "-", requirement.name).lower()
            if canonical in reached or (requirement.marker and not requirement.marker.evaluate({"extra": extra})):
                continue
            reached.add(canonical)
            waiting.append(canonical)
    assert sorted(reached - pinned) == []


def test_floors_and_pins_are_above_the_known_holes(project, pins):
    wanted = {r.name: r for r in map(Requirement, project["project"]["dependencies"])}
    pinned = dict(pin.split("==") for pin in pins)
    for name, floor in FLOORS.items():
        (least,) = [s.version for s in wanted[name].specifier if s.operator == ">="]
        assert Version(least) >= Version(floor) and Version(pinned[name]) >= Version(least), name


def test_what_is_imported_is_declared_and_what_is_declared_is_imported(project, modules):
    declared = {Requirement(text).name for text in project["project"]["dependencies"]}
    names = {IMPORT_NAMES.get(name, name.replace("-", "_")): name for name in declared}
    used = {name.split(".")[0] for module in modules for name in module.imports()}
    outside = used - set(sys.stdlib_module_names) - {"burnish"}
    assert sorted(outside - set(names)) == []
    assert {names[name] for name in set(names) - outside} == set(BY_DESIGN)


def test_the_lock_file_with_its_addresses_stays_out(root, files):
    assert "uv.lock" in (root / ".gitignore").read_text().split()
    assert root / "uv.lock" not in files
