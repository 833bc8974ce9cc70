"""Folding is for float32 bases only."""

import pytest
import torch

from burnish.data.errors import ConfigError
from burnish.policies.folding import Folding
from burnish.policies.lora import AdapterConfig, add_adapter, trainable


def test_folding_keeps_who_is_trained_and_the_velocity(policy, example):
    add_adapter(policy.module, AdapterConfig(rank=2, alpha=5.0))
    for parameter in trainable(policy.module).values():
        parameter.data.normal_(0.0, 0.2, generator=torch.Generator().manual_seed(0))
    conditions = policy.encode(example())
    latents, sigma = torch.ones(1, *policy.latent_shape(conditions)), torch.tensor([0.5])
    names, wanted = set(trainable(policy.module)), policy.velocity(latents, sigma, [conditions])
    Folding(policy.module).fold()
    assert set(trainable(policy.module)) == names
    torch.testing.assert_close(policy.velocity(latents, sigma, [conditions]), wanted, atol=1e-5, rtol=0)


def test_a_base_of_another_type_is_refused(policy):
    add_adapter(policy.module.to(torch.bfloat16), AdapterConfig(rank=2))
    with pytest.raises(ConfigError, match="folding rounds"):
        Folding(policy.module)
