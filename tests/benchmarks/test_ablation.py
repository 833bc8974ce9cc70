"""The ablation's arms: each is a recipe of its own that differs in one switch; at smoke size it runs through."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from burnish.platform.config import config_digest, load_recipe
from burnish.platform.lookup import read_recipe, recipe_path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def ablation(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("ablation")


@pytest.mark.parametrize("name", ["tiny", "smoke"])
def test_every_arm_is_a_valid_recipe_with_a_digest_of_its_own(ablation, tmp_path, name):
    files = ablation.write_arms(read_recipe(recipe_path(name)), tmp_path)
    digests = {arm: config_digest(load_recipe(str(path))) for arm, path in files.items()}
    assert len(set(digests.values())) == len(ablation.ARMS) == 7
    assert digests[ablation.FULL] == config_digest(load_recipe(name))


def test_an_arm_turns_one_switch_and_leaves_the_recipe_alone(ablation):
    recipe = read_recipe(recipe_path("tiny"))
    arm = ablation.arm_tree(recipe, "no-masked-pixel")
    assert "masked_pixel" not in {r["kind"] for r in arm["rewards"]["rewards"]}
    assert arm["grpo"] == recipe["grpo"] and recipe == read_recipe(recipe_path("tiny"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_ablation_runs_through_at_smoke_size(tmp_path):
    small = ("--seeds", "1", "--iterations", "1", "--set", "evaluation.count=8", "--set", "evaluation.dev_count=4")
    where = ("--runs-dir", str(tmp_path / "runs"), "--markdown", str(tmp_path / "table.md"))
    command = [sys.executable, str(BENCHMARKS / "ablation.py"), "smoke", *small, *where]
    ran = subprocess.run(command, capture_output=True, text=True)
    table = (tmp_path / "table.md").read_text()
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "PASS: each switch changes the digest" in table and "PASS: the arms of a seed share one base" in table
    assert table.count("\n| ") == 9
