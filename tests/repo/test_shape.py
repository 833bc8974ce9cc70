"""Sizes, names and words of the code: what CONTRIBUTING.md asks for."""

import ast
import statistics
import sys
from pathlib import Path

FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef


def functions(module):
    return [node for node in ast.walk(module.tree) if isinstance(node, FUNCTION)]


def lines(node):
    return node.end_lineno - node.lineno + 1


def public(node, *, top=True):
    """Functions and methods that a reader may call: no leading underscore on them or on their class."""
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.ClassDef) and not inner.name.startswith("_"):
            yield from public(inner)
        elif isinstance(inner, FUNCTION) and not inner.name.startswith("_"):
            yield inner


def test_a_file_fits_in_a_head(files):
    assert [str(p) for p in files if p.suffix == ".py" and len(p.read_text().splitlines()) > 300] == []


def test_a_function_fits_on_a_screen(modules):
    sizes = {f"{m.path}:{f.lineno} {f.name}": lines(f) for m in modules for f in functions(m)}
    assert [name for name, size in sizes.items() if size > 60] == []
    assert statistics.median(sizes.values()) <= 12


def test_a_test_fits_in_20_lines(files):
    trees = {p: ast.parse(p.read_text()) for p in files if p.name.startswith("test_") and p.suffix == ".py"}
    tests = [(p, n) for p, tree in trees.items() for n in ast.walk(tree) if isinstance(n, FUNCTION)]
    assert [f"{p}:{n.name}" for p, n in tests if n.name.startswith("test_") and lines(n) > 20] == []


def test_public_functions_have_docstrings(modules):
    found = {f"{m.path}:{f.lineno} {f.name}": ast.get_docstring(f) for m in modules for f in public(m.tree)}
    without = [name for name, words in found.items() if not words]
    assert len(without) <= 0.1 * len(found), without


def test_every_function_says_what_it_returns(modules):
    assert [f"{m.path}:{f.lineno} {f.name}" for m in modules for f in functions(m) if f.returns is None] == []


def test_no_module_bears_a_standard_name(modules):
    assert [m.path for m in modules if Path(m.path).stem in sys.stdlib_module_names] == []


def test_root_folders_hold_no_init_file(root):
    assert [str(path) for path in root.glob("*/__init__.py")] == []


def test_everything_is_caught_only_where_requests_and_runs_must_go_on(modules):
    handlers = [(m, n) for m in modules for n in ast.walk(m.tree) if isinstance(n, ast.ExceptHandler)]
    broad = [
        (m, n) for m, n in handlers if n.type is None or "Exception" in ast.unparse(n.type).replace(",", " ").split()
    ]
    broad += [(m, n) for m, n in handlers if n.type is not None and "BaseException" in ast.unparse(n.type)]
    assert [f"{m.path}:{n.lineno}" for m, n in broad if m.room not in ("platform", "serve")] == []


def test_nothing_is_patched_by_mock(files):
    word = "mock" + ".patch"
    assert [str(p) for p in files if p.suffix == ".py" and word in p.read_text()] == []


def test_random_numbers_are_drawn_in_one_place(modules):
    forbidden = (
        "torch.manual_seed",
        "torch.Generator",
        "torch.randn",
        "torch.rand",
        "random.default_rng",
        "np.random.seed",
    )
    calls = [(m, ast.unparse(n.func)) for m in modules for n in ast.walk(m.tree) if isinstance(n, ast.Call)]
    found = [f"{m.path}: {name}" for m, name in calls if name.endswith(forbidden) and m.path != "data/seeding.py"]
    assert found == [] and [m.path for m in modules if "random" in m.imports()] == []
