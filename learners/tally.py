"""Metrics of one iteration of updates: sums and maxima over samples x steps, joined over ranks once.

Nobody averages averages: ranks add their sums and counts, then divide.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.distributed as dist

from burnish.learners.engine import StepInfo

FIELDS = ("loss", "policy_loss", "kl", "ratio", "clip_low", "clip_high", "stale_bounded")


class Tally:
    """Adds up what the updates of an iteration did.

    Args:
        num_steps: S, denoising steps of the sampler.
        device: where collectives work.
    """

    def __init__(self, num_steps: int, device: torch.device) -> None:
        self._sums = np.zeros(len(FIELDS) + 1)
        self._shift = np.zeros((2, num_steps))
        self._max = 0.0
        self._drift = np.full(num_steps, -1.0)
        self._device = device
        self._infos: list[StepInfo] = []

    def add(self, step: int, values: Mapping[str, torch.Tensor], valid: torch.Tensor, *, shift: torch.Tensor) -> None:
        """Add one denoising step of one micro-batch.

        Args:
            step: denoising step index.
            values: FIELDS, each [B].
            valid: bool [B]; rows that are not are left out.
            shift: [B], log-probability minus the sampler's.
        """
        rows = torch.stack([values[name].detach().double() for name in FIELDS])[:, valid]
        self._sums += np.append(rows.sum(dim=1).cpu().numpy(), float(valid.sum()))
        self._shift[:, step] += [float(shift.detach().double()[valid].abs().sum()), float(valid.sum())]
        if bool(valid.any()):
            self._max = max(self._max, float((values["ratio"].detach()[valid] - 1.0).abs().max()))

    def drifted(self, step: int, deviation: float) -> None:
        """Note the largest |ratio - 1| of a denoising step on the weights that sampled it."""
        self._drift[step] = max(self._drift[step], deviation)

    def stepped(self, info: StepInfo) -> None:
        """Add one optimiser step (the same on every rank)."""
        self._infos.append(info)

    def metrics(self, *, world: int) -> dict[str, float]:
        """Means over the valid samples x steps of all ranks, and of the optimiser steps."""
        if world > 1:
            self._join()
        count = max(self._sums[-1], 1.0)
        result = {name: float(total / count) for name, total in zip(FIELDS, self._sums[:-1], strict=True)}
        result["ratio_max_deviation"] = self._max
        for step in np.flatnonzero(self._shift[1]):
            result[f"dlogp/step_{step}"] = float(self._shift[0, step] / self._shift[1, step])
        result |= {f"drift/step_{step}": float(self._drift[step]) for step in np.flatnonzero(self._drift >= 0.0)}
        taken = [info for info in self._infos if not info.skipped]
        result["grad_norm"] = sum(i.grad_norm for i in taken) / len(taken) if taken else 0.0
        result["lr"] = self._infos[-1].lr if self._infos else 0.0
        result["updates"] = float(len(self._infos))
        result["skipped_updates"] = float(len(self._infos) - len(taken))
        return result

    def _join(self) -> None:
        sums = torch.from_numpy(np.concatenate([self._sums, self._shift.ravel()])).to(self._device)
        largest = torch.tensor([self._max, *self._drift], dtype=torch.float64, device=self._device)
        dist.all_reduce(sums)
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        joined = sums.cpu().numpy()
        self._sums, self._shift = joined[: len(FIELDS) + 1], joined[len(FIELDS) + 1 :].reshape(self._shift.shape)
        self._max, self._drift = float(largest[0]), largest[1:].cpu().numpy()
