"""Every snippet, link, test name and command of the documents is checked against the code."""

import ast
import importlib
import json
import re
import shlex

import pytest
import typer

from burnish.data.rows import FIELDS
from burnish.platform.cli import app
from burnish.platform.config import Recipe, load_recipe
from burnish.platform.lookup import read_recipe, read_yaml, recipe_path
from burnish.platform.overrides import split_overrides
from burnish.platform.validation import validate

LANGUAGES = {"bash", "python", "yaml", "json", "jsonl", "text"}
_PROGRAMS = "burnish cat cd export git kill make pip pytest python ray tail umask uv"
PROGRAMS = frozenset(_PROGRAMS.split())
WRAPPERS = (["uv", "run"], ["pip", "install", "uv", "&&", "uv", "run"])


def of(snippets, *languages):
    found = [(where, text) for where, language, text in snippets if language in languages]
    assert found
    return found


def commands(snippets):
    """(where, words) of every command line, without comments, `&&`, wrappers and environment settings."""
    for where, text in of(snippets, "bash"):
        for line in text.replace("\\\n", " ").splitlines():
            for part in shlex.join(shlex.split(line, comments=True)).replace("'&&'", "&&").split(" && "):
                words = shlex.split(part)
                words = words[2:] if words[:2] == ["uv", "run"] else words
                while words and re.match(r"[A-Z_]+=|--extra$|test$", words[0]):
                    words = words[1:]
                if words:
                    yield where, words


def check_burnish(where, words):
    """The command exists, takes these options, and a recipe takes these overrides."""
    rest, overrides = split_overrides(words)
    command, path = typer.main.get_command(app), "burnish"
    while rest and rest[0] in getattr(command, "commands", {}):
        command, path = command.commands[rest[0]], f"{path} {rest[0]}"
        rest = rest[1:]
    assert not hasattr(command, "commands") or rest in ([], ["--version"], ["--help"]), f"{where}: {words}"
    if not hasattr(command, "commands") and "--help" not in rest:
        context = command.make_context(path, [word for word in rest if word not in ("...", "…")])
        name = context.params.get("recipe") if path == "burnish train" else None
        load_recipe(name if name and not name.endswith(".yaml") else "tiny", overrides)


def test_every_fence_names_a_known_language(snippets):
    assert [where for where, language, _ in snippets if language not in LANGUAGES] == []


def test_every_command_exists_and_takes_its_options(snippets):
    for where, words in commands(snippets):
        assert words[0] in PROGRAMS, f"{where}: {words[0]}"
        if words[0] == "burnish":
            check_burnish(where, words[1:])


def test_every_make_target_and_module_exists(snippets, root):
    targets = re.findall(r"^(\w+):", (root / "Makefile").read_text(), re.MULTILINE)
    for where, words in commands(snippets):
        if words[0] == "make":
            assert set(words[1:]) <= set(targets), where
        if words[:2] == ["python", "-m"] and words[2].startswith("burnish."):
            importlib.import_module(words[2])


@pytest.mark.parametrize("planted", ["train --sed 1", "train tinny", "train --grpo.itrations 3", "fly", "runs shw x"])
def test_a_wrong_command_in_a_document_is_found(planted):
    with pytest.raises((Exception, SystemExit)):
        check_burnish("here", planted.split())


def merged(tree, changes):
    """`changes` laid over `tree`: mappings are followed, everything else is replaced."""
    both = isinstance(tree, dict) and isinstance(changes, dict)
    return {**tree, **{k: merged(tree.get(k), v) for k, v in changes.items()}} if both else changes


def test_every_yaml_snippet_is_a_recipe_or_part_of_one(snippets):
    base = read_recipe(recipe_path("tiny"))
    for where, text in of(snippets, "yaml"):
        tree = read_yaml(text, source=where)
        validate(Recipe, tree if "name" in tree else merged(base, tree), source=where)


def test_every_json_snippet_is_json_and_rows_have_known_fields(snippets):
    for _, text in of(snippets, "json"):
        json.loads(text)
    for where, text in of(snippets, "jsonl"):
        for line in text.splitlines():
            assert set(json.loads(line)) <= set(FIELDS), where


def test_every_python_snippet_compiles_and_imports_what_exists(snippets):
    for where, text in of(snippets, "python"):
        tree = ast.parse(text, filename=where)
        for node in (n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)):
            room = importlib.import_module(node.module)
            assert all(hasattr(room, alias.name) for alias in node.names), f"{where}: {node.module}"


def test_every_link_leads_somewhere(files, root):
    for path in (p for p in files if p.suffix == ".md"):
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
            assert link.startswith("https://") or (path.parent / link).exists(), f"{path.relative_to(root)}: {link}"


def test_every_test_that_a_document_names_exists(files, root):
    named = [
        (p, *m)
        for p in files
        if p.suffix == ".md"
        for m in re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", p.read_text())
    ]
    assert named
    for path, file, name in named:
        assert (root / file).is_file(), f"{path}: {file}"
        assert not name or f"def {name}(" in (root / file).read_text(), f"{path}: {file}::{name}"


def test_every_path_that_a_document_names_exists(files, root):
    rooms = "data|policies|rewards|learners|rollouts|serve|platform|recipes|docs|tests|benchmarks"
    for path in (p for p in files if p.suffix == ".md" and p.name != "CHANGELOG.md"):
        for name in re.findall(rf"`((?:{rooms})/[\w/.-]*\w)`", path.read_text()):
            written = {"rewards/contrast.py", "policies/worded.py"}  # the pages on extending have you write these
            assert (root / name).exists() or name in written, f"{path.relative_to(root)}: {name}"


def test_the_readme_is_short_and_its_two_commands_set_up_train_and_test(root):
    text = (root / "README.md").read_text()
    assert len(text.splitlines()) <= 130
    assert "```bash\npip install uv && uv run burnish train\nuv run --extra test pytest\n```" in text
