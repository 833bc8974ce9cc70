"""What the learner asks of a training engine, and the process group that engines share.

An engine averages over its micro-batches and over ranks; the learner scales its loss so that this gives a plain sum.
Engines differ by rounding only: `TorchEngine` equals ZeRO-1/2 bit for bit on one rank. With `reduction: reproducible`
(see `reduction.py`) the number of ranks does not matter either.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.distributed as dist
from pydantic import BaseModel, ConfigDict, Field, model_validator

from burnish.data.errors import CheckpointError, ConfigError, Problem

MOMENTS = ("exp_avg", "exp_avg_sq")


class EngineConfig(BaseModel):
    """Which engine trains; the optimiser is each stage's own."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["deepspeed", "torch"] = Field(default="deepspeed", description="DeepSpeed, or plain torch")
    zero_stage: Literal[0, 1, 2, 3] = Field(
        default=1, description="what DeepSpeed shards over ranks: 0 nothing, 1 optimiser, 2 + gradients, 3 + weights"
    )
    persistence_threshold: int = Field(
        default=100_000, description="ZeRO-3 keeps parameters of fewer elements whole on every rank", ge=0
    )
    offload: Literal["none", "optimizer", "weights"] = Field(
        default="none",
        description="what waits in the host's memory: the optimiser's masters and moments (zero_stage 1 to 3), or the "
        "trained weights as well (zero_stage 3)",
    )
    reduction: Literal["fast", "reproducible"] = Field(
        default="fast",
        description="reproducible: gradients are summed in one fixed tree, so that 1, 2, 4 ... ranks give the same "
        "bytes; the torch engine or zero_stage 0 and 1",
    )

    @model_validator(mode="after")
    def _check(self) -> EngineConfig:
        least = {"none": 0, "optimizer": 1, "weights": 3}[self.offload]
        if least and (self.kind != "deepspeed" or self.zero_stage < least):
            raise ValueError(
                f"offload: got {self.offload} with {self.kind} and zero_stage {self.zero_stage}, "
                f"allowed with deepspeed and zero_stage >= {least}"
            )
        if self.reduction == "reproducible" and self.kind == "deepspeed" and self.zero_stage > 1:
            raise ValueError(
                f"zero_stage: got {self.zero_stage}, allowed 0 or 1 with reduction: reproducible "
                "(stages 2 and 3 add up gradients in their own order)"
            )
        return self


@dataclass(frozen=True)
class StepInfo:
    """What one optimiser step did.

    Args:
        grad_norm: norm before clipping; inf or nan where the step was skipped.
        lr: the learning rate it used.
        skipped: the gradient was not finite, so the parameters and moments are bit for bit what they were.
    """

    grad_norm: float
    lr: float
    skipped: bool


class Engine(Protocol):
    """Trains the parameters of a module that require gradients.

    Attributes:
        module: the module, its forward unchanged; under ZeRO-3 read weights through `trainable` only.
        num_micro: micro-batches an optimiser step.
    """

    module: torch.nn.Module
    num_micro: int

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of one micro-batch's scalar loss, divided by `num_micro`."""
        ...

    def step(self) -> StepInfo:
        """Average over ranks, clip, step; called after exactly `num_micro` backwards."""
        ...

    def trainable(self) -> dict[str, torch.Tensor]:
        """Whole float32 copies of the trained parameters, by name; every rank must call it."""
        ...

    def load_trainable(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Overwrite the trained parameters.

        Raises:
            CheckpointError: names or shapes differ.
        """
        ...

    def optimizer_state(self) -> dict[str, torch.Tensor]:
        """`exp_avg/<name>`, `exp_avg_sq/<name>` float32; `step` (taken) and `attempts` (with skipped), int64 []."""
        ...

    def load_optimizer_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Overwrite moments and counters, whatever engine, stage or rank count wrote them.

        Raises:
            CheckpointError: names or shapes differ.
        """
        ...

    def close(self) -> None:
        """Let go of hooks and buffers; the module keeps its weights, except under ZeRO-3."""
        ...


def join_ranks(*, rank: int = 0, world: int = 1, address: str | None = None, backend: str = "gloo") -> None:
    """Join the learners' process group; does nothing where this process is in it already.

    Args:
        rank, world: this process and how many there are.
        address: torch init method such as "tcp://host:port" or "file:///path"; one rank alone needs none.
        backend: "gloo" on CPU, "nccl" on CUDA.

    Raises:
        ConfigError: several ranks without an address.
    """
    if dist.is_initialized():
        assert dist.get_world_size() == world, f"process group has {dist.get_world_size()} ranks, not {world}"
    elif address is not None:
        dist.init_process_group(backend, init_method=address, rank=rank, world_size=world)
    elif world == 1:
        store = dist.HashStore()  # pyright: ignore[reportPrivateImportUsage]
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
    else:
        raise ConfigError(f"{world} learner ranks need an address to meet at")


def leave_ranks() -> None:
    """Leave the process group, if in one; DeepSpeed, where it is in use, has to forget it as well."""
    if dist.is_initialized():
        deepspeed = sys.modules.get("deepspeed.comm")
        chosen = deepspeed if deepspeed is not None and deepspeed.is_initialized() else dist
        chosen.destroy_process_group()


def check_num_micro(num_micro: int) -> None:
    """DeepSpeed divides gradients by the number of micro-batches; only a power of two divides exactly.

    Raises:
        ConfigError: it is not a power of two.
    """
    if num_micro < 1 or num_micro & (num_micro - 1):
        problem = Problem("micro-batches an update", str(num_micro), "a power of two", "change groups or micro_batch")
        raise ConfigError("The update does not divide into micro-batches.", [problem])


def check_names(wanted: Mapping[str, torch.Size], given: Mapping[str, torch.Tensor]) -> None:
    """Names and shapes must agree.

    Raises:
        CheckpointError: they do not.
    """
    wrong = sorted(wanted.keys() ^ given.keys())
    wrong += [n for n in sorted(wanted.keys() & given.keys()) if given[n].shape != wanted[n]]
    if wrong:
        raise CheckpointError(f"state does not fit this policy: {wrong[:5]}")


def state_shapes(parameters: Mapping[str, torch.Size]) -> dict[str, torch.Size]:
    """Shapes of `Engine.optimizer_state` for parameters of the given shapes."""
    moments = {f"{moment}/{name}": shape for moment in MOMENTS for name, shape in parameters.items()}
    return {**moments, "step": torch.Size([]), "attempts": torch.Size([])}
