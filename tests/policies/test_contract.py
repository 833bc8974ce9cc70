"""What every policy family keeps; a new family joins by an entry in `pipelines.CASES` and its name here.

"worded" is the family that docs/extending/policies.md adds.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from burnish.data.errors import DataError
from burnish.data.records import SamplerSpec
from burnish.platform.learning import velocity_difference
from burnish.policies.digests import base_digest
from burnish.policies.families import FAMILIES
from burnish.policies.lora import AdapterConfig, add_adapter, add_reference, reference_active, trainable
from burnish.policies.protocol import HasGrid, HasGuidance, HasPrompt, HasSchedule, Policy
from burnish.policies.refiner import Refiner
from burnish.policies.sampling import integrate
from burnish.policies.snapshot import adapted_digest, load_adapter, load_base, save_adapter, save_base
from burnish.policies.steps import transition

NAMES = ("kontext", "flux2", "qwen2509", "qwen2511")
EVERY = (*NAMES, "tiny", "worded")
ADAPTER = AdapterConfig(rank=4, alpha=6.0, target_modules=("to_q", "to_v", "to_out.0"))
SDE = SamplerSpec("flow_sde", 3, eta=0.7, schedule="model")


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=EVERY)
def anyone(request: pytest.FixtureRequest, tiny_models: Path, pipelines: Any, worded: Any) -> Any:
    """A maker of the same policy, for every family."""
    return lambda: pipelines.policy_of(tiny_models, request.param)


def adapted(policy: Any) -> Any:
    """The policy with an adapter that changes something."""
    add_adapter(policy.module, ADAPTER)
    for key, parameter in trainable(policy.module).items():
        if ".lora_B." in key:
            parameter.data = torch.linspace(-0.3, 0.3, parameter.numel()).reshape(parameter.shape)
    return policy


def test_it_is_a_policy(anyone: Any) -> None:
    assert isinstance(anyone(), Policy)


def test_a_pretrained_one_has_a_schedule_and_guidance(tiny_models: Path, pipelines: Any, name: str) -> None:
    policy = pipelines.policy_of(tiny_models, name)
    assert isinstance(policy, HasSchedule) and isinstance(policy, HasGuidance) and isinstance(policy, HasPrompt)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_velocity_has_the_shape_of_the_latents(anyone: Any, pipelines: Any, count: int) -> None:
    policy = anyone()
    conditions = policy.encode(pipelines.example_of(count, reference_size=(32, 48)))
    latents = pipelines.noise_of(policy, conditions).expand(2, -1, -1)
    velocity = policy.velocity(latents, torch.full((2,), 0.5), [conditions] * 2)
    assert velocity.shape == latents.shape and velocity.dtype is torch.float32


def test_every_reference_changes_the_velocity(anyone: Any, pipelines: Any) -> None:
    policy = anyone()
    few, more = (policy.encode(pipelines.example_of(n)) for n in (1, 2))
    latents, sigma = pipelines.noise_of(policy, few), torch.tensor([0.5])
    assert not torch.equal(policy.velocity(latents, sigma, [few]), policy.velocity(latents, sigma, [more]))


def test_an_example_without_an_image_is_generated_or_refused(anyone: Any, pipelines: Any) -> None:
    policy = anyone()
    if FAMILIES[policy.family].needs_image:
        with pytest.raises(DataError, match="'one' has none"):
            policy.encode(pipelines.example_of(2, image=False))
        return
    conditions = policy.encode(pipelines.example_of(2, image=False))
    latents = pipelines.noise_of(policy, conditions)
    assert policy.decode(policy.velocity(latents, torch.ones(1), [conditions]), conditions).shape == (1, 3, 64, 64)


def test_the_target_is_no_part_of_the_conditions(anyone: Any, pipelines: Any) -> None:
    policy, example = anyone(), pipelines.example_of(1)
    one, other = policy.encode(example), policy.encode(replace(example, target=None))
    assert all(np.array_equal(one.arrays[key], other.arrays[key]) for key in one.arrays)


def test_a_mask_on_the_grid_is_the_share_of_its_pixels(tiny_models: Path, pipelines: Any, name: str) -> None:
    policy, example = pipelines.policy_of(tiny_models, name), pipelines.example_of(0)
    assert isinstance(policy, HasGrid)
    found, region = policy.on_grid(example.mask), policy.encode(example).arrays["region"]
    assert found.shape == region.shape and found.dtype == np.float32
    assert np.array_equal(found > 0, region > 0) and abs(found.mean() - example.mask.mean()) < 1e-6
    assert np.array_equal(policy.on_grid(np.ones_like(example.mask)), np.ones_like(region))


def test_the_region_marks_the_tokens_under_the_mask(anyone: Any, pipelines: Any) -> None:
    policy = anyone()
    region = policy.encode(pipelines.example_of(0)).arrays["region"]
    side = int(region.shape[0] ** 0.5)
    expected = np.zeros((side, side))
    expected[side // 4 : side * 3 // 4, side // 4 : side * 3 // 4] = 1
    assert np.array_equal(region.max(axis=1).reshape(side, side), expected)


def test_rows_do_not_know_who_shares_their_batch(anyone: Any, pipelines: Any) -> None:
    policy = anyone()
    conditions = policy.encode(pipelines.example_of(1))
    latents = torch.cat([pipelines.noise_of(policy, conditions, seed=seed) for seed in range(4)])
    with torch.inference_mode():
        straight = policy.velocity(latents, torch.full((4,), 0.5), [conditions] * 4)
        turned = policy.velocity(latents.flip(0), torch.full((4,), 0.5), [conditions] * 4).flip(0)
    assert torch.equal(straight, turned)


def test_another_process_replays_the_log_probability_exactly_for_every_family(anyone: Any, pipelines: Any) -> None:
    assert_replayed(adapted(anyone()), adapted(anyone()), pipelines)


def test_the_conditions_carry_the_instruction_where_it_is_read(anyone: Any, pipelines: Any) -> None:
    policy, example = anyone(), pipelines.example_of(1)
    one, other = policy.encode(example), policy.encode(replace(example, instruction="Remove the letters."))
    same = all(np.array_equal(one.arrays[key], other.arrays[key]) for key in one.arrays)
    assert same == (policy.family == "tiny")


def test_a_refiner_refuses_an_instruction_that_would_be_cut(tiny_models: Path, pipelines: Any, name: str) -> None:
    policy, example = pipelines.policy_of(tiny_models, name), pipelines.example_of(1)
    most = policy.config.max_sequence_length
    refiner = Refiner(policy, replace(SDE, kind="ode", eta=0.0))
    assert policy.prompt_tokens(example.instruction)[0] <= most
    refiner.encode(example)
    with pytest.raises(DataError, match=rf"instruction: got [0-9]+ tokens, allowed at most {most} \(shorten it\)"):
        refiner.encode(replace(example, instruction="细" * (most + 1)))


def test_a_base_comes_back_with_its_weights(anyone: Any, tmp_path: Path) -> None:
    policy = anyone()
    digest = save_base(policy, tmp_path)
    loaded = load_base(tmp_path)
    assert type(loaded) is type(policy) and base_digest(loaded.module) == digest and not loaded.module.training


@pytest.mark.parametrize("dtype", ["bfloat16"])
def test_another_process_replays_it_exactly_in_bfloat16(
    tiny_models: Path, pipelines: Any, name: str, dtype: str
) -> None:
    sampler = adapted(pipelines.policy_of(tiny_models, name, dtype=dtype))
    learner = adapted(pipelines.policy_of(tiny_models, name, dtype=dtype))
    assert_replayed(sampler, learner, pipelines)


def assert_replayed(sampler: Any, learner: Any, pipelines: Any) -> None:
    """What the sampler drew has the same log-probability for the learner, bit for bit."""
    spec = SDE if isinstance(sampler, HasSchedule) else replace(SDE, schedule="static")
    conditions = sampler.encode(pipelines.example_of(1))
    start = pipelines.noise_of(sampler, conditions)
    path = integrate(
        sampler, [conditions], sampler=spec, start=start, sde_steps=(0, 1), step_noise=lambda step: start.flip(1)
    )
    for place in (0, 1):
        replayed = replayed_log_prob(learner, conditions, path, place)
        assert torch.equal(replayed, path.log_probs[place])


def replayed_log_prob(policy: Any, conditions: Any, path: Any, place: int) -> torch.Tensor:
    """Log-probability of a trained step, with gradient on, as the learner computes it."""
    latents, levels = path.latents[place].clone(), [float(s) for s in path.sigmas]
    sigma = torch.full((latents.shape[0],), levels[place], dtype=torch.float32)
    step = transition(
        policy.velocity(latents, sigma, [conditions]),
        latents,
        sigma=levels[place],
        sigma_next=levels[place + 1],
        sigma_guard=levels[1],
        sampler=SDE,
        given=path.next_latents[place].clone(),
    )
    assert step.log_prob.requires_grad
    return step.log_prob.detach()


def test_the_frozen_copy_equals_the_adapter_until_that_moves(anyone: Any, pipelines: Any) -> None:
    policy = adapted(anyone())
    before = {key: p.requires_grad for key, p in policy.module.named_parameters()}
    add_reference(policy.module, ADAPTER)
    conditions = policy.encode(pipelines.example_of(1))
    latents, sigma = pipelines.noise_of(policy, conditions), torch.tensor([0.5])
    gap = lambda: policy.velocity(latents, sigma, [conditions]) - reference_velocity(policy, latents, sigma, conditions)  # noqa: E731
    assert float(gap().detach().abs().max()) == 0.0
    next(iter(trainable(policy.module).values())).data.add_(0.5)
    gap().square().mean().backward()
    assert any(float(p.grad.abs().max()) > 0.0 for p in trainable(policy.module).values() if p.grad is not None)
    after = {key: p.requires_grad for key, p in policy.module.named_parameters() if ".reference." not in key}
    assert after == before


def reference_velocity(policy: Any, latents: torch.Tensor, sigma: torch.Tensor, conditions: Any) -> torch.Tensor:
    """Velocity of the frozen copy."""
    with torch.no_grad(), reference_active(policy.module):
        return policy.velocity(latents, sigma, [conditions])


def test_the_exported_adapter_works_in_the_stock_pipeline(
    tiny_models: Path, pipelines: Any, name: str, tmp_path: Path
) -> None:
    policy, stock = adapted(pipelines.policy_of(tiny_models, name)), pipelines.policy_of(tiny_models, name)
    conditions = policy.encode(pipelines.example_of(1))
    latents, sigma = pipelines.noise_of(policy, conditions), torch.tensor([0.5])
    wanted = policy.velocity(latents, sigma, [conditions]).detach()
    bare = stock.velocity(latents, sigma, [conditions])
    save_adapter(policy.module, tmp_path)
    stock.pipeline.load_lora_weights(tmp_path, weight_name="pytorch_lora_weights.safetensors", use_safetensors=True)
    torch.testing.assert_close(stock.velocity(latents, sigma, [conditions]).detach(), wanted, atol=1e-5, rtol=0)
    assert float((wanted - bare).abs().max()) > 1e-3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_loaded_adapter_is_the_one_that_was_trained_to_the_byte(
    tiny_models: Path, pipelines: Any, name: str, dtype: str, tmp_path: Path
) -> None:
    policy = adapted(pipelines.policy_of(tiny_models, name, dtype=dtype))
    (tmp_path / "base").mkdir()
    save_base(policy, tmp_path / "base")
    save_adapter(policy.module, tmp_path / "adapter")
    plain = load_base(tmp_path / "base")
    load_adapter(plain.module, tmp_path / "adapter")
    assert adapted_digest(plain.module) == adapted_digest(policy.module)
    assert velocity_difference(policy, plain, pipelines.example_of(1)) == 0.0


def test_a_base_names_the_pipeline_and_is_refused_once_that_changed(
    tiny_models: Path, pipelines: Any, tmp_path: Path, name: str
) -> None:
    policy = pipelines.policy_of(tiny_models, name)
    digest = save_base(adapted(policy), tmp_path)
    loaded = load_base(tmp_path)
    assert base_digest(loaded.module) == digest and not list(tmp_path.glob("**/*.safetensors"))
    save_adapter(policy.module, tmp_path)
    load_adapter(loaded.module, tmp_path)
    assert base_digest(loaded.module) == digest
