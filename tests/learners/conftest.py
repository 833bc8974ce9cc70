"""Fixtures of the learners' tests."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from burnish.learners.engine import EngineConfig, leave_ranks
from burnish.learners.engines import engine_factory
from burnish.learners.grpo import GrpoConfig, KlConfig
from burnish.learners.learner import Learner
from burnish.learners.optimizer import OptimizerConfig


@pytest.fixture(scope="session")
def fakes() -> ModuleType:
    """The module `fakes.py` beside this file."""
    spec = importlib.util.spec_from_file_location("learner_fakes", Path(__file__).parent / "fakes.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", autouse=True)
def _process_group() -> Iterator[None]:
    yield
    leave_ranks()


@pytest.fixture
def make_learner(fakes: ModuleType) -> Callable[..., Learner]:
    """A learner on a fake policy: GRPO fields by name, engine kind and stage, learning rate."""

    def make(*, policy: Any = None, kind: str = "torch", stage: int = 1, num_micro: int = 1, lr: float = 0.02, **grpo):
        policy = policy or fakes.FakePolicy()
        grpo = {"kl": KlConfig(beta=0.1), "updates_per_iteration": 2, "micro_batch": 4, "clip_low": 0.2} | grpo
        config = GrpoConfig(clip_high=0.2, optimizer=OptimizerConfig(lr=lr, grad_clip=0.05, warmup=2), **grpo)
        engine = EngineConfig(kind=kind, zero_stage=stage, persistence_threshold=0)
        factory = engine_factory(engine, config.optimizer, num_micro=num_micro, total_steps=20)
        reference = partial(fakes.adapter_off, policy.module)
        return Learner(policy, factory, config, reference=reference, sample_batch=4)

    return make
