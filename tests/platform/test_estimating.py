"""`burnish estimate`: a recipe's memory and time before anything is loaded."""

import json
from pathlib import Path

import pytest

from burnish.platform.cli import main
from burnish.platform.config import load_recipe
from burnish.platform.estimating import ADAM_BYTES, estimate, estimate_text
from burnish.policies.snapshot import new_policy

RECIPES = Path(__file__).parents[2] / "recipes"


def test_a_pretrained_recipe_is_counted_by_phase(tiny_models):
    twin = [("policy.kontext.path", str(tiny_models / "kontext"))]
    found = estimate(load_recipe(str(RECIPES / "omnirefiner-kontext-tiny.yaml"), twin), references=2)
    step, sample, update = found.phases
    assert [p.name for p in found.phases] == ["fine-tuning step", "sampling", "update"]
    assert found.images == ((64, 64),) * 4 and (step.count, sample.count, update.count) == (12, 3, 3)
    assert update.bytes > sample.bytes > 4 * found.weights
    assert step.bytes > 4 * found.weights + ADAM_BYTES * found.trained
    fewer = estimate(load_recipe(str(RECIPES / "omnirefiner-kontext-tiny.yaml"), twin), references=0)
    assert all(a.flops < b.flops for a, b in zip(fewer.phases, found.phases, strict=True))
    text = estimate_text(found, rate=1e12)
    assert "fine-tuning step" in text and max(map(len, text.splitlines())) <= 80


def test_an_update_costs_by_epochs_and_not_by_steps():
    def cost(*more):
        return next(p for p in estimate(load_recipe("smoke", list(more))).phases if p.name == "update").flops

    once = cost(("grpo.update.epochs", "1"))
    assert cost(("grpo.update.epochs", "1"), ("grpo.update.updates_per_iteration", "1")) == once
    assert cost(("grpo.update.epochs", "2")) == 2 * once


def test_tiny_trains_everything_and_then_an_adapter():
    recipe = load_recipe("tiny")
    found = estimate(recipe)
    weights = sum(p.numel() for p in new_policy(recipe.policy.config).module.parameters())
    assert found.weights == weights and 0 < found.trained < weights
    assert found.phases[0].bytes > (4 + ADAM_BYTES) * weights


def test_the_command_takes_overrides_and_refuses_a_missing_model(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as left:
            main(["estimate", *arguments])
        return left.value.code, capsys.readouterr()

    code, printed = call("tiny", "--tflops", "1", "--json", "--grpo.iterations", "7")
    assert code == 0 and json.loads(printed.out)["phases"][1]["count"] == 7
    code, printed = call(str(RECIPES / "dyref-klein.yaml"))
    assert code == 2 and "weights/FLUX.2-klein-base-9B" in printed.err
