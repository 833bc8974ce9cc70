"""KL forms: worked example, zero at the reference, gradient elsewhere."""

import math

import pytest
import torch

from burnish.learners.kl import KL_FORMS, Pair, kl_term

NAMES = {
    "v_based_dyref": "v_based_dyref",
    "x_based_dyref": "x_based_dyref",
    "v_mse": "v_based_plain_mse",
    "x_mse": "x_based_plain_mse",
    "exact": "exact_gaussian_per_dim",
}


def tensors(inputs, *names):
    return [torch.tensor(inputs[n], dtype=torch.float64)[None] for n in names]


@pytest.fixture
def pair(worked):
    inputs, _ = worked("kl_forms")
    level = inputs["noise_level"] * math.sqrt(inputs["sigma"] / (1.0 - inputs["sigma"]))
    std = level * math.sqrt(inputs["sigma"] - inputs["sigma_next"])
    return Pair(*tensors(inputs, "v", "v_ref", "mean", "mean_ref"), level, std)


@pytest.mark.parametrize("kind", sorted(KL_FORMS))
def test_each_form_matches_the_worked_example(worked, pair, kind):
    found = kl_term(kind, pair)
    assert found.shape == (1,)
    assert float(found) == pytest.approx(worked("kl_forms")[1][NAMES[kind]], rel=1e-6)


@pytest.mark.parametrize("kind", sorted(KL_FORMS))
def test_it_is_zero_at_the_reference_and_has_gradient_elsewhere(pair, kind):
    same = Pair(pair.velocity_ref, pair.velocity_ref, pair.mean_ref, pair.mean_ref, pair.noise_level, pair.std)
    assert float(kl_term(kind, same)) == 0.0
    velocity = pair.velocity.clone().requires_grad_()
    moved = Pair(velocity, pair.velocity_ref, -0.18675 * velocity, pair.mean_ref, pair.noise_level, pair.std)
    kl_term(kind, moved).sum().backward()
    assert float(velocity.grad.abs().sum()) > 0.0


def test_no_gradient_flows_into_the_reference(pair):
    reference = pair.velocity_ref.clone().requires_grad_()
    velocity = pair.velocity.clone().requires_grad_()
    kl_term("v_mse", Pair(velocity, reference, pair.mean, pair.mean_ref, 1.0, 1.0)).sum().backward()
    assert reference.grad is None
