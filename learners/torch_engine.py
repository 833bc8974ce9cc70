"""The engine without DeepSpeed: every rank holds everything; gradients are all-reduced as one vector.

Bit for bit equal to DeepSpeed ZeRO-1/2 on one rank; within float32 rounding of any stage on several. Made by
`engines.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch.nn.utils import parameters_to_vector, vector_to_parameters

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
from burnish.learners.reduction import TreeReduction


class TorchEngine:
    """`Engine` over torch's AdamW; see `learners/engine.py`.

    Args:
        module: its parameters that require gradients are trained.
        config: how gradients are summed.
        optimizer: AdamW and its schedule.
        num_micro: micro-batches of this rank a step, a power of two.
        total_steps: steps of the whole stage, for the learning rate.
        rank, world: this process and how many there are.

    Raises:
        ConfigError: `num_micro` is no power of two, several ranks have no process group, or their number is no power
            of two with the reproducible reduction.
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
        if world > 1:
            join_ranks(rank=rank, world=world)
        self.module = module
        self.num_micro = num_micro
        self._config = optimizer
        self._total_steps = total_steps
        self._world = world
        self._parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self._optimizer = adamw(self._parameters.values(), optimizer)
        for parameter in self._parameters.values():
            self._optimizer.state[parameter] = blank_state(parameter)
        self._attempts = 0
        self._seen = 0
        self._tree: TreeReduction | None = None
        if config.reduction == "reproducible":
            self._tree = TreeReduction(self._parameters, num_micro=num_micro, rank=rank, world=world)

    def backward(self, loss: torch.Tensor) -> None:
        """See `Engine.backward`."""
        self._seen += 1
        if self._tree is not None:
            self._tree.add(loss)
        else:
            (loss / self.num_micro).backward()

    def step(self) -> StepInfo:
        """See `Engine.step`."""
        assert self._seen == self.num_micro, f"{self._seen} micro-batches of {self.num_micro}"
        lr = self._config.lr_at(self._attempts, total_steps=self._total_steps)
        gradients = self._gradients()
        norm = gradient_norm(gradients)
        skipped = not bool(torch.isfinite(norm))
        if not skipped:
            clip_gradients(gradients, norm, max_norm=self._config.grad_clip)
            for group in self._optimizer.param_groups:
                group["lr"] = lr
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._attempts, self._seen = self._attempts + 1, 0
        return StepInfo(float(norm), lr, skipped)

    def _gradients(self) -> list[torch.Tensor]:
        """Gradients in parameter order, averaged over ranks; a parameter without one gets zeros, as in DeepSpeed."""
        if self._tree is not None:
            for parameter, gradient in zip(self._parameters.values(), self._tree.total(), strict=True):
                parameter.grad = gradient
        for parameter in self._parameters.values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in self._parameters.values() if p.grad is not None]
        if self._tree is None and self._world > 1:
            flat = parameters_to_vector(gradients)
            dist.all_reduce(flat)
            vector_to_parameters(flat.div_(self._world), gradients)
        return gradients

    def trainable(self) -> dict[str, torch.Tensor]:
        """See `Engine.trainable`."""
        return {n: p.detach().float().cpu().clone() for n, p in self._parameters.items()}

    def load_trainable(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """See `Engine.load_trainable`."""
        check_names({n: p.shape for n, p in self._parameters.items()}, tensors)
        for name, parameter in self._parameters.items():
            parameter.data.copy_(tensors[name])

    def optimizer_state(self) -> dict[str, torch.Tensor]:
        """See `Engine.optimizer_state`."""
        states = {n: self._optimizer.state[p] for n, p in self._parameters.items()}
        moments = {f"{m}/{n}": s[m].detach().cpu().clone() for m in MOMENTS for n, s in states.items()}
        taken = int(next(iter(states.values()))["step"])
        return {**moments, "step": torch.tensor(taken), "attempts": torch.tensor(self._attempts)}

    def load_optimizer_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """See `Engine.load_optimizer_state`."""
        check_names(state_shapes({n: p.shape for n, p in self._parameters.items()}), state)
        for name, parameter in self._parameters.items():
            own = self._optimizer.state[parameter]
            own["step"].fill_(float(state["step"]))
            for moment in MOMENTS:
                own[moment].copy_(state[f"{moment}/{name}"])
        self._attempts = int(state["attempts"])

    def close(self) -> None:
        """See `Engine.close`; there is nothing to let go of."""
