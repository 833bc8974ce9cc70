"""The DeepSpeed engine: ZeRO 0 to 3 around torch's AdamW, nothing compiled at run time.

State goes in and out by parameter name, whole and float32, so a checkpoint knows neither the stage nor the rank count.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch

from burnish.learners.engine import (
    MOMENTS,
    EngineConfig,
    StepInfo,
    check_names,
    check_num_micro,
    join_ranks,
    state_shapes,
)
from burnish.learners.optimizer import OptimizerConfig, adamw, blank_state, clip_gradients, gradient_norm
from burnish.learners.reduction import TreeReduction, surrogate_loss


def import_deepspeed(device: torch.device) -> Any:
    """Import DeepSpeed for a device with its run-time compilation off and its log quiet.

    DeepSpeed picks its accelerator at import, and its shared-memory communicator would be compiled (90 s, and a lock
    between processes) before the first collective: on CPU plain gloo serves.
    """
    os.environ.setdefault("LOCAL_RANK", "0")
    if device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    return deepspeed


class _Carrier(torch.nn.Module):
    """Shows DeepSpeed the parameters, and hands it the loss that the policy computed.

    The policy calls its module itself, so DeepSpeed's own forward, which prepares a backward, is given the loss.
    """

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, loss: torch.Tensor) -> torch.Tensor:
        return loss


class DeepSpeedEngine:
    """`Engine` over DeepSpeed; see `learners/engine.py`.

    Args:
        module: its parameters that require gradients are trained.
        config: ZeRO stage.
        optimizer: AdamW and its schedule.
        num_micro: micro-batches a step, a power of two.
        total_steps: steps of the whole stage, for the learning rate.
        rank, world: this process and how many there are; several ranks must have called `join_ranks`.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        config: EngineConfig,
        optimizer: OptimizerConfig,
        *,
        num_micro: int,
        total_steps: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        check_num_micro(num_micro)
        self._parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self._shapes = {n: p.shape for n, p in self._parameters.items()}
        device = next(iter(self._parameters.values())).device
        self._deepspeed = import_deepspeed(device)
        join_ranks(rank=rank, world=world, backend="gloo" if device.type == "cpu" else "nccl")
        self.module = module
        self.num_micro = num_micro
        self._rank, self._world = rank, world
        self._stage = config.zero_stage
        self._config = optimizer
        self._total_steps = total_steps
        self._tree: TreeReduction | None = None
        if config.reduction == "reproducible":
            self._tree = TreeReduction(self._parameters, num_micro=num_micro, rank=rank, world=world)
        self._engine: Any = self._deepspeed.initialize(
            model=_Carrier(module),
            optimizer=adamw(self._parameters.values(), optimizer),
            config=_settings(config, optimizer, num_micro),
            dist_init_required=False,
        )[0]
        self._inner = self._engine.optimizer if self._stage == 0 else self._engine.optimizer.optimizer
        self._blank_moments()
        self._attempts = 0
        self._seen = 0

    def _masters(self) -> list[torch.Tensor]:
        """The tensors that AdamW really steps: parameters, or this rank's flat float32 partitions."""
        if self._stage == 0:
            return list(self._parameters.values())
        zero = self._engine.optimizer
        return list(zero.fp32_partitioned_groups_flat if self._stage == 3 else zero.single_partition_of_fp32_groups)

    def _blank_moments(self) -> None:
        """Give AdamW its state before the first step, so that state can be read and written at any time."""
        for master in self._masters():
            self._inner.state[master] = blank_state(master)
        if self._stage in (1, 2):
            self._engine.optimizer._lazy_init_hp_params_optimizer_state()

    def backward(self, loss: torch.Tensor) -> None:
        """See `Engine.backward`."""
        self._seen += 1
        if self._tree is not None:
            self._tree.add(loss)
            return
        self._engine.set_gradient_accumulation_boundary(self._seen == self.num_micro)
        self._engine.backward(self._engine(loss))

    def step(self) -> StepInfo:
        """See `Engine.step`; ZeRO skips a step with a bad gradient by itself, stage 0 is helped."""
        assert self._seen == self.num_micro, f"{self._seen} micro-batches of {self.num_micro}"
        lr = self._config.lr_at(self._attempts, total_steps=self._total_steps)
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
        norm = self._step_reduced() if self._tree is not None else self._step_averaged()
        self._attempts, self._seen = self._attempts + 1, 0
        return StepInfo(float(norm), lr, not bool(torch.isfinite(norm)))

    def _step_averaged(self) -> torch.Tensor:
        """DeepSpeed has averaged over ranks: clip and step; returns the norm before clipping."""
        norm = self._clip_stage_0() if self._stage == 0 else None
        self._engine.step()
        return torch.as_tensor(self._engine.get_global_grad_norm()) if norm is None else norm

    def _step_reduced(self) -> torch.Tensor:
        """Hand the tree's sum, clipped, to DeepSpeed from rank 0 alone: its own sum over ranks then adds zeros."""
        assert self._tree is not None
        gradients = self._tree.total()
        norm = gradient_norm(gradients)
        if torch.isfinite(norm):
            clip_gradients(gradients, norm, max_norm=self._config.grad_clip)
            share = float(self._world) if self._rank == 0 else 0.0
            loss = surrogate_loss(gradients, list(self._parameters.values()), share=share)
            self._engine.backward(self._engine(loss))
            self._engine.step()
        return norm

    def _clip_stage_0(self) -> torch.Tensor:
        """Clip as the other stages do; drop a bad gradient, so that AdamW finds nothing to step."""
        gradients = [p.grad for p in self._parameters.values() if p.grad is not None]
        norm = gradient_norm(gradients)
        if torch.isfinite(norm):
            clip_gradients(gradients, norm, max_norm=self._config.grad_clip)
        else:
            self._engine.zero_grad()
        return norm

    def trainable(self) -> dict[str, torch.Tensor]:
        """See `Engine.trainable`."""
        from deepspeed.utils import safe_get_full_fp32_param

        get: Any = safe_get_full_fp32_param
        if self._stage == 0:
            return {n: p.detach().float().cpu().clone() for n, p in self._parameters.items()}
        return {n: get(p).cpu().clone() for n, p in self._parameters.items()}

    def load_trainable(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """See `Engine.load_trainable`."""
        check_names(self._shapes, tensors)
        with self._whole(), torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.data.copy_(tensors[name])
        if self._stage > 0:
            self._engine.optimizer.refresh_fp32_params()

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Parameters with their full shape; what is written to them is scattered again afterwards (ZeRO-3)."""
        if self._stage < 3:
            yield
            return
        with self._deepspeed.zero.GatheredParameters(list(self._parameters.values()), modifier_rank=0):
            yield

    def optimizer_state(self) -> dict[str, torch.Tensor]:
        """See `Engine.optimizer_state`."""
        moments = {f"{m}/{n}": self._moment(p, m).cpu().clone() for m in MOMENTS for n, p in self._parameters.items()}
        taken = int(self._inner.state[self._masters()[0]]["step"])
        return {**moments, "step": torch.tensor(taken), "attempts": torch.tensor(self._attempts)}

    def _moment(self, parameter: torch.nn.Parameter, moment: str) -> torch.Tensor:
        from deepspeed.utils import safe_get_full_optimizer_state

        if self._stage == 0:
            return self._inner.state[parameter][moment].detach()
        return cast(torch.Tensor, safe_get_full_optimizer_state(parameter, moment))

    def load_optimizer_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """See `Engine.load_optimizer_state`."""
        check_names(state_shapes(self._shapes), state)
        for master in self._masters():
            self._inner.state[master]["step"].fill_(float(state["step"]))
        for moment in MOMENTS:
            for name, parameter in self._parameters.items():
                self._set_moment(parameter, moment, state[f"{moment}/{name}"].to(parameter.device))
        self._attempts = int(state["attempts"])

    def _set_moment(self, parameter: torch.nn.Parameter, moment: str, value: torch.Tensor) -> None:
        from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

        if self._stage == 0:
            self._inner.state[parameter][moment].copy_(value)
        elif self._stage < 3:
            safe_set_full_optimizer_state(parameter, value, moment)
        else:
            # DeepSpeed's whole setter fails where the ranks do not divide the parameter, so each sets its own part.
            size = cast(Any, parameter).ds_tensor.numel()
            padded = torch.nn.functional.pad(value.flatten(), (0, size * self._world - value.numel()))
            safe_set_local_optimizer_state(parameter, padded.narrow(0, size * self._rank, size), moment)

    def close(self) -> None:
        """See `Engine.close`."""
        self._engine.destroy()


_HOST = {"device": "cpu"}
_OFFLOAD: dict[str, dict[str, Any]] = {
    "none": {},
    "optimizer": {"offload_optimizer": _HOST},
    "weights": {"offload_optimizer": _HOST, "offload_param": _HOST},
}


def _settings(config: EngineConfig, optimizer: OptimizerConfig, num_micro: int) -> dict[str, Any]:
    """DeepSpeed's configuration; gradients of stage 0 are clipped here, not there (its formula differs)."""
    tree = config.reduction == "reproducible"  # then DeepSpeed gets one gradient an update, summed and clipped
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1 if tree else num_micro,
        "gradient_clipping": optimizer.grad_clip if config.zero_stage and not tree else 0.0,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {
            "stage": config.zero_stage,
            "stage3_param_persistence_threshold": config.persistence_threshold,
            # Else ZeRO-3 replaces torch.nn.functional.linear in the whole process, for good, and with it every byte.
            "memory_efficient_linear": False,
            **_OFFLOAD[config.offload],
        },
        "zero_force_ds_cpu_optimizer": False,  # DeepSpeed's own AdamW for the host would be compiled at the start
        "steps_per_print": 10**9,
    }
