"""Sampling without noise is the stock pipeline, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from burnish.data.records import SamplerSpec
from burnish.policies.sampling import integrate

STEPS = 3
SPEC = SamplerSpec("ode", STEPS, schedule="model")


@pytest.mark.parametrize(
    ("name", "references"),
    [("kontext", 0), *((name, count) for name in ("flux2", "qwen2509", "qwen2511") for count in (0, 1, 3))],
)
def test_sampling_without_noise_equals_the_stock_pipeline_step_by_step(
    tiny_models: Path, pipelines: Any, name: str, references: int
) -> None:
    policy, example = pipelines.policy_of(tiny_models, name), pipelines.example_of(references)
    conditions = policy.encode(example)
    start = pipelines.noise_of(policy, conditions)
    expected = pipelines.stock_steps(policy, example, num_steps=STEPS, start=start)
    assert len(expected) == STEPS
    for stop in range(1, STEPS + 1):
        path = integrate(policy, [conditions], sampler=SPEC, start=start, span=(0, stop))
        torch.testing.assert_close(path.final, expected[stop - 1].reshape(path.final.shape), atol=1e-5, rtol=0)
    assert float((path.final - start).abs().max()) > 0.1


def test_the_schedule_is_the_pipelines_own(tiny_models: Path, pipelines: Any) -> None:
    policy = pipelines.policy_of(tiny_models, "qwen2509")
    sigmas = policy.sigmas(4, policy.encode(pipelines.example_of(0)))
    assert sigmas.shape == (5,) and sigmas.dtype == np.float32
    assert sigmas[3] == pytest.approx(0.02, abs=1e-6) and sigmas[4] == 0.0
