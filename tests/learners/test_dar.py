"""Difficulty-aware weights: worked examples, both orders, and the inert case."""

import numpy as np
import pytest

from burnish.learners.dar import DarConfig, active_threshold, group_weights, performance, raw_weights

PAPER = DarConfig(enabled=True, order="paper")


@pytest.mark.parametrize("name", ["dar_gamma5", "dar_gamma2", "dar_gamma5_saturated", "dar_gamma2_saturated"])
def test_the_papers_order_matches_the_worked_examples(worked, name):
    inputs, expected = worked(name)
    config = PAPER.model_copy(update={"gamma": float(inputs["gamma"])})
    np.testing.assert_allclose(raw_weights(inputs["group_means"], gamma=config.gamma), expected["raw"], rtol=1e-6)
    result = group_weights(np.array(inputs["group_means"]), config)
    np.testing.assert_allclose(result.weights, expected["normalised"], rtol=1e-6)
    assert result.inert == name.endswith("saturated")
    assert result.active_fraction == (0.0 if result.inert else np.mean(np.array(expected["raw"]) > 0.5))


@pytest.mark.parametrize("order", ["paper", "normalize_first"])
def test_without_bounds_gamma_matters_in_both_orders(worked, order):
    inputs, expected = worked("dar_gamma5_unclipped")
    bounds = {name: inputs[name] for name in ("w_min", "w_max")}
    result = group_weights(np.array(inputs["group_means"]), DarConfig(enabled=True, order=order, **bounds))
    np.testing.assert_allclose(result.weights, expected["normalised"], rtol=1e-6)


def test_the_threshold_of_the_lower_clip_matches_the_worked_example(worked):
    inputs, expected = worked("dar_active_threshold")
    found = [active_threshold(gamma=g, w_min=inputs["w_min"]) for g in inputs["gammas"]]
    np.testing.assert_allclose(found, expected["active_only_if_group_mean_below"], rtol=1e-6)


def test_weights_of_scaled_rewards_match_the_worked_example(worked):
    _, expected = worked("dar_on_drs_scaled_rewards")
    result = group_weights(np.array(expected["scaled_group_means"]), PAPER)
    np.testing.assert_allclose(result.weights, expected["normalised"], rtol=1e-6)
    np.testing.assert_allclose(np.repeat(result.weights, 3), expected["sample_weights"], rtol=1e-6)


def test_gamma_is_not_cast_to_an_integer(worked):
    inputs, expected = worked("dar_int_gamma_cast")
    used = raw_weights(np.array([0.4]), gamma=inputs["gamma_config"])
    assert used != pytest.approx(raw_weights(np.array([0.4]), gamma=expected["gamma_used_by_released_code"]))


def test_normalising_first_acts_on_raw_similarities_where_the_paper_is_inert():
    means = np.array([0.55, 0.65, 0.75, 0.85, 0.9])
    config = DarConfig(enabled=True, gamma=2.0)
    first = raw_weights(means, gamma=2.0) / raw_weights(means, gamma=2.0).mean()
    np.testing.assert_allclose(np.clip(first, 0.5, 5.0), [2.41, 1.46, 0.74, 0.5, 0.5], atol=0.01)
    result = group_weights(means, config)
    assert result.weights.mean() == pytest.approx(1.0, abs=1e-12) and not result.inert
    assert result.active_fraction == 0.6 and result.effective_spread > 1.0
    assert group_weights(means, PAPER.model_copy(update={"gamma": 2.0})).inert


@pytest.mark.parametrize("order", ["paper", "normalize_first"])
def test_harder_groups_never_weigh_less_and_order_of_groups_is_kept(order):
    means = np.array([0.9, 0.1, 0.5, 0.02, 1.4, -0.2])
    result = group_weights(means, DarConfig(enabled=True, order=order))
    assert result.weights.mean() == pytest.approx(1.0, abs=1e-12)
    assert (np.diff(result.weights[np.argsort(means)]) <= 0.0).all()
    np.testing.assert_allclose(group_weights(means[::-1], result_config(order)).weights, result.weights[::-1])


def result_config(order):
    return DarConfig(enabled=True, order=order)


def test_an_absent_group_weighs_one_and_moves_no_other():
    means, present = np.array([0.1, 0.0, 0.7]), np.array([True, False, True])
    result = group_weights(means, PAPER, present=present)
    assert result.weights[1] == 1.0
    np.testing.assert_allclose(result.weights[present], group_weights(means[present], PAPER).weights)


def test_switched_off_every_group_weighs_one():
    result = group_weights(np.array([0.1, 0.9]), DarConfig())
    assert result.weights.tolist() == [1.0, 1.0] and result.inert and result.weight_max == 1.0


def test_performance_averages_valid_values_of_the_named_reward_or_of_all():
    rewards = {"a": np.array([[0.2, 0.4], [0.9, 0.0]]), "b": np.array([[1.0, 1.0], [0.0, 0.0]])}
    valid = {"a": np.array([[True, True], [True, False]]), "b": np.array([[True, True], [False, False]])}
    named, present = performance(rewards, valid, weights={"a": 1.0, "b": 3.0}, config=DarConfig(reward="a"))
    np.testing.assert_allclose(named, [0.3, 0.9])
    both, _ = performance(rewards, valid, weights={"a": 1.0, "b": 3.0}, config=DarConfig())
    np.testing.assert_allclose(both, [(0.3 + 3.0) / 4.0, 0.9])
    assert present.all()
    assert not performance(rewards, valid, weights={}, config=DarConfig(reward="b"))[1][1]


def test_unknown_rewards_and_crossed_bounds_are_refused():
    with pytest.raises(ValueError, match="allowed one of"):
        performance({"a": np.zeros((1, 1))}, {"a": np.ones((1, 1), bool)}, weights={}, config=DarConfig(reward="x"))
    with pytest.raises(ValueError, match="at most w_max"):
        DarConfig(w_min=2.0, w_max=1.0)
