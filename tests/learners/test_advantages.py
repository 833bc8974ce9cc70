"""Advantages: worked examples, missing rewards, and what must not change them."""

import numpy as np
import pytest

from burnish.learners.advantages import AdvantageConfig, advantages, zero_spread

CONFIG = AdvantageConfig()
BOTH = ["weighted_sum", "gdpo"]


def groups(values, size=4):
    return np.asarray(values, np.float64).reshape(-1, size)


def everywhere(rewards):
    return {name: np.ones(np.shape(values), bool) for name, values in rewards.items()}


def compute(rewards, how="weighted_sum", *, config=CONFIG, valid=None, weights=None):
    weights = weights or dict.fromkeys(rewards, 1.0)
    return advantages(rewards, valid or everywhere(rewards), weights=weights, config=config, aggregation=how)


@pytest.fixture
def pair(worked):
    inputs, expected = worked("advantage_weighted_sum_vs_gdpo")
    return {n: groups(inputs[n]) for n in ("csd", "siglip")}, inputs["weights"], expected


@pytest.mark.parametrize(
    ("key", "config"),
    [
        ("flow_factory_max_1e-6", CONFIG),
        ("flow_grpo_plus_1e-4", AdvantageConfig(floor="plus", eps=1e-4)),
        ("global_std", AdvantageConfig(std="global")),
    ],
)
def test_the_conventions_of_the_deviation_match_the_worked_example(worked, key, config):
    inputs, expected = worked("advantage_std_conventions")
    result = compute({"r": groups(inputs["rewards"])}, config=config)
    np.testing.assert_allclose(result.values.ravel(), expected[key], rtol=1e-5)


def test_the_weighted_sum_matches_the_worked_example(pair):
    rewards, weights, expected = pair
    result = compute(rewards, weights=weights)
    np.testing.assert_allclose(result.values.ravel(), expected["adv_weighted_sum"], rtol=1e-5)
    assert result.zero_spread == {"csd": 0.5, "siglip": 0.0}


def test_gdpo_matches_the_worked_example(pair):
    rewards, weights, expected = pair
    result = compute(rewards, "gdpo", weights=weights)
    np.testing.assert_allclose(result.values.ravel(), expected["adv_gdpo"], rtol=1e-5)


def test_the_official_gdpo_matches_the_worked_example(pair, worked):
    rewards, weights, _ = pair
    result = compute(rewards, "gdpo_trl", weights=weights)
    np.testing.assert_allclose(result.values.ravel(), worked("advantage_gdpo_official_trl")[1]["adv"], rtol=1e-5)


@pytest.mark.parametrize("how", [*BOTH, "gdpo_trl"])
def test_a_group_without_spread_gets_exactly_zero(worked, how):
    inputs, expected = worked("advantage_zero_variance_group")
    result = compute({"r": groups(inputs["rewards"]) + 0.1}, how)
    assert result.values.ravel().tolist() == expected["adv"]
    assert result.zero_spread["r"] == expected["zero_std_ratio"]


@pytest.mark.parametrize("how", BOTH)
def test_a_missing_reward_moves_nobody_where_filling_it_would(worked, how):
    inputs, expected = worked("nan_fill_rank_bug")
    by_rank = np.array(inputs["rank_rewards"], np.float64)
    style, other = by_rank[:, ::2], by_rank[:, 1::2]
    rewards = {"csd": np.stack([style.ravel(), other.ravel()])}
    result = compute(rewards, how, valid={"csd": ~np.isnan(rewards["csd"])})
    assert result.values[1].tolist() == expected["correct_adv"]
    assert result.valid.tolist() == [[True] * 4, [False] * 4]


def test_a_masked_sample_enters_no_mean_and_no_deviation():
    rewards = {"r": groups([1.0, 2.0, 3.0, 1e9])}
    valid = {"r": groups([True, True, True, False]).astype(bool)}
    result = compute(rewards, valid=valid)
    expected = compute({"r": np.array([[1.0, 2.0, 3.0]])})
    np.testing.assert_array_equal(result.values[0], [*expected.values[0], 0.0])


@pytest.mark.parametrize("how", BOTH)
@pytest.mark.parametrize("std", ["group", "global"])
def test_a_sample_without_one_reward_still_learns_from_the_other(how, std):
    rewards = {"a": groups([1.0, 2.0, 3.0, np.nan]), "b": groups([1.0, 4.0, 2.0, 9.0])}
    result = compute(
        rewards, how, config=AdvantageConfig(std=std), valid={"a": ~np.isnan(rewards["a"]), "b": np.ones((1, 4), bool)}
    )
    assert result.valid.all() and result.values[0, 3] > 0.0
    assert result.values.sum() == pytest.approx(0.0, abs=1e-6)


def test_advantages_are_clipped():
    values = np.zeros((1, 64))
    values[0, 0] = 1.0
    assert compute({"r": values}, config=AdvantageConfig(clip=2.0)).values.max() == 2.0


@pytest.mark.parametrize("how", BOTH)
def test_shift_and_common_scale_of_the_rewards_change_nothing(pair, how):
    rewards, weights, _ = pair
    moved = {n: 3.0 * v + 0.25 for n, v in rewards.items()}
    before, after = (compute(r, how, weights=weights).values for r in (rewards, moved))
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-6)


def test_scaling_one_reward_changes_nothing_under_gdpo(pair):
    rewards, weights, _ = pair
    moved = rewards | {"siglip": 7.0 * rewards["siglip"] - 1.0}
    before, after = (compute(r, "gdpo", weights=weights).values for r in (rewards, moved))
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("how", BOTH)
def test_permuting_samples_and_groups_permutes_advantages(pair, how):
    rewards, weights, _ = pair
    order = np.array([2, 0, 3, 1])
    moved = {n: v[::-1][:, order] for n, v in rewards.items()}
    before, after = (compute(r, how, weights=weights).values for r in (rewards, moved))
    np.testing.assert_allclose(after, before[::-1][:, order], rtol=1e-6)


def test_a_group_alone_gives_the_bytes_it_gives_among_others(pair):
    rewards, weights, _ = pair
    whole = compute(rewards, weights=weights).values
    shards = [compute({n: v[i : i + 1] for n, v in rewards.items()}, weights=weights).values for i in range(2)]
    assert np.concatenate(shards).tobytes() == whole.tobytes()


@pytest.mark.parametrize("how", BOTH)
def test_groups_sum_to_zero_and_the_gdpo_batch_has_unit_spread(pair, how):
    rewards, weights, _ = pair
    values = compute(rewards, how, weights=weights).values
    np.testing.assert_allclose(values.sum(axis=1), 0.0, atol=1e-5)
    if how == "gdpo":
        assert values.std() == pytest.approx(1.0, abs=1e-5)


def test_names_and_shapes_must_agree():
    with pytest.raises(ValueError, match="must name the same"):
        advantages({"a": np.zeros((1, 2))}, {}, weights={"a": 1.0}, config=CONFIG)
    with pytest.raises(ValueError, match="one shape"):
        compute({"a": np.zeros((1, 2)), "b": np.zeros((1, 3))})


def test_spread_is_counted_only_where_a_reward_exists():
    valid = np.array([[True, True], [False, False], [True, False]])
    assert zero_spread(np.array([[1.0, 2.0], [0.0, 0.0], [3.0, 9.0]]), valid) == 0.5
    assert zero_spread(np.zeros((1, 2)), np.zeros((1, 2), bool)) == 0.0
