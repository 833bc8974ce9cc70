"""Texts that are made from the code are those of the code; `make generated` writes them again."""

from pathlib import Path

import pytest

from burnish.platform.config import load_recipe
from burnish.platform.lookup import recipe_names
from burnish.platform.reference import TEXTS


@pytest.mark.parametrize(("name", "path"), [("recipe", "docs/recipe-reference.md"), ("commands", "tests/repo/cli.txt")])
def test_a_generated_text_is_current(root, name, path):
    assert (root / path).read_text() == TEXTS[name](), "run `make generated`"


def test_every_key_of_a_recipe_has_a_line_and_a_meaning(root):
    rows = [line for line in (root / "docs/recipe-reference.md").read_text().splitlines() if line.startswith("| `")]
    assert len(rows) > 100 and [row for row in rows if row.endswith("|  |")] == []


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_loads_and_says_what_it_is_for_and_how_well_it_is_proved(root, name):
    recipe = load_recipe(name)
    assert recipe.name == name and recipe.description and recipe.evidence
    assert [w for w in recipe.evidence.split() if w.startswith("benchmarks/") and not Path(root / w).exists()] == []
