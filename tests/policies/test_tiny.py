"""The tiny policy's contract."""

import numpy as np
import pytest
import torch

from burnish.data.errors import DataError
from burnish.policies.digests import base_digest
from burnish.policies.protocol import Policy
from burnish.policies.snapshot import new_policy
from burnish.policies.tiny import TinyConfig


def noise(policy, conditions, batch):
    size = batch * int(np.prod(policy.latent_shape(conditions)))
    return torch.linspace(-1, 1, size).reshape(batch, *policy.latent_shape(conditions))


def test_it_is_a_policy(policy):
    assert isinstance(policy, Policy)


def test_its_weights_are_a_function_of_the_seed_alone(policy):
    torch.manual_seed(5)
    again = new_policy(policy.config)
    other = new_policy(policy.config.model_copy(update={"init_seed": 1}))
    assert base_digest(again.module) == base_digest(policy.module) != base_digest(other.module)


def test_building_it_leaves_torch_random_state_alone(policy):
    before = torch.random.get_rng_state()
    new_policy(policy.config)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("references", [0, 1, 4])
def test_velocity_has_the_shape_of_the_latents(policy, example, references):
    conditions = policy.encode(example(references=references))
    latents = noise(policy, conditions, 2)
    velocity = policy.velocity(latents, torch.full((2,), 0.5), [conditions] * 2)
    assert velocity.shape == latents.shape == (2, 36, 48)
    assert velocity.isfinite().all()


def test_latents_of_an_image_decode_to_it(policy, example):
    one = example()
    conditions = policy.encode(one)
    image = torch.from_numpy(one.target)[None]
    decoded = policy.decode(policy.encode_image(image, conditions), conditions)
    torch.testing.assert_close(decoded, image, rtol=0, atol=1e-6)


def test_each_condition_is_seen(policy, example):
    base = example(references=1)
    latents = noise(policy, policy.encode(base), 1)

    def velocity(other):
        return policy.velocity(latents, torch.ones(1), [policy.encode(other)])

    first = velocity(base)
    assert not torch.equal(first, velocity(example("b")))
    assert not torch.equal(first, velocity(example(references=2)))
    assert not torch.equal(first, velocity(example(corner=8)))


def test_the_target_is_not_part_of_the_conditions(policy, example):
    from dataclasses import replace

    one = example()
    without = policy.encode(replace(one, target=None))
    for name, array in policy.encode(one).arrays.items():
        np.testing.assert_array_equal(array, without.arrays[name])


def test_reference_ids_start_at_the_edit_box_only_if_aligned(policy, example):
    aligned = policy.encode(example(corner=8)).arrays["ids"][-9:]
    plain = new_policy(TinyConfig(num_single_layers=0, aligned_references=False))
    assert aligned[0].tolist() == [2, 2, 2]
    assert plain.encode(example(corner=8)).arrays["ids"][-9].tolist() == [2, 0, 0]


def test_who_shares_the_batch_changes_no_byte(policy, example):
    mixed = [policy.encode(example(name)) for name in "abcd"]
    latents = noise(policy, mixed[0], 4)
    sigma = torch.full((4,), 0.5)
    whole = policy.velocity(latents, sigma, mixed)
    order = [2, 0, 3, 1]
    permuted = policy.velocity(latents[order], sigma, [mixed[i] for i in order])
    assert torch.equal(whole[order], permuted)


def test_an_image_off_the_patch_grid_is_refused(policy, example):
    with pytest.raises(DataError, match="multiples of the patch"):
        policy.encode(example(size=26))


def test_rotary_axes_must_add_up():
    with pytest.raises(ValueError, match="axes_dims_rope"):
        TinyConfig(axes_dims_rope=(4, 4, 4))
