"""What the guard does in a run: pauses it, raises the KL weight, returns to a commit."""

import json
import math
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from burnish.data.errors import ConfigError
from burnish.platform.config import load_recipe
from burnish.platform.guarding import Keeper
from burnish.platform.rubric_start import first_state
from burnish.platform.watch import Watch, WatchConfig
from burnish.rewards.order import identity
from burnish.rewards.table import reward_class

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
        state = first_state(recipe.rewards, {identity(spec): "d" for spec in recipe.rewards.rewards})
        return Keeper(recipe, Assessor(), stage.ledger, Watch(WatchConfig(patience=99)), console, lambda _: state)

    return make


def gold(kind, **options):
    """Overrides for a rubric with one gold reward that the guard watches."""
    specs = [{"name": "toy_semantic", "kind": "toy_semantic"}]
    specs.append({"name": "judge", "kind": kind, "gold": True, "weight": 0.0, "options": options})
    return ("rewards.rewards", json.dumps(specs)), ("guard.metrics", "[masked_mse, reward/judge]")


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
    made = keeper(*gold("outside_preservation"))
    made.start()
    iterate(made, 1, **{"reward/judge/mean": -0.25})
    assert made.ledger.notes["guard"][-1]["gold"]["reward/judge"] == 0.75
    iterate(made, 1, start=2, **{"reward/judge/mean": math.nan})
    assert math.isnan(made.ledger.notes["guard"][-1]["gold"]["reward/judge"])


def test_options_decide_the_range_of_a_gold_reward_and_a_smaller_better_one_is_mirrored(keeper, monkeypatch):
    made = keeper(*gold("http", url="http://127.0.0.1:9/score", highest=10.0))
    iterate(made, 1, **{"reward/judge/mean": 4.0})
    assert made.ledger.notes["guard"][-1]["gold"]["reward/judge"] == 0.4
    monkeypatch.setattr(reward_class("boundary_band"), "direction", -1)
    made = keeper(*gold("boundary_band"))
    iterate(made, 1, **{"reward/judge/mean": -0.25})
    assert made.ledger.notes["guard"][-1]["gold"]["reward/judge"] == 0.25


def test_a_gold_reward_that_is_swapped_is_not_compared_with_the_one_before(keeper):
    made = keeper(*gold("outside_preservation"), ("guard.tolerance", "9.0"))
    iterate(made, 2, **{"reward/judge/mean": -0.25})
    swapped = made.rubric(0)
    spec = swapped.config.rewards[1].model_copy(update={"kind": "boundary_band"})
    config = swapped.config.model_copy(update={"rewards": (swapped.config.rewards[0], spec)})
    versions = (swapped.rewards[0], replace(swapped.rewards[1], digest="e"))
    made.rubric = lambda iteration: replace(swapped, config=config, rewards=versions)
    iterate(made, 1, start=3, **{"reward/judge/mean": -0.5})
    assert [e["gold"].get("reward/judge") for e in made.ledger.notes["guard"]] == [None, None, 0.5]
    assert made.ledger.best == "step-000001"
    assert not [line for line in made.ledger.warnings if "guard" in line]


def test_a_watched_reward_that_is_no_gold_reward_any_more_is_named(keeper):
    made = keeper(*gold("outside_preservation"))
    trained = made.rubric(0).config.rewards[1].model_copy(update={"gold": False, "weight": 1.0})
    state = made.rubric(0)
    config = state.config.model_copy(update={"rewards": (state.config.rewards[0], trained)})
    made.rubric = lambda iteration: replace(state, config=config)
    iterate(made, 1, **{"reward/judge/mean": -0.25})
    assert math.isnan(made.ledger.notes["guard"][-1]["gold"]["reward/judge"])
    assert "reward/judge" in made.ledger.warnings[0]


def test_a_rollback_on_a_gold_reward_returns_to_before_it_fell(keeper):
    made = keeper(*gold("outside_preservation"), ("guard.metrics", "[reward/judge]"))
    made.start()
    for iteration, value in enumerate((-0.2, -0.1, -0.6), start=1):
        iterate(made, 1, start=iteration, **{"reward/judge/mean": value})
    assert made.ledger.notes["ended"] == "rollback" and made.result() == "step-000002"


def test_a_gold_reward_without_bounds_cannot_be_guarded(monkeypatch):
    monkeypatch.setattr(reward_class("boundary_band"), "range", (-math.inf, 0.0))
    with pytest.raises(ConfigError, match=r"finite range"):
        load_recipe("smoke", gold("boundary_band", r_in=19))


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


@pytest.fixture
def start(smoke, tmp_path):
    """Arguments of a run from the base of the smoke run, so hasty that the masked error grows."""
    shutil.copytree(smoke.path, tmp_path / "runs" / smoke.id)
    eager = [part for name, value in (*EAGER, ("guard.tolerance", "0.0")) for part in (f"--{name}", value)]
    return ("smoke", "--from", smoke.id, "--stages", "grpo", *eager, "--grpo.update.optimizer.lr", "0.03")


def acting(action):
    return "--guard.action", action, "--guard.regression_action", action


def lines(run, name, **wanted):
    entries = [json.loads(line) for line in (run.path / name).read_text().splitlines()]
    return [e for e in entries if wanted.items() <= e.items()]


def test_a_paused_run_leaves_with_code_5_and_a_resume_goes_on(burnish, start):
    child = burnish(*start, *acting("pause"))
    assert child.wait() == 5 and child.run.info.status == "paused", child.text
    run, finished = child.run, len(lines(child.run, "metrics.jsonl"))
    assert f"--resume {run.id}" in child.text and finished < 4
    again = burnish("--resume", run.id)
    assert again.wait() in (0, 5), again.text
    assert len(lines(run, "metrics.jsonl")) > finished


@pytest.mark.slow
def test_a_raised_kl_weight_survives_a_kill_and_changes_the_run(burnish, start):
    ends = []
    for action in ("raise_kl", "warn"):
        child = burnish(*start, *acting(action))
        assert child.wait() == 0, child.text
        ends.append((child.summary["state_digest"], lines(child.run, "journal.jsonl", kind="guard")))
    killed = burnish(*start, *acting("raise_kl"), fail_point="journal:4")
    assert killed.wait() == -9
    resumed = burnish("--resume", killed.run.id)
    assert resumed.wait() == 0, resumed.text
    again = (resumed.summary["state_digest"], lines(resumed.run, "journal.jsonl", kind="guard"))
    assert again == ends[0] and again[0] != ends[1][0]
    assert again[1][0]["kl_scale"] == 2.0 and again[1][0]["iteration"] < 4
