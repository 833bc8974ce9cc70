"""Supervised fine-tuning by flow matching. A plain class; the platform places its ranks.

Noise and sigmas are keyed by (seed, step, chunk, row, example), so a resumed or reordered run draws the same.
Legend: B examples of one geometry (one forward), N latent tokens, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from burnish.data import seeding
from burnish.data.errors import DataError
from burnish.data.masks import boundary_band
from burnish.data.records import Conditions, Example
from burnish.learners.engine import StepInfo
from burnish.learners.engines import EngineFactory
from burnish.learners.sft import SftConfig, band_weight, bell_weight, flow_matching_loss, noised, region_weight
from burnish.learners.trainer import Trainer
from burnish.policies.protocol import HasGrid, HasGuidance, Policy
from burnish.policies.sampling import by_geometry

Chunks = Callable[[int], Sequence[Sequence[Example]]]
"""Step number -> this rank's chunks of that step: `num_micro` chunks of `micro_batch` examples."""


class SftTrainer(Trainer):
    """Trains a policy's velocity on clean targets.

    Args:
        policy: what is trained.
        make_engine: builds the engine, with `num_micro` from `sft_micro_batches`.
        config: batch, loss and weights.
        seed: the run's seed.
        rank, world: this process and how many there are.
    """

    def __init__(
        self,
        policy: Policy,
        make_engine: EngineFactory,
        config: SftConfig,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__(policy, make_engine, ema=config.ema, max_skipped=config.max_skipped, rank=rank, world=world)
        self.config = config
        self.seed = seed

    def train(self, step_from: int, step_to: int, chunks: Chunks) -> dict[str, float]:
        """Steps `step_from` … `step_to` - 1.

        Returns:
            Means over these steps and all ranks, and the last step's loss and learning rate.

        Raises:
            DataError: an example has no target.
            RefusedError: too many gradients in a row were not finite.
        """
        losses, infos = [], []
        for step in range(step_from, step_to):
            loss, info = self._train_step(step, chunks(step))
            losses.append(loss)
            infos.append(info)
        losses = self._over_ranks(losses)
        taken = [info.grad_norm for info in infos if not info.skipped]
        return {
            "loss": float(np.mean(losses)),
            "loss_last": losses[-1],
            "grad_norm": float(np.mean(taken)) if taken else 0.0,
            "lr": infos[-1].lr,
            "skipped_updates": float(len(infos) - len(taken)),
        }

    def _over_ranks(self, losses: Sequence[float]) -> list[float]:
        """Each step's mean over the ranks."""
        if self.world == 1:
            return list(losses)
        summed = torch.tensor(losses, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(summed)
        return (summed / self.world).tolist()

    def _train_step(self, step: int, chunks: Sequence[Sequence[Example]]) -> tuple[float, StepInfo]:
        total = 0.0
        for number, chunk in enumerate(chunks):
            loss = self._losses(chunk, step=step, chunk_number=self.rank * len(chunks) + number).mean()
            self.engine.backward(loss)
            total += float(loss.detach())
        info = self._step()
        self._finish()
        return total / len(chunks), info

    def _losses(self, chunk: Sequence[Example], *, step: int, chunk_number: int) -> torch.Tensor:
        """Loss [B] of one chunk: a forward pass for each geometry in it, so that nothing is padded into the loss."""
        conditions = [self.policy.encode(example) for example in chunk]
        losses: dict[int, torch.Tensor] = {}
        for rows in by_geometry(conditions):
            keys = [(step, chunk_number, row, chunk[row].id) for row in rows]
            found = self._bucket_losses([chunk[i] for i in rows], [conditions[i] for i in rows], keys)
            losses |= zip(rows, found, strict=True)
        return torch.stack([losses[row] for row in range(len(chunk))])

    def _bucket_losses(
        self, examples: Sequence[Example], conditions: Sequence[Conditions], keys: Sequence[tuple[int | str, ...]]
    ) -> torch.Tensor:
        """Loss [B] of examples of one geometry."""
        images = np.stack([target_image(example, self.config.restoration) for example in examples])
        with torch.no_grad():
            clean = self.policy.encode_image(torch.from_numpy(images).to(self.device), conditions[0]).to(self.device)
        sigma, noise = self._draw(keys, clean)
        predict = self.policy.plain_velocity if isinstance(self.policy, HasGuidance) else self.policy.velocity
        velocity = predict(noised(clean, noise, sigma), sigma, list(conditions))
        losses = flow_matching_loss(velocity, clean, noise, weight=self._weight(examples, conditions))
        return losses * bell_weight(sigma) if self.config.bell else losses

    def _draw(self, keys: Sequence[tuple[int | str, ...]], clean: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keyed sigma [B], uniform in [0,1), and noise [B,N,C]."""
        shape = tuple(clean.shape[1:])
        levels = [seeding.generator(self.seed, "sft-sigma", *key).random(dtype=np.float32) for key in keys]
        noise = [seeding.normal(shape, self.seed, "sft-noise", *key) for key in keys]
        sigma = torch.from_numpy(np.array(levels, np.float32)).to(self.device)
        return sigma, torch.from_numpy(np.stack(noise)).to(self.device)

    def _weight(self, chunk: Sequence[Example], conditions: Sequence[Conditions]) -> torch.Tensor | None:
        """Loss weight [B,N,C] on the latent grid; None = 1."""
        config = self.config
        if config.weight == "none":
            return None
        if config.weight == "mask":
            region = self._regions(conditions)
            return region_weight(region, inside=config.inside, constant=config.inside_weight)
        bands = np.stack([self._on_grid(example, _band(example, config)) for example in chunk])
        return band_weight(torch.from_numpy(bands).to(self.device), alpha=config.boundary_alpha)

    def _on_grid(self, example: Example, mask: np.ndarray) -> np.ndarray:
        """A mask [1,H,W] on the latent grid [N,C]."""
        if isinstance(self.policy, HasGrid):
            return self.policy.on_grid(mask)
        return self.policy.encode(replace(example, mask=mask)).arrays["region"]

    def _regions(self, conditions: Sequence[Conditions]) -> torch.Tensor:
        return torch.from_numpy(np.stack([c.arrays["region"] for c in conditions])).to(self.device)


def target_image(example: Example, restoration: float) -> np.ndarray:
    """input + restoration (clean - input), float32 [3,H,W]; exactly the input where the two agree.

    Raises:
        DataError: the example has no target, or a partial restoration has no input to start from.
    """
    if example.target is None:
        raise DataError(f"supervised fine-tuning needs a target; {example.id!r} has none")
    if restoration == 1.0:
        return example.target
    if example.image is None:
        raise DataError(f"restoration below 1 needs an input image; {example.id!r} has none")
    return example.image + np.float32(restoration) * (example.target - example.image)


def _band(example: Example, config: SftConfig) -> np.ndarray:
    """The band [1,H,W] around the edge of the example's mask, 0 or 1."""
    if example.mask is None:
        raise DataError(f"weight: boundary needs a mask; {example.id!r} has none")
    return boundary_band(example.mask, r_out=config.boundary_out, r_in=config.boundary_in).astype(np.float32)
