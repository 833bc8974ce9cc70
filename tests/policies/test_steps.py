"""The transition kernel against the papers' numbers."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from burnish.data.records import SamplerSpec
from burnish.policies.steps import DYNAMICS, region_mean, transition


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def run(inputs, kind, **more):
    sampler = SamplerSpec(kind, 4, eta=inputs.get("noise_level", 0.0))
    levels = {"sigma": inputs["sigma"], "sigma_next": inputs["sigma_next"], "sigma_guard": 0.9}
    noise = tensor(inputs["eps"])[None] if "eps" in inputs else None
    x, v = tensor(inputs["x"])[None], tensor(inputs["v"])[None]
    return transition(v, x, sampler=sampler, noise=noise, **{**levels, **more})


@pytest.mark.parametrize(
    ("name", "kind"),
    [("flow_sde_step", "flow_sde"), ("dance_sde_step", "dance_sde"), ("cps_step", "cps"), ("cps_last_step", "cps")],
)
def test_a_step_has_the_published_mean_spread_sample_and_log_probability(worked, name, kind):
    inputs, expected = worked(name)
    step = run(inputs, kind)
    torch.testing.assert_close(step.mean[0], tensor(expected["mean"]), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(step.sample[0], tensor(expected["next"]), rtol=1e-6, atol=1e-9)
    assert step.std == pytest.approx(expected["step_std"], rel=1e-6)
    assert step.log_prob.item() == pytest.approx(expected["log_prob"], rel=1e-6, abs=1e-12)


def test_flow_sde_at_sigma_one_uses_the_next_sigma(worked):
    inputs, expected = worked("flow_sde_step_sigma1")
    levels = inputs["sigmas"]
    step = run({**inputs, "sigma": levels[0], "sigma_next": levels[1]}, "flow_sde", sigma_guard=levels[1])
    torch.testing.assert_close(step.mean[0], tensor(expected["mean"]), rtol=1e-6, atol=1e-9)
    assert step.noise_level == pytest.approx(expected["std_dev_t"], rel=1e-6)
    assert step.log_prob.item() == pytest.approx(expected["log_prob"], rel=1e-6)


def test_an_ode_step_is_euler(worked):
    inputs, expected = worked("ode_step")
    torch.testing.assert_close(run(inputs, "ode").sample[0], tensor(expected["next"]))


@pytest.mark.parametrize("kind", ["flow_sde", "dance_sde"])
def test_without_noise_an_sde_step_is_euler(worked, kind):
    inputs, expected = worked("sde_noise0_is_ode")
    torch.testing.assert_close(run(inputs, kind).sample[0], tensor(expected["next"]), rtol=0, atol=1e-12)


def test_a_rollout_with_one_sde_step_follows_the_published_path(worked):
    inputs, expected = worked("rollout_linear_field_window")
    x, levels = tensor(inputs["x_T"])[None, :, None], inputs["sigmas"]
    for i, (now, after) in enumerate(pairwise(levels)):
        kind = "flow_sde" if i in inputs["sde_indices"] else "ode"
        sampler = SamplerSpec(kind, 4, eta=inputs["noise_level"])
        noise = tensor(inputs["eps_at_1"])[None, :, None]
        step = transition(
            0.5 * x - 1, x, sigma=now, sigma_next=after, sigma_guard=levels[1], sampler=sampler, noise=noise
        )
        x = step.sample
        torch.testing.assert_close(x[0, :, 0], tensor(expected["trajectory"][i + 1]), rtol=1e-6, atol=1e-9)
        if kind == "flow_sde":
            assert step.log_prob.item() == pytest.approx(expected["log_probs"][0], rel=1e-6)


def test_the_exact_field_lands_on_the_data_point(worked):
    inputs, expected = worked("ode_oracle_velocity")
    x, clean, levels = tensor(inputs["x_T"])[None, :, None], tensor(inputs["x0"])[None, :, None], inputs["sigmas"]
    for now, after in pairwise(levels):
        sampler = SamplerSpec("ode", 4)
        x = transition((x - clean) / now, x, sigma=now, sigma_next=after, sigma_guard=levels[1], sampler=sampler).sample
    torch.testing.assert_close(x[0, :, 0], tensor(expected["final"]))


@pytest.mark.parametrize("kind", sorted(DYNAMICS))
@pytest.mark.parametrize("where", ["all", "mask"])
def test_replaying_a_stored_step_gives_its_log_probability_to_the_byte(kind, where):
    generator = torch.linspace(-1, 1, 2 * 6 * 3).reshape(2, 6, 3)
    region = torch.zeros(6, 3)
    region[:2] = 1
    sampler = SamplerSpec(kind, 4, eta=0.7, logprob_region=where)
    levels = {"sigma": 0.75, "sigma_next": 0.5, "sigma_guard": 0.75, "region": region, "sampler": sampler}
    drawn = transition(generator.cos(), generator, noise=generator.sin(), **levels)
    replayed = transition(generator.cos(), generator, given=drawn.sample, **levels)
    assert torch.equal(drawn.log_prob, replayed.log_prob)
    assert torch.equal(drawn.mean, replayed.mean)


def test_the_gradient_of_the_log_probability_points_as_published(worked):
    inputs, expected = worked("policy_gradient_direction")
    v = torch.tensor([[[inputs["v"]]]], dtype=torch.float64, requires_grad=True)
    x = tensor([[[inputs["x"]]]])
    sampler = SamplerSpec("flow_sde", 4, eta=inputs["noise_level"])
    levels = {"sigma": inputs["sigma"], "sigma_next": inputs["sigma_next"], "sigma_guard": 0.9, "sampler": sampler}
    drawn = transition(v.detach(), x, noise=tensor([[[inputs["eps"]]]]), **levels)
    transition(v, x, given=drawn.sample, **levels).log_prob.sum().backward()
    assert v.grad.item() == pytest.approx(expected["dlogp_dv"], rel=1e-6)


def test_a_masked_mean_reads_only_the_region():
    values = torch.tensor([[[1.0], [5.0]], [[2.0], [7.0]]])
    region = torch.tensor([[1.0], [0.0]])
    assert region_mean(values, region).tolist() == [1.0, 2.0]
    assert region_mean(values, None).tolist() == [3.0, 4.5]


def test_a_sampler_record_is_hashable_and_comparable():
    spec = SamplerSpec("cps", 4, eta=0.8)
    assert replace(spec, kind="ode") != spec
    assert len({spec, SamplerSpec("cps", 4, eta=0.8)}) == 1
