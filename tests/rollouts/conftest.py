"""A rollouter on a tiny policy whose adapter does something."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from burnish.data import seeding
from burnish.data.layout import DataConfig, SourceConfig
from burnish.data.records import PolicyVersion
from burnish.data.sources import make_source
from burnish.policies.digests import base_digest, policy_digest
from burnish.policies.lora import AdapterConfig, add_adapter, export_state
from burnish.policies.sampling import SamplerConfig
from burnish.policies.snapshot import new_policy
from burnish.policies.tiny import TinyConfig
from burnish.rollouts.rollouter import RolloutConfig, Rollouter

GROUP = 8
SAMPLER = {"num_steps": 4, "window": (0, 1, 2), "num_train_steps": 2}


@pytest.fixture(scope="session")
def published() -> Callable[[Rollouter, int], tuple[PolicyVersion, dict[str, np.ndarray]]]:
    """Weights as a learner would publish them after some iterations, and their version."""

    def publish(rollouter: Rollouter, number: int) -> tuple[PolicyVersion, dict[str, np.ndarray]]:
        state = export_state(rollouter.policy.module)
        drawn = {n: a + 0.05 * seeding.normal(a.shape, 0, "test-weights", number, n) for n, a in state.items()}
        return PolicyVersion(number, policy_digest(rollouter.base, drawn)), drawn

    return publish


@pytest.fixture
def make_rollouter() -> Callable[..., Rollouter]:
    """A fresh rollouter of 8 samples a group; sampler fields by name."""

    def make(
        *,
        batch: int = 4,
        lag: int = 0,
        seed: int = 0,
        fold: bool = False,
        wrap: Callable[[Any], Any] = lambda p: p,
        **sampler: Any,
    ):
        policy = new_policy(TinyConfig(num_layers=1, num_single_layers=1))
        digest = base_digest(policy.module)
        add_adapter(policy.module, AdapterConfig(rank=2, alpha=3.0))
        return Rollouter(
            wrap(policy),
            base=digest,
            source=make_source(DataConfig(sources=(SourceConfig(kind="text"),), box="free")),
            config=RolloutConfig(sample_batch=batch, lag=lag, fold_adapter=fold),
            sampler=SamplerConfig(**(SAMPLER | sampler)),
            group_size=GROUP,
            seed=seed,
        )

    return make
