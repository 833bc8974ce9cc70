"""A tiny policy and examples for it."""

import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from burnish.data import seeding
from burnish.data.records import Example, Reference
from burnish.policies.families import FAMILIES, Family
from burnish.policies.snapshot import new_policy
from burnish.policies.tiny import TinyConfig, TinyPolicy, build_transformer


def drawn(shape: tuple[int, ...], *key: str) -> np.ndarray:
    return seeding.generator(0, "test-image", *key).uniform(0, 1, shape).astype(np.float32)


def make_example(name: str = "a", *, references: int = 1, size: int = 24, corner: int = 4) -> Example:
    mask = np.zeros((1, size, size), np.float32)
    mask[:, corner : corner + 12, corner : corner + 12] = 1
    shown = tuple(Reference("detail", drawn((3, 12, 12), name, str(k))) for k in range(references))
    image, target = drawn((3, size, size), name, "image"), drawn((3, size, size), name, "target")
    return Example(name, "Restore the detail.", image, mask, shown, target)


@pytest.fixture(scope="session")
def example() -> Callable[..., Example]:
    """Maker of examples with noise for pictures."""
    return make_example


@pytest.fixture
def policy() -> TinyPolicy:
    """A fresh tiny policy."""
    return new_policy(TinyConfig(num_layers=1, num_single_layers=1))


@pytest.fixture(scope="session")
def pipelines() -> ModuleType:
    """The module `pipelines.py` beside this file."""
    spec = importlib.util.spec_from_file_location("policy_pipelines", Path(__file__).parent / "pipelines.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def worded(monkeypatch: pytest.MonkeyPatch) -> type:
    """The family of docs/extending/policies.md, defined and named in the table."""
    page = (Path(__file__).parents[2] / "docs" / "extending" / "policies.md").read_text()
    names: dict[str, Any] = {"__name__": "worded"}
    exec(compile(re.search(r"```python\n(.*?)```", page, re.DOTALL).group(1), "worded.py", "exec"), names)
    row = re.search(r"```text\n +\"worded\": (.*),\n```", page).group(1)
    monkeypatch.setitem(
        FAMILIES, "worded", eval(row, {**names, "Family": Family, "build_transformer": build_transformer})
    )
    return names["WordedPolicy"]
