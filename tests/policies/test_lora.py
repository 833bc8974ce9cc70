"""Adapters: keyed, reversible, delivered whole."""

import pytest
import torch

from burnish.data.errors import ConfigError
from burnish.policies.lora import AdapterConfig, adapter_disabled, add_adapter, export_state, import_state, trainable
from burnish.policies.snapshot import new_policy

SMALL = AdapterConfig(rank=2, alpha=3.0, target_modules=("to_q", "proj_out"))


def velocity(policy, one):
    conditions = policy.encode(one)
    latents = torch.ones(2, *policy.latent_shape(conditions))
    return policy.velocity(latents, torch.full((2,), 0.5), [conditions] * 2).detach()


def adapted(policy):
    add_adapter(policy.module, SMALL)
    return policy


def test_a_fresh_adapter_changes_nothing_and_a_trained_one_does(policy, example):
    base = velocity(policy, example())
    assert torch.equal(velocity(adapted(policy), example()), base)
    for parameter in trainable(policy.module).values():
        parameter.data.add_(0.05)
    assert not torch.equal(velocity(policy, example()), base)
    with adapter_disabled(policy.module):
        assert torch.equal(velocity(policy, example()), base)


def test_only_the_adapter_is_trainable(policy):
    adapted(policy)
    assert trainable(policy.module)
    assert all(".lora_" in name for name in trainable(policy.module))


def test_two_processes_draw_the_same_adapter(policy):
    torch.manual_seed(1)
    first = export_state(adapted(policy).module)
    torch.manual_seed(2)
    second = export_state(adapted(new_policy(policy.config)).module)
    assert first.keys() == second.keys()
    assert all((first[name] == second[name]).all() for name in first)


def test_a_published_state_arrives_whole(policy):
    source, receiver = adapted(policy), adapted(new_policy(policy.config))
    for parameter in trainable(source.module).values():
        parameter.data.add_(0.1)
    state = export_state(source.module)
    assert import_state(receiver.module, state) == len(state)
    assert all((state[n] == a).all() for n, a in export_state(receiver.module).items())


@pytest.mark.parametrize("damage", ["missing", "foreign", "shape"])
def test_a_state_that_does_not_fit_binds_nothing(policy, damage):
    adapted(policy)
    state, before = export_state(policy.module), export_state(policy.module)
    name = next(iter(state))
    state = {n: a + 1 for n, a in state.items()}
    state |= {"missing": {}, "foreign": {"x": state[name]}, "shape": {name: state[name][:1]}}[damage]
    if damage == "missing":
        del state[name]
    with pytest.raises(ConfigError, match="do not fit"):
        import_state(policy.module, state)
    assert all((before[n] == a).all() for n, a in export_state(policy.module).items())


def test_a_target_that_names_no_layer_is_refused(policy):
    with pytest.raises(ConfigError, match="no_such_layer"):
        add_adapter(policy.module, AdapterConfig(target_modules=("to_q", "no_such_layer")))
