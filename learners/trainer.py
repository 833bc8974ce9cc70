"""What supervised and reinforcement training share: the engine, its state by name, publishing, and skipped steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from burnish.data.errors import RefusedError
from burnish.learners.ema import Ema, EmaConfig
from burnish.learners.engine import StepInfo
from burnish.learners.engines import EngineFactory
from burnish.policies.protocol import Policy


@dataclass(frozen=True, eq=False)
class TrainerState:
    """All that a resumed trainer needs, by name, independent of engine, ZeRO stage and rank count.

    Args:
        weights: parameter name -> float32.
        optimizer: see `Engine.optimizer_state`.
        ema: parameter name -> float32, empty where no average is kept.
        counters: updates tried, skipped, skipped in a row; iterations (SFT: steps) finished.
    """

    weights: Mapping[str, np.ndarray]
    optimizer: Mapping[str, np.ndarray]
    ema: Mapping[str, np.ndarray]
    counters: Mapping[str, int]


class Trainer:
    """Base of `Learner` and `SftTrainer`.

    Args:
        policy: its module's parameters that require gradients are trained.
        make_engine: builds the engine around the module.
        ema: averaging.
        max_skipped: the run stops after that many skipped updates in a row.
        rank, world: this process and how many there are.
    """

    def __init__(
        self, policy: Policy, make_engine: EngineFactory, *, ema: EmaConfig, max_skipped: int, rank: int, world: int
    ) -> None:
        self.policy = policy
        self.engine = make_engine(policy.module)
        self.device = next(policy.module.parameters()).device
        self.rank = rank
        self.world = world
        self.counters = {"updates": 0, "skipped": 0, "skipped_in_row": 0, "iterations": 0}
        self._max_skipped = max_skipped
        self._ema = Ema(ema)
        self._ema.observe(0, self.publish)

    def _step(self) -> StepInfo:
        """One optimiser step, counted.

        Raises:
            RefusedError: `max_skipped` steps in a row had a gradient that is not finite.
        """
        info = self.engine.step()
        counters = self.counters
        counters["updates"] += 1
        counters["skipped"] += info.skipped
        counters["skipped_in_row"] = counters["skipped_in_row"] + 1 if info.skipped else 0
        if counters["skipped_in_row"] >= self._max_skipped:
            last = counters["updates"] - counters["skipped_in_row"]
            raise RefusedError(
                f"{self._max_skipped} gradients in a row were not finite; the last good update is {last}"
            )
        return info

    def _finish(self) -> None:
        """End of an iteration (SFT: a step)."""
        self.counters["iterations"] += 1
        self._ema.observe(self.counters["iterations"], self.publish)

    def publish(self) -> dict[str, np.ndarray]:
        """The trained weights, float32, by name; every rank must call it."""
        return _arrays(self.engine.trainable())

    def averaged(self) -> dict[str, np.ndarray]:
        """The moving average of the trained weights; empty where none is kept."""
        return dict(self._ema.weights)

    def state(self) -> TrainerState:
        """Everything a resume needs; every rank must call it."""
        return TrainerState(
            self.publish(), _arrays(self.engine.optimizer_state()), self.averaged(), dict(self.counters)
        )

    def load_state(self, state: TrainerState) -> None:
        """Continue from a state; the next update gives the bytes it would have given.

        Raises:
            CheckpointError: names or shapes do not fit this policy.
        """
        self.engine.load_trainable(_tensors(state.weights))
        self.engine.load_optimizer_state(_tensors(state.optimizer))
        self._ema.weights = {name: np.array(value) for name, value in state.ema.items()}
        self.counters = dict(state.counters)

    def close(self) -> None:
        """Let go of the engine."""
        self.engine.close()


def _arrays(tensors: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
