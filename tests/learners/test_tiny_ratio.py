"""The real tiny transformer: what DeepSpeed holds in flat buffers computes the bytes of a freshly built model."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from burnish.data import seeding
from burnish.data.records import Example, Reference
from burnish.learners.engine import EngineConfig
from burnish.learners.engines import engine_factory
from burnish.learners.grpo import GrpoConfig, KlConfig
from burnish.learners.learner import Learner
from burnish.learners.optimizer import OptimizerConfig
from burnish.policies.lora import AdapterConfig, adapter_disabled, add_adapter, import_state
from burnish.policies.tiny import TinyConfig, TinyPolicy, build_transformer


def adapted():
    policy = TinyPolicy(build_transformer(TinyConfig()), TinyConfig())
    add_adapter(policy.module, AdapterConfig(rank=4, alpha=12.0))
    for name, parameter in policy.module.named_parameters():
        if ".lora_B." in name:
            parameter.data.copy_(torch.from_numpy(0.05 * seeding.normal(parameter.shape, 0, "b", name)))
    return policy


def drawn(index):
    image = seeding.generator(0, "image", index).random((3, 24, 24), dtype=np.float32)
    mask = np.zeros((1, 24, 24), np.float32)
    mask[:, 4:16, 8:20] = 1.0
    return Example(f"t{index}", "", image, mask, (Reference("detail", image[:, :12, :12].copy()),))


@pytest.mark.parametrize("stored", ["float32", "float16"])
def test_the_first_ratio_is_exactly_one_before_and_after_an_update(fakes, stored):
    sampler, policy = adapted(), adapted()
    config = GrpoConfig(kl=KlConfig(beta=0.1), updates_per_iteration=1, micro_batch=8)
    engine = EngineConfig(kind="deepspeed", zero_stage=1)
    factory = engine_factory(engine, OptimizerConfig(lr=1e-3), num_micro=2, total_steps=4)
    reference = partial(adapter_disabled, policy.module)
    learner = Learner(policy, factory, config, reference=reference, sample_batch=8)
    for iteration in range(2):
        assert import_state(sampler.module, learner.publish()) > 0
        kept = replace(fakes.SAMPLER, latent_dtype=stored)
        group = fakes.group(sampler, 0, size=16, batch=8, iteration=iteration, item=drawn(iteration), sampler=kept)
        assert group.trajectories[0].latents.dtype == stored
        metrics = learner.update(fakes.plan([group], iteration=iteration), group)
        assert metrics["drift/step_0"] == metrics["drift/step_2"] == 0.0 and "drift/step_1" not in metrics
        assert metrics["ratio_max_deviation"] == 0.0 and metrics["grad_norm"] > 0.0 and metrics["kl"] > 0.0
    learner.close()
