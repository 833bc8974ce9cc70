"""Examples in docstrings are right. pytest's own collection would import a second copy of namespace folders."""

import doctest
import importlib
from pathlib import Path


def test_every_example_in_a_docstring_runs(modules, root):
    for module in modules:
        if ">>> " in (root / module.path).read_text():
            loaded = importlib.import_module(f"burnish.{module.room}.{Path(module.path).stem}")
            assert doctest.testmod(loaded).failed == 0, module.path
