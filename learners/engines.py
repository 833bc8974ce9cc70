"""The table of engines."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from burnish.data.errors import ConfigError, Problem
from burnish.learners.deepspeed_engine import DeepSpeedEngine
from burnish.learners.engine import Engine, EngineConfig
from burnish.learners.optimizer import OptimizerConfig
from burnish.learners.torch_engine import TorchEngine

EngineFactory = Callable[[torch.nn.Module], Engine]
ENGINES: dict[str, Callable[..., Engine]] = {"deepspeed": DeepSpeedEngine, "torch": TorchEngine}


def engine_factory(
    config: EngineConfig,
    optimizer: OptimizerConfig,
    *,
    num_micro: int,
    total_steps: int,
    rank: int = 0,
    world: int = 1,
) -> EngineFactory:
    """What a trainer is given: module -> engine.

    Args:
        config: which engine.
        optimizer: AdamW and its schedule.
        num_micro: micro-batches of this rank an optimiser step, a power of two (`grpo_micro_batches`,
            `sft_micro_batches`).
        total_steps: optimiser steps of the whole stage.
        rank, world: this process and how many there are.
    """
    make = ENGINES[config.kind]
    return partial(
        make,
        config=config,
        optimizer=optimizer,
        num_micro=num_micro,
        total_steps=total_steps,
        rank=rank,
        world=world,
    )


def check_unsplit(module: torch.nn.Module, config: EngineConfig) -> None:
    """Refuse ZeRO-3 where it would split a tensor: bases, digests and adapters are read from whole ones.

    Raises:
        ConfigError: a tensor, trained or frozen, has more elements than `persistence_threshold`.
    """
    largest = max(parameter.numel() for parameter in module.parameters())
    if config.kind == "deepspeed" and config.zero_stage == 3 and largest > config.persistence_threshold:
        got = f"3 with a tensor of {largest} elements"
        allowed = f"0 to 2, or persistence_threshold >= {largest}"
        raise ConfigError("the engine is refused", [Problem("learners.engine.zero_stage", got, allowed)])
