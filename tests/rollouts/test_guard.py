"""The guard fires on reward hacking and on nothing else."""

import pytest
from pydantic import ValidationError

from burnish.data.seeding import generator
from burnish.rollouts.guard import GuardConfig, Observation, Verdict, best_iteration, goodness, judge

CONFIG = GuardConfig(metrics=("masked_mse",), window=2, patience=2, tolerance=0.05)
NAN = float("nan")


def curve(rewards: list[float], *, metric: str = "masked_mse", gold: list[float]) -> list[Observation]:
    return [Observation(5 * i, r, {metric: g}) for i, (r, g) in enumerate(zip(rewards, gold, strict=True))]


def first_verdict(history: list[Observation], config: GuardConfig = CONFIG) -> tuple[int, Verdict] | None:
    for end in range(1, len(history) + 1):
        verdict = judge(history[:end], config)
        if verdict is not None:
            return end - 1, verdict
    return None


def test_a_healthy_run_is_left_alone() -> None:
    noise = generator(0, "noise").standard_normal(40) * 0.0005
    history = curve([0.1 * i for i in range(40)], gold=[0.07 * 0.95**i + float(n) for i, n in enumerate(noise)])
    assert first_verdict(history[:20]) is None


def test_reward_up_and_gold_down_rolls_back_to_the_best_window() -> None:
    history = curve([float(i) for i in range(8)], gold=[0.07, 0.06, 0.05, 0.05, 0.06, 0.07, 0.08, 0.09])
    at, verdict = first_verdict(history) or pytest.fail("the guard slept")
    assert (verdict.action, verdict.kind, verdict.metric, verdict.best_iteration) == (
        "rollback", "hacking", "masked_mse", 15,
    )  # fmt: skip
    assert at == 5
    assert "masked_mse on dev" in verdict.message


def test_gold_falling_without_the_reward_is_a_warning() -> None:
    history = curve([1.0] * 6, gold=[0.0066, 0.0066, 0.0068, 0.0072, 0.0076, 0.0078])
    _, verdict = first_verdict(history) or pytest.fail("the guard slept")
    assert (verdict.kind, verdict.action) == ("regression", "rollback")


def test_one_bad_evaluation_is_forgiven() -> None:
    gold = [0.05, 0.05, 0.05, 0.09, 0.05, 0.05, 0.05]
    config = CONFIG.model_copy(update={"patience": 3})
    assert first_verdict(curve([float(i) for i in range(7)], gold=gold), config) is None


@pytest.mark.parametrize("factor", [0.9, 1.12])
def test_blur_and_noise_both_spoil_the_edge_ratio(factor: float) -> None:
    config = CONFIG.model_copy(update={"metrics": ("edge_ratio",), "action": "stop"})
    gold = [1.0 * factor ** max(0, i - 2) for i in range(8)]
    _, verdict = first_verdict(curve([float(i) for i in range(8)], metric="edge_ratio", gold=gold), config) or (0, None)
    assert verdict is not None and verdict.action == "stop"


def test_a_metric_that_never_applies_says_nothing() -> None:
    config = CONFIG.model_copy(update={"metrics": ("glyph_accuracy",)})
    assert first_verdict(curve([float(i) for i in range(8)], metric="glyph_accuracy", gold=[NAN] * 8), config) is None
    assert first_verdict(curve([float(i) for i in range(8)], gold=[0.1] * 8), config) is None
    assert first_verdict(curve([1.0] * 8, metric="glyph_accuracy", gold=[0.0] * 8), config) is None


def test_the_verdict_depends_on_the_history_alone() -> None:
    history = curve([NAN, *map(float, range(7))], gold=[0.05, 0.05, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1])
    assert judge(history, CONFIG) == judge(list(history), CONFIG) != None  # noqa: E711
    assert judge(history, CONFIG.model_copy(update={"enabled": False})) is None


def test_goodness_is_larger_when_better() -> None:
    assert goodness("masked_mse", 0.01) > goodness("masked_mse", 0.02)
    assert goodness("edge_ratio", 1.0) > goodness("edge_ratio", 0.8) == pytest.approx(goodness("edge_ratio", 1.25))
    assert goodness("glyph_accuracy", 0.9) > goodness("glyph_accuracy", 0.5)


@pytest.mark.parametrize("metrics", ['["dreams"]', "[]"])
def test_unknown_metrics_are_refused(metrics: str) -> None:
    with pytest.raises(ValidationError, match="metrics: got"):
        GuardConfig.model_validate_json(f'{{"metrics": {metrics}}}')


def test_a_gold_reward_is_judged_by_its_place_in_its_range() -> None:
    config = CONFIG.model_copy(update={"metrics": ("reward/judge",), "action": "raise_kl"})
    history = curve([float(i) for i in range(6)], metric="reward/judge", gold=[0.5, 0.6, 0.6, 0.5, 0.4, 0.4])
    _, verdict = first_verdict(history, config) or pytest.fail("the guard slept")
    assert (verdict.action, verdict.metric) == ("raise_kl", "reward/judge") and "in training" in verdict.message


@pytest.mark.parametrize(
    ("fields", "commit"),
    [
        ({}, ""),
        ({"rollback_to": "base"}, "step-000000"),
        ({"rollback_to": "step-000020"}, "step-000020"),
        ({"rollback_to": "base", "action": "stop", "regression_action": "warn"}, ""),
    ],
)
def test_a_rollback_to_a_named_commit_says_which_is_kept(fields: dict[str, str], commit: str) -> None:
    assert GuardConfig(**fields).rollback_commit == commit


def test_the_best_iteration_counts_gold_rewards_and_an_unknown_one_is_not_perfect() -> None:
    errors, places = [0.06, 0.05, 0.05, 0.05], [NAN, 0.9, NAN, 0.3]
    history = [
        Observation(i, 0.0, {"masked_mse": e, "reward/judge": p})
        for i, (e, p) in enumerate(zip(errors, places, strict=True))
    ]
    both, everywhere = ("masked_mse", "reward/judge"), range(4)
    assert best_iteration(history, both, among=everywhere) == 1
    assert best_iteration(history, ("reward/judge",), among=everywhere) == 0
    assert best_iteration(history, both, among=(0, 3)) == 0
    assert best_iteration(history, ("masked_mse", "reward/nobody"), among=everywhere) == 1


INFINITE = {"kl_max_factor": float("inf")}


@pytest.mark.parametrize("fields", [{"rollback_to": "step-20"}, {"kl_factor": 1.0}, {"metrics": ("reward",)}, INFINITE])
def test_what_the_guard_cannot_do_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GuardConfig(**fields)
