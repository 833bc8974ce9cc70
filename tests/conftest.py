"""Fixtures of the whole suite."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

torch.set_num_threads(1)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two processes for the whole fast suite; none for a part of it, nor for slow tests, which want the machine."""
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    return 2 if whole and config.option.markexpr == "not slow" else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests share a process, as do all tests on Ray: there is one cluster."""
    for item in items:
        group = "ray" if item.get_closest_marker("ray") else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def worked() -> Callable[[str], tuple[dict[str, Any], dict[str, Any]]]:
    """Numeric examples of the papers' formulas, by name: (inputs, expected)."""
    entries = json.loads((Path(__file__).parent / "worked_examples.json").read_text())
    table = {entry["name"]: (entry["inputs"], entry["expected"]) for entry in entries}
    return table.__getitem__


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny pipelines of the real families, on disk."""
    from burnish.policies.tiny_models import make_tiny_models

    folder = tmp_path_factory.mktemp("models")
    make_tiny_models(folder)
    return folder
