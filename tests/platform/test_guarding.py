"""What the guard does in a run: pauses it, raises the KL weight, returns to a commit."""

import json
import math
from types import SimpleNamespace

import pytest

from burnish.data.errors import ConfigError
from burnish.platform.config import load_recipe
from burnish.platform.guarding import Keeper
from burnish.platform.watch import Watch, WatchConfig

EAGER = [("guard.window", "1"), ("guard.patience", "1"), ("guard.metrics", "[masked_mse]"), ("evaluation.every", "1")]


class Assessor:
    """Evaluations whose masked error grows from call to call."""

    def __init__(self):
        self.calls = 0

    def assess(self, ledger, split, *, label):
        self.calls += 1
        means = {"masked_mse": 0.1 * self.calls, "outside_mse": 0.1, "edge_ratio": 1.0, "glyph_accuracy": 1.0}
        result = SimpleNamespace(means=lambda: means, rows=SimpleNamespace(values={}), to_json=dict)
        return {"ode": result}


@pytest.fixture
def keeper(fakes, tmp_path, monkeypatch):
    """Maker of a keeper on a fake stage under an eager guard."""
    monkeypatch.setattr("burnish.platform.guarding.metric_lines", lambda *_: {})
    monkeypatch.setattr("burnish.platform.guarding.arrays_digest", str)

    def make(*overrides):
        stage = fakes.Stage(tmp_path)
        stage.begin()
        recipe = load_recipe("smoke", [*EAGER, *overrides])
        console = SimpleNamespace(line=lambda text: None)
        return Keeper(recipe, Assessor(), stage.ledger, Watch(WatchConfig(patience=99)), console)

    return make


def iterate(keeper, count, start=1, **more):
    for iteration in range(start, start + count):
        keeper.ledger.iteration = iteration
        keeper.after(iteration, {"reward/total/mean": float(iteration), **more})


def test_a_pause_ends_the_stage_and_a_resume_is_judged_from_there_on(keeper):
    made = keeper(("guard.action", "pause"), ("guard.regression_action", "pause"))
    made.start()
    iterate(made, 3)
    assert made.ledger.notes["ended"] == "pause" and "masked_mse on dev" in made.last_verdict()
    made.go_on()
    assert "ended" not in made.ledger.notes
    iterate(made, 1, start=4)
    assert "ended" not in made.ledger.notes


def test_the_kl_weight_is_raised_step_by_step_up_to_its_limit(keeper):
    both = [("guard.action", "raise_kl"), ("guard.regression_action", "raise_kl")]
    made = keeper(*both, ("guard.kl_max_factor", "3.0"))
    made.start()
    iterate(made, 1)
    assert made.ledger.notes["kl_scale"] == 2.0
    iterate(made, 6, start=2)
    assert made.ledger.notes["kl_scale"] == 3.0 and "ended" not in made.ledger.notes
    entries = [json.loads(line) for line in made.ledger.journal.path.read_text().splitlines()]
    assert [e["kl_scale"] for e in entries if e["kind"] == "guard"][:2] == [2.0, 3.0]


def test_a_rollback_returns_to_the_named_commit_or_to_the_best(keeper):
    made = keeper(("guard.rollback_to", "base"))
    made.start()
    iterate(made, 3)
    assert made.ledger.notes["ended"] == "rollback" and made.result() == "step-000000"
    other = keeper(("guard.rollback_to", "step-000002"))
    other.ledger.notes["ended"], other.ledger.best = "rollback", "step-000001"
    assert other.result() == "step-000001" and "no commit step-000002" in other.ledger.warnings[-1]


def test_gold_rewards_are_observed_as_places_in_their_range(keeper):
    gold = '[{"name": "masked_pixel", "kind": "masked_pixel"}, {"name": "outside", "kind": "outside_preservation", '
    rubric = gold + '"gold": true, "weight": 0.0}, {"name": "toy_semantic", "kind": "toy_semantic"}]'
    made = keeper(("rewards.rewards", rubric), ("guard.metrics", "[masked_mse, reward/outside]"))
    made.start()
    iterate(made, 1, **{"reward/outside/mean": -0.25})
    assert made.ledger.notes["guard"][-1]["gold"]["reward/outside"] == 0.75
    iterate(made, 1, start=2, **{"reward/outside/mean": math.nan})
    assert math.isnan(made.ledger.notes["guard"][-1]["gold"]["reward/outside"])


@pytest.mark.parametrize(
    ("field", "value", "more"),
    [
        ("guard.metrics", "[reward/nobody]", ()),
        ("guard.rollback_to", "step-000099", ()),
        ("guard.action", "raise_kl", (("grpo.update.kl.beta", "0.0"),)),
    ],
)
def test_a_guard_that_cannot_act_is_refused_before_anything_starts(field, value, more):
    with pytest.raises(ConfigError, match=r"guard|kl\.beta"):
        load_recipe("smoke", [(field, value), *more])


def test_a_paused_run_leaves_with_code_5_and_a_resume_goes_on(burnish):
    eager = [part for name, value in EAGER for part in (f"--{name}", value)]
    worse = ("--guard.tolerance", "0.0", "--guard.action", "pause", "--guard.regression_action", "pause")
    child = burnish("smoke", *eager, *worse, "--grpo.update.optimizer.lr", "0.03")
    assert child.wait() == 5 and child.run.info.status == "paused", child.text
    assert f"--resume {child.run.id}" in child.text
    before = len((child.run.path / "metrics.jsonl").read_text().splitlines())
    again = burnish("--resume", child.run.id, runs=child.runs.root)
    assert again.wait() in (0, 5), again.text
    assert len((child.run.path / "metrics.jsonl").read_text().splitlines()) > before
