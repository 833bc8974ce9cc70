"""Plans are made over whole groups; a missing reward is a mask, never a number."""

from dataclasses import replace

import numpy as np
import pytest

from burnish.data.records import RubricVersion, Scores
from burnish.data.seeding import generator
from burnish.learners.advantages import AdvantageConfig
from burnish.learners.dar import DarConfig
from burnish.platform.planning import make_plan
from burnish.rewards.rubric import RewardSpec, RubricConfig, WeightPoint

RUBRIC = RubricConfig(
    rewards=(
        RewardSpec(name="pixels", kind="masked_pixel"),
        RewardSpec(name="outside", kind="outside_preservation", weight=0.5),
        RewardSpec(name="watched", kind="boundary_band", weight=0.0),
    )
)
G = 8


def scores(name, *, missing=(), shift=0.0):
    """One group's scores; `missing` names (reward, sample) that have none."""
    raw, valid = {}, {}
    for reward in ("pixels", "outside", "watched"):
        raw[reward] = generator(0, "plan-test", name, reward).normal(size=G).astype(np.float32) + np.float32(shift)
        valid[reward] = np.array([(reward, i) not in missing for i in range(G)])
        raw[reward][~valid[reward]] = 0
    return Scores(name, 3, RubricVersion(1, "d"), raw, raw, valid)


def plan(groups, **more):
    options = {"config": AdvantageConfig(), "dar": DarConfig(), "on_policy": True, "rubric": RUBRIC} | more
    return make_plan(groups, iteration=3, **options)


def test_a_plan_names_its_groups_in_order_and_centres_advantages():
    made = plan([scores("a"), scores("b")])
    assert [g.example_id for g in made.plan.groups] == ["a", "b"] and made.plan.on_policy
    total = np.concatenate([g.advantages for g in made.plan.groups])
    assert abs(total.mean()) < 1e-5 and made.spread > 0.5
    assert {"reward/pixels/mean", "reward/watched/mean", "reward/total/mean"} <= made.metrics.keys()


def test_a_sample_without_any_reward_is_masked_and_changes_no_other_number():
    gone = [("pixels", 2), ("outside", 2)]
    one, other = plan([scores("a", missing=gone)]), plan([scores("a", missing=gone)])
    assert one.plan.groups[0].valid.tolist() == [i != 2 for i in range(G)]
    assert one.plan.groups[0].advantages[2] == 0
    poisoned = scores("a", missing=gone)
    poisoned.raw["pixels"][2] = 1e6
    np.testing.assert_array_equal(plan([poisoned]).plan.groups[0].advantages, other.plan.groups[0].advantages)


def test_a_sample_that_lacks_one_of_two_rewards_keeps_the_other():
    group = plan([scores("a", missing=[("pixels", 4)])]).plan.groups[0]
    assert group.valid.all() and group.advantages[4] != 0


def test_a_group_with_equal_rewards_has_no_spread():
    flat = scores("a")
    for values in flat.raw.values():
        values[:] = 0.25
    assert plan([flat]).spread == 0


def test_a_reward_of_weight_zero_is_logged_and_trains_nothing():
    plain, loud = scores("a"), scores("a")
    loud.raw["watched"][:] *= 1000
    made = plan([loud])
    np.testing.assert_array_equal(made.plan.groups[0].advantages, plan([plain]).plan.groups[0].advantages)
    assert made.metrics["reward/watched/std"] > 100


@pytest.mark.parametrize(("shifts", "warned"), [((0.0, 0.0), True), ((0.0, 2.0), False)])
def test_dar_that_does_nothing_is_said_in_words(shifts, warned):
    dar = DarConfig(enabled=True, reward="pixels")
    groups = [scores("a", shift=shifts[0]), scores("a" if warned else "b", shift=shifts[1])]
    made = plan(groups, dar=dar)
    assert bool(made.warnings) is warned
    assert ("DAR does nothing" in "".join(made.warnings)) is warned
    assert len({g.weight for g in made.plan.groups}) == (1 if warned else 2)
    assert (made.metrics["dar/effective_spread"] == 0) is warned


def test_shuffled_advantages_are_the_same_numbers_elsewhere_and_keyed_by_seed():
    config, groups = AdvantageConfig(control="shuffled"), [scores("a", missing=[("pixels", 1), ("outside", 1)])]
    straight = plan(groups).plan.groups[0].advantages
    mixed = [plan(groups, config=config, seed=seed).plan.groups[0].advantages for seed in (0, 0, 1)]
    np.testing.assert_array_equal(np.sort(mixed[0]), np.sort(straight))
    np.testing.assert_array_equal(mixed[0], mixed[1])
    assert mixed[0][1] == straight[1] == 0
    assert not np.array_equal(mixed[0], straight) and not np.array_equal(mixed[0], mixed[2])


def test_weights_follow_their_schedule_and_shares_without_spread_are_logged():
    points = (WeightPoint(iteration=0, weight=1.0), WeightPoint(iteration=4, weight=0.0))
    specs = (RUBRIC.rewards[0], RUBRIC.rewards[1].model_copy(update={"weight_schedule": points}), RUBRIC.rewards[2])
    found = plan([scores("a")], rubric=RubricConfig(rewards=specs)).metrics
    assert found["reward/outside/weight"] == 0.25 and found["reward/pixels/weight"] == 1.0
    assert found["reward/pixels/zero_spread"] == 0.0 and "reward/watched/weight" not in found


def test_a_schedule_that_has_come_down_to_zero_is_still_logged():
    points = (WeightPoint(iteration=0, weight=1.0), WeightPoint(iteration=2, weight=0.0))
    specs = (RUBRIC.rewards[0], RUBRIC.rewards[1].model_copy(update={"weight_schedule": points}))
    made = plan([scores("a")], rubric=RubricConfig(rewards=specs))
    assert made.metrics["reward/outside/weight"] == 0.0
    alone = plan([scores("a")], rubric=RubricConfig(rewards=RUBRIC.rewards[:1]))
    np.testing.assert_array_equal(made.plan.groups[0].advantages, alone.plan.groups[0].advantages)


def test_a_reward_whose_scaled_values_are_equal_teaches_nothing_and_a_missing_one_says_nothing():
    flat, gone = scores("a"), [("outside", i) for i in range(G)]
    flat = replace(flat, scaled={**flat.scaled, "pixels": np.full(G, 0.5, np.float32)})
    found = plan([flat, scores("b")]).metrics
    assert (found["reward/pixels/zero_spread"], found["reward/watched/zero_spread"]) == (0.5, 0.0)
    found = plan([scores("a", missing=gone)]).metrics
    assert np.isnan(found["reward/outside/zero_spread"]) and found["reward/outside/missing"] == 1.0


def test_a_reward_converges_at_the_best_value_that_its_own_options_allow():
    spec = RewardSpec(name="judge", kind="http", options={"url": "http://127.0.0.1:9/score", "highest": 10.0})
    for value, expected in ((10.0, True), (1.0, False)):
        values = {"judge": np.full(G, value, np.float32)}
        group = Scores("a", 3, RubricVersion(1, "d"), values, values, {"judge": np.ones(G, bool)})
        assert plan([group], rubric=RubricConfig(rewards=(spec,))).converged is expected


def test_a_reward_of_weight_zero_may_still_say_how_hard_a_group_is():
    made = plan([scores("a"), scores("b", shift=2.0)], dar=DarConfig(enabled=True, reward="watched", source="raw"))
    assert made.plan.groups[0].weight >= made.plan.groups[1].weight


def test_costs_are_summed_over_groups():
    groups = [replace(scores(name), costs={"pixels": {"calls": 1.5, "tokens": 7.0}}) for name in "ab"]
    found = plan(groups).metrics
    assert (found["reward/pixels/calls"], found["reward/pixels/tokens"]) == (3.0, 14.0)
