"""The clipped objective and the importance ratios."""

import pytest
import torch

from burnish.data.records import SamplerSpec
from burnish.learners.grpo import clipped_objective, guard_ratio, importance_ratio, stale_factor
from burnish.policies.steps import transition


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def step(inputs, velocity, *, given=None, noise=None):
    spec = SamplerSpec("flow_sde", 4, eta=inputs["noise_level"])
    levels = {"sigma": inputs["sigma"], "sigma_next": inputs["sigma_next"], "sigma_guard": inputs["sigma_next"]}
    return transition(velocity, double(inputs["x"])[None], sampler=spec, given=given, noise=noise, **levels)


def test_the_clipped_objective_matches_the_worked_example(worked):
    inputs, expected = worked("clipped_objective")
    clipped = double(inputs["adv"]).clamp(-inputs["adv_clip"], inputs["adv_clip"])
    found = clipped_objective(double(inputs["ratio"]), clipped, clip_low=inputs["clip"], clip_high=inputs["clip"])
    torch.testing.assert_close(found.loss, double(expected["per_sample"]))
    assert float(found.loss.mean()) == pytest.approx(expected["loss"])
    assert float((found.loss * double(inputs["dar_weights"])).mean()) == pytest.approx(expected["loss_dar"])
    assert float(found.clipped_high.double().mean()) == expected["clip_frac_high"]
    assert float(found.clipped_low.double().mean()) == expected["clip_frac_low"]


def test_the_default_clip_matches_the_worked_example(worked):
    inputs, expected = worked("clipped_objective_flow_default")
    width = inputs["clip"]
    found = clipped_objective(double(inputs["ratio"]), double(inputs["adv"]), clip_low=width, clip_high=width)
    torch.testing.assert_close(found.loss, double(expected["per_sample"]))
    assert float(found.loss.mean()) == pytest.approx(expected["loss"])


def test_before_the_first_update_the_ratio_is_one_and_nothing_is_clipped(worked):
    inputs, expected = worked("first_inner_step")
    ratio = importance_ratio(double(inputs["log_prob_new"]), double(inputs["log_prob_old"]))
    found = clipped_objective(ratio, double(inputs["adv"]), clip_low=1e-4, clip_high=1e-4)
    assert ratio.tolist() == expected["ratio"]
    assert float(found.loss.mean()) == expected["loss"]
    assert not bool((found.clipped_low | found.clipped_high).any())


def test_plain_and_guard_ratios_match_the_worked_example(worked):
    inputs, expected = worked("policy_ratio")
    old = step(inputs, double(inputs["v_old"])[None], noise=double(inputs["eps"])[None])
    new = step(inputs, double(inputs["v_new"])[None], given=old.sample)
    ratio = importance_ratio(new.log_prob, old.log_prob)
    assert float(new.log_prob) == pytest.approx(expected["log_prob_new"], rel=1e-6)
    assert float(ratio) == pytest.approx(expected["ratio"], rel=1e-6)
    shift = ((new.mean - old.mean) ** 2).flatten(1).mean(dim=1)
    guarded = guard_ratio(new.log_prob, old.log_prob, mean_shift_square=shift, std=new.std)
    assert float(guarded) == pytest.approx(expected["guard_ratio_closed_form"], rel=1e-6)


def test_mean_log_probabilities_keep_the_ratio_near_one_where_sums_explode(worked):
    inputs, expected = worked("batchmean_vs_seqsum_logprob")
    old = double(inputs["log_prob_per_dim"])
    new = old + inputs["delta_per_dim"]
    assert float(importance_ratio(new.mean(), old.mean())) == pytest.approx(expected["ratio_mean"], rel=1e-6)
    assert inputs["delta_per_dim"] * inputs["dims"] == pytest.approx(expected["log_ratio_sum"])


def test_the_gradient_at_ratio_one_is_minus_advantage_times_score(worked):
    inputs, expected = worked("policy_gradient_direction")
    scalars = inputs | {"x": [[inputs["x"]]]}
    velocity = double([[[inputs["v"]]]]).requires_grad_()
    drawn = step(scalars, velocity.detach(), noise=double([[[inputs["eps"]]]]))
    replayed = step(scalars, velocity, given=drawn.sample)
    ratio = importance_ratio(replayed.log_prob, drawn.log_prob)
    found = clipped_objective(ratio, double([inputs["advantage"]]), clip_low=1e-4, clip_high=1e-4)
    (score,) = torch.autograd.grad(replayed.log_prob.sum(), velocity, retain_graph=True)
    (slope,) = torch.autograd.grad(found.loss.sum(), velocity)
    assert float(score) == pytest.approx(expected["dlogp_dv"], rel=1e-6)
    assert float(slope) == pytest.approx(expected["dloss_dv_at_ratio1"], rel=1e-6)


def test_the_range_may_be_wider_above_than_below():
    ratio, advantages = double([1.25, 0.75]), double([1.0, -1.0])
    found = clipped_objective(ratio, advantages, clip_low=0.1, clip_high=0.2)
    torch.testing.assert_close(found.loss, double([-1.2, 0.9]))


def test_a_stale_ratio_is_scaled_back_to_the_cap_or_left_out():
    ratio = torch.tensor([0.2, 0.5, 1.0, 2.0, 8.0], requires_grad=True)
    truncated = stale_factor(ratio, rule="truncate", cap=2.0)
    assert truncated.tolist() == [1.0, 1.0, 1.0, 1.0, 0.25] and not truncated.requires_grad
    assert stale_factor(ratio, rule="reject", cap=2.0).tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


def test_the_loss_of_a_truncated_sample_is_that_at_the_cap():
    ratio, advantages = torch.tensor([8.0]), torch.tensor([-1.0])
    loss = clipped_objective(ratio, advantages, clip_low=0.2, clip_high=0.2).loss
    assert (stale_factor(ratio, rule="truncate", cap=2.0) * loss).item() == pytest.approx(2.0)
