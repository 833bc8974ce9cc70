"""A group is a pure function of (weights, seed, iteration, index), whatever was sampled before it."""

from collections import Counter

import numpy as np
import pytest

from burnish.data.errors import ConfigError, InfrastructureError, RefusedError
from burnish.data.records import PolicyVersion
from burnish.policies.lora import export_state
from burnish.policies.sampling import SamplerConfig, draw_window

CALLS = [(0, 0), (0, 16), (0, 33), (1, 0), (2, 48)]


class Counting:
    """A policy that notes what it is asked for."""

    def __init__(self, policy):
        self.policy, self.calls, self.rows = policy, Counter(), []

    def __getattr__(self, name):
        return getattr(self.policy, name)

    def encode(self, example):
        self.calls["encode"] += 1
        return self.policy.encode(example)

    def velocity(self, latents, sigma, conditions):
        self.rows.append(len(latents))
        return self.policy.velocity(latents, sigma, conditions)


@pytest.fixture
def ready(make_rollouter, published):
    """A rollouter that holds version 1, and the version."""

    def make(**options):
        rollouter = make_rollouter(**options)
        version, state = published(rollouter, 1)
        rollouter.load(version, state)
        return rollouter, version

    return make


def digests(rollouter, version, calls):
    return {call: rollouter.sample(*call, version)[0].samples_digest for call in calls}


def test_any_order_of_calls_gives_the_same_bytes(ready):
    forward = digests(*ready(), CALLS)
    assert digests(*ready(), CALLS[::-1]) == forward
    assert digests(*ready(), [CALLS[2], CALLS[2], CALLS[0]]) == {c: forward[c] for c in (CALLS[2], CALLS[0])}
    assert len(set(forward.values())) == len(CALLS)


def test_another_seed_or_other_weights_give_other_samples(ready, published):
    rollouter, version = ready()
    found = {
        rollouter.sample(0, 0, version)[0].samples_digest,
        ready(seed=1)[0].sample(0, 0, version)[0].samples_digest,
    }
    newer, state = published(rollouter, 2)
    rollouter.load(newer, state)
    assert len({*found, rollouter.sample(0, 0, newer)[0].samples_digest}) == 3


def test_every_forward_has_the_recipes_batch_and_conditions_are_encoded_once(ready):
    rollouter, version = ready(wrap=Counting)
    summary, group = rollouter.sample(0, 0, version)
    assert rollouter.policy.calls["encode"] == 1
    assert rollouter.policy.rows == [4] * (4 * 2)
    assert summary.num_forwards == sum(rollouter.policy.rows) == 4 * len(group.trajectories)


def test_a_folded_adapter_samples_the_same_to_rounding_and_forgets_older_weights(ready, published):
    (plain, version), (folded, _) = ready(), ready(fold=True)
    first = folded.sample(0, 0, version)
    wanted = plain.sample(0, 0, version)[1]
    for found, own in zip(first[1].trajectories, wanted.trajectories, strict=True):
        np.testing.assert_allclose(found.latents[0], own.latents[0], atol=1e-5)
        assert np.abs(np.exp(found.log_probs - own.log_probs) - 1.0).max() < 1e-5
    newer, state = published(folded, 2)
    folded.load(newer, state)
    other = folded.sample(0, 0, newer)[0].samples_digest
    folded.load(version, export_state(plain.policy.module))
    assert folded.sample(0, 0, version)[0].samples_digest == first[0].samples_digest != other


def test_latents_travel_in_the_storage_type(ready):
    rollouter, version = ready(latent_dtype="float16")
    one = rollouter.sample(0, 0, version)[1].trajectories[0]
    assert one.latents.dtype == one.next_latents.dtype == np.float16
    assert one.log_probs.dtype == one.image.dtype == np.float32 and one.sampler.latent_dtype == "float16"


def test_another_batch_shape_changes_samples_by_rounding_only(ready):
    images = []
    for batch in (2, 8):
        rollouter, version = ready(batch=batch)
        images.append(np.stack([t.image for t in rollouter.sample(0, 0, version)[1].trajectories]))
    np.testing.assert_allclose(images[0], images[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("batch", "step"), [(8, 1), (8, 2), (4, 2)])
def test_a_shared_prefix_costs_one_row_a_forward_up_to_the_first_drawn_step(ready, batch, step):
    shared = {"shared_initial_noise": True, "window": (step,), "num_train_steps": 1}
    rollouter, version = ready(wrap=Counting, batch=batch, shared_prefix=True, **shared)
    summary, group = rollouter.sample(0, 0, version)
    assert summary.num_forwards == sum(rollouter.policy.rows) == step * (8 // batch) + (4 - step) * 8
    plain, version = ready(batch=batch, **shared)
    for one, other in zip(group.trajectories, plain.sample(0, 0, version)[1].trajectories, strict=True):
        np.testing.assert_allclose(one.image, other.image, rtol=0, atol=1e-5)


def test_a_groups_samples_start_apart_and_share_one_window(ready):
    rollouter, version = ready()
    groups = [rollouter.sample(0, index, version)[1] for index in (0, 16, 32, 48)]
    assert all(len({t.steps for t in g.trajectories}) == 1 for g in groups)
    assert len({g.trajectories[0].steps for g in groups}) > 1
    assert len({t.noise_key for g in groups for t in g.trajectories}) == 4 * 8
    config = SamplerConfig(num_steps=4, window=(0, 1, 2), num_train_steps=2)
    for group in groups:
        drawn = draw_window(config, seed=0, iteration=0, example_id=group.example.id)
        assert group.trajectories[0].steps == drawn


def test_a_trajectory_says_which_weights_made_it_and_keeps_its_steps(ready):
    rollouter, version = ready()
    _, group = rollouter.sample(3, 0, version)
    for number, row in enumerate(group.trajectories):
        assert (row.policy, row.sample_index) == (version, number)
        assert row.latents.shape == row.next_latents.shape == (2, *row.latents.shape[1:])
        assert row.log_probs.shape == row.stds.shape == (2,)
        assert not np.array_equal(row.latents, row.next_latents)


def test_a_delivery_says_what_is_held_and_a_wrong_one_is_refused(make_rollouter, published):
    rollouter = make_rollouter()
    version, state = published(rollouter, 1)
    assert rollouter.load(version, state) == (len(state), version.digest)
    with pytest.raises(RefusedError, match="arrived wrong"):
        rollouter.load(PolicyVersion(2, "0" * 64), state)
    name = next(iter(state))
    flipped = state | {name: state[name] + np.float32(1e-7)}
    with pytest.raises(RefusedError, match="arrived wrong"):
        rollouter.load(PolicyVersion(2, version.digest), flipped)
    with pytest.raises(ConfigError, match="do not fit"):
        rollouter.load(version, {})
    rollouter.use(version)
    assert export_state(rollouter.policy.module).keys() == state.keys()
    assert all(np.array_equal(value, state[name]) for name, value in export_state(rollouter.policy.module).items())


@pytest.mark.parametrize("lag", [0, 2])
def test_the_newest_versions_are_held_and_older_ones_are_asked_for_again(make_rollouter, published, lag):
    rollouter = make_rollouter(lag=lag)
    versions = []
    for number in range(5):
        version, state = published(rollouter, number)
        rollouter.load(version, state)
        versions.append(version)
    held = versions[-(lag + 1) :]
    assert [rollouter.sample(0, 0, v)[1].policy for v in held] == held
    with pytest.raises(InfrastructureError, match=f"asked for policy {3 - lag}"):
        rollouter.use(versions[-(lag + 2)])


def test_a_version_sampled_later_gives_the_bytes_it_gave_when_it_was_newest(make_rollouter, published):
    rollouter = make_rollouter(lag=1)
    old, state = published(rollouter, 1)
    rollouter.load(old, state)
    before = rollouter.sample(0, 0, old)[0].samples_digest
    newer, state = published(rollouter, 2)
    rollouter.load(newer, state)
    assert rollouter.sample(0, 0, newer)[0].samples_digest != before
    assert rollouter.sample(0, 0, old)[0].samples_digest == before
