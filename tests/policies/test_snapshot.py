"""Policies on disk."""

import pytest
import torch

from burnish.data.errors import CheckpointError
from burnish.data.records import SamplerSpec
from burnish.policies.digests import arrays_digest, base_digest, policy_digest
from burnish.policies.lora import AdapterConfig, add_adapter, export_state, trainable
from burnish.policies.snapshot import (
    load_adapter,
    load_base,
    save_adapter,
    save_base,
    snapshot_record,
)


def test_a_saved_base_is_the_same_policy(policy, tmp_path):
    digest = save_base(policy, tmp_path)
    again = load_base(tmp_path)
    assert base_digest(again.module) == digest
    assert again.config == policy.config
    assert not again.module.training


def test_an_exported_adapter_gives_the_same_velocity_in_plain_diffusers(policy, example, tmp_path):
    save_base(policy, tmp_path / "base")
    add_adapter(policy.module, AdapterConfig(rank=4, alpha=6.0))
    for k, parameter in enumerate(trainable(policy.module).values()):
        parameter.data.add_(0.02 + 0.001 * k)
    save_adapter(policy.module, tmp_path / "adapter")
    plain = load_base(tmp_path / "base")
    load_adapter(plain.module, tmp_path / "adapter")
    conditions = policy.encode(example())
    latents = torch.ones(2, *policy.latent_shape(conditions))
    arguments = (latents, torch.full((2,), 0.5), [conditions] * 2)
    difference = (policy.velocity(*arguments) - plain.velocity(*arguments)).abs().max()
    assert difference.item() <= 1e-6


def test_the_digest_sees_every_weight_and_the_base(policy):
    add_adapter(policy.module, AdapterConfig(rank=1, alpha=1.0, target_modules=("to_q",)))
    state = export_state(policy.module)
    digest = policy_digest("base", state)
    name = next(iter(state))
    changed = {**state, name: state[name] + 1e-7}
    assert len({digest, policy_digest("other", state), policy_digest("base", changed)}) == 3
    assert arrays_digest(dict(reversed(state.items())), prefix="base") == digest


def test_a_folder_without_a_policy_is_refused_by_name(tmp_path):
    with pytest.raises(CheckpointError, match=r"policy\.json"):
        load_base(tmp_path)


def test_a_snapshot_names_the_sampler_that_was_evaluated():
    record = snapshot_record(
        family="tiny",
        base="b",
        policy="p",
        adapter=AdapterConfig(),
        sampler=SamplerSpec("ode", 4),
        refiner={"margin": 0.5},
        weights="raw",
    )
    assert record["sampler"]["kind"] == "ode"
    assert record["adapter"]["alpha"] == 16.0
