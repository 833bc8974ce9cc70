"""The denoising loop."""

import pytest
import torch

from burnish.policies.sampling import SamplerConfig, draw_window, integrate, keyed_noise, render


def start(policy, conditions, batch):
    return torch.linspace(-1, 1, batch * 36 * 48).reshape(batch, *policy.latent_shape(conditions))


def test_only_sde_steps_are_recorded_and_each_leads_to_the_next(policy, example):
    conditions = policy.encode(example())
    x = start(policy, conditions, 2)
    config = SamplerConfig()
    path = integrate(
        policy, [conditions] * 2, sampler=config.spec, start=x, sde_steps=(0, 1), step_noise=lambda i: x * 0.1
    )
    assert torch.equal(path.latents[0], x)
    assert torch.equal(path.next_latents[0], path.latents[1])
    assert (len(path.latents), len(path.log_probs), path.num_forwards) == (2, 2, 8)
    assert path.stds[0] > path.stds[1] > 0


def test_without_sde_steps_the_path_is_the_ode(policy, example):
    conditions = policy.encode(example())
    x = start(policy, conditions, 1)
    plain = integrate(policy, [conditions], sampler=SamplerConfig(eta=0.9).spec, start=x)
    other = integrate(policy, [conditions], sampler=SamplerConfig(eta=0.1).spec, start=x)
    assert torch.equal(plain.final, other.final)
    assert plain.latents == ()


def test_the_window_is_one_a_group_and_keyed():
    config = SamplerConfig(num_steps=8, window=(1, 2, 3, 4), num_train_steps=2)
    drawn = {draw_window(config, seed=0, iteration=i, example_id="a") for i in range(40)}
    assert len(drawn) > 1
    assert all(len(w) == 2 and set(w) <= {1, 2, 3, 4} for w in drawn)
    assert draw_window(config, seed=3, iteration=1, example_id="a") == draw_window(
        config, seed=3, iteration=1, example_id="a"
    )


def test_an_image_depends_on_its_own_key_not_on_its_neighbours(policy, example):
    conditions = [policy.encode(example(name)) for name in "abcd"]
    spec = SamplerConfig().spec

    def images(order):
        batch = [conditions[i] for i in order]
        return render(policy, batch, sampler=spec, noise=keyed_noise(policy, batch, seed=0, purpose="test"))

    assert (images([0, 1, 2, 3])[1] == images([3, 2, 1, 0])[2]).all()


@pytest.mark.parametrize(
    "bad",
    [
        {"window": (0, 3)},
        {"window": ()},
        {"window": (1, 1)},
        {"num_train_steps": 4},
        {"eta": 0.0},
        {"eta": float("nan")},
        {"shared_prefix": True},
        {"num_steps": 1},
    ],
)
def test_a_sampler_that_cannot_work_is_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        SamplerConfig(**bad)
