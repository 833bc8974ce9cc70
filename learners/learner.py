"""The learner: one iteration's groups and plan in, updated weights out. A plain class; the platform places its ranks.

Loss of an update = sum over its valid samples x trained steps of (DAR weight x clipped objective + beta x KL), divided
by their global count, which every rank reads from the plan. Legend: B rows of a micro-batch, G group, K trained steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch

from burnish.data.errors import ConfigError, RefusedError
from burnish.data.records import Group, GroupPlan, UpdatePlan
from burnish.learners.engines import EngineFactory
from burnish.learners.grpo import GrpoConfig, clipped_objective, guard_ratio, importance_ratio, stale_factor
from burnish.learners.kl import Pair, kl_term
from burnish.learners.replay import Rows, replay, rows_of
from burnish.learners.split import grpo_micro_batches, rank_groups
from burnish.learners.tally import Tally
from burnish.learners.trainer import Trainer
from burnish.policies.protocol import Policy
from burnish.policies.steps import Step, region_mean

Reference = Callable[[], AbstractContextManager[None]]


class Learner(Trainer):
    """GRPO on whole groups.

    Args:
        policy: what is trained.
        make_engine: builds the engine, with `num_micro` from `grpo_micro_batches`.
        config: objective, minibatches, micro-batch.
        reference: turns the policy into the KL reference while entered; None where beta is 0.
        sample_batch: rows of the sampler's forward; decides how close to 1 the first ratio must be.
        folded: the sampler folds the adapter into the weights.
        rank, world: this process and how many there are.

    Raises:
        ConfigError: beta > 0 without a reference.
    """

    def __init__(
        self,
        policy: Policy,
        make_engine: EngineFactory,
        config: GrpoConfig,
        *,
        reference: Reference | None,
        sample_batch: int,
        folded: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if config.kl.beta > 0.0 and reference is None:
            raise ConfigError("kl.beta > 0 needs a reference")
        super().__init__(policy, make_engine, ema=config.ema, max_skipped=config.max_skipped, rank=rank, world=world)
        self.config = config
        self.reference = reference
        self.tolerance = ratio_tolerance(config, sample_batch=sample_batch, folded=folded)

    def update(self, plan: UpdatePlan, *groups: Group) -> dict[str, float]:
        """All optimiser steps of one iteration.

        Args:
            plan: the whole iteration's, the same on every rank.
            groups: this rank's, in the order of `rank_groups`.

        Returns:
            Metrics over all ranks.

        Raises:
            ConfigError: groups, group size and micro-batch do not divide as the engine was built for.
            RefusedError: the first importance ratio is not 1, or too many gradients in a row were not finite.
        """
        blocks = self._blocks(plan, groups)
        tally = Tally(groups[0].trajectories[0].sampler.num_steps, self.device)
        for epoch in range(self.config.epochs):
            for number, block in enumerate(blocks):
                first = plan.on_policy and epoch == 0 and number == 0
                self._minibatch(plan, number, block, tally, first=first)
        self._finish()
        return tally.metrics(world=self.world)

    def _blocks(self, plan: UpdatePlan, groups: Sequence[Group]) -> list[list[tuple[GroupPlan, Group]]]:
        """This rank's (plan, group) pairs, one list an update; refuses what does not fit."""
        updates = self.config.updates_per_iteration
        indices = rank_groups(len(plan.groups), updates=updates, rank=self.rank, world=self.world)
        sizes = {len(g.trajectories) for g in groups} | {len(p.advantages) for p in plan.groups}
        counts = {len(t.steps) for g in groups for t in g.trajectories}
        if len(sizes) != 1 or len(counts) != 1:
            raise ConfigError(f"groups must have one size and step count, got {sorted(sizes)} and {sorted(counts)}")
        num_micro = grpo_micro_batches(
            len(plan.groups),
            group_size=sizes.pop(),
            micro_batch=self.config.micro_batch,
            updates=updates,
            world=self.world,
        )
        if num_micro != self.engine.num_micro:
            raise ConfigError(
                f"the engine was built for {self.engine.num_micro} micro-batches, the plan has {num_micro}"
            )
        wanted = [plan.groups[i] for block in indices for i in block]
        got = [g.example.id for g in groups]
        if [p.example_id for p in wanted] != got:
            raise ConfigError(f"rank {self.rank} needs groups {[p.example_id for p in wanted]}, got {got}")
        paired = iter(zip(wanted, groups, strict=True))
        return [[next(paired) for _ in block] for block in indices]

    def _minibatch(
        self, plan: UpdatePlan, number: int, block: list[tuple[GroupPlan, Group]], tally: Tally, *, first: bool
    ) -> None:
        """One optimiser step; none where no sample of the minibatch, on any rank, is valid."""
        size = len(plan.groups) // self.config.updates_per_iteration
        samples = sum(int(p.valid.sum()) for p in plan.groups[number * size : (number + 1) * size])
        count = samples * len(block[0][1].trajectories[0].steps)
        if count == 0:
            return
        scale = self.world * self.engine.num_micro / count
        for group_plan, group in block:
            for start in range(0, len(group.trajectories), self.config.micro_batch):
                picked = range(start, start + self.config.micro_batch)
                beta = self.config.kl.beta * plan.kl_scale
                how = {"beta": beta, "first": first, "stale": not plan.on_policy}
                loss = self._micro_loss(group_plan, group, picked, tally, **how)
                self.engine.backward(loss * scale)
        tally.stepped(self._step())

    def _micro_loss(
        self, plan: GroupPlan, group: Group, picked: range, tally: Tally, *, beta: float, first: bool, stale: bool
    ) -> torch.Tensor:
        """Summed loss of some rows over all their trained steps; rows that are not valid count 0."""
        span = slice(picked.start, picked.stop)
        rows = rows_of(group, picked, device=self.device, valid=plan.valid[span])
        advantages = torch.from_numpy(plan.advantages[span].copy()).to(self.device)
        valid = torch.from_numpy(plan.valid[span].copy()).to(self.device)
        losses = []
        for place, step in enumerate(rows.steps):
            velocity, replayed = replay(self.policy, rows, place)
            ratio = self._ratio(rows, place, replayed)
            if first and bool(valid.any()):
                tally.drifted(step, self._check_ratio(ratio[valid], group, step))
            objective = clipped_objective(
                ratio, advantages, clip_low=self.config.clip_low, clip_high=self.config.clip_high
            )
            factor = self._stale_factor(ratio, stale=stale)
            kl = self._kl(rows, place, velocity, replayed)
            loss = plan.weight * factor * objective.loss + beta * kl
            losses.append(torch.where(valid, loss, 0.0).sum())
            values = {
                "loss": loss,
                "policy_loss": objective.loss,
                "kl": kl,
                "ratio": ratio,
                "clip_low": objective.clipped_low,
                "clip_high": objective.clipped_high,
                "stale_bounded": factor < 1.0,
            }
            tally.add(step, values, valid, shift=replayed.log_prob - rows.log_probs[:, place])
        return torch.stack(losses).sum()

    def _stale_factor(self, ratio: torch.Tensor, *, stale: bool) -> torch.Tensor:
        """Weight [B] of the policy loss: 1 on-policy and where the recipe keeps stale samples as they are."""
        if not stale or self.config.stale == "keep":
            return torch.ones_like(ratio)
        return stale_factor(ratio, rule=self.config.stale, cap=self.config.stale_cap)

    def _ratio(self, rows: Rows, place: int, step: Step) -> torch.Tensor:
        """Importance ratio [B] of one step, GRPO-Guard's where it is on."""
        old = rows.log_probs[:, place]
        if not self.config.guard:
            return importance_ratio(step.log_prob, old)
        if rows.means is None:
            raise ConfigError("guard: true needs trajectories that hold their means")
        shift = region_mean((step.mean - rows.means[:, place]) ** 2, rows.region)
        return guard_ratio(step.log_prob, old, mean_shift_square=shift, std=step.std)

    def _check_ratio(self, ratio: torch.Tensor, group: Group, step: int) -> float:
        """|ratio - 1| on the weights that sampled: more than the tolerance means sampler and learner disagree."""
        deviation = float((ratio.detach() - 1.0).abs().max())
        if not deviation <= self.tolerance:
            raise RefusedError(
                f"importance ratio of {group.example.id!r} at step {step} is off by {deviation:.3g} before the first "
                f"update (allowed {self.tolerance:g}): the learner does not compute what the sampler computed"
            )
        return deviation

    def _kl(self, rows: Rows, place: int, velocity: torch.Tensor, step: Step) -> torch.Tensor:
        """KL term [B]; the reference runs without gradient, the policy's side keeps it."""
        if self.config.kl.beta == 0.0 or self.reference is None:
            return torch.zeros_like(step.log_prob)
        with torch.no_grad(), self.reference():
            velocity_ref, step_ref = replay(self.policy, rows, place)
        pair = Pair(velocity, velocity_ref, step.mean, step_ref.mean, step.noise_level, step.std)
        return kl_term(self.config.kl.type, pair)


def ratio_tolerance(config: GrpoConfig, *, sample_batch: int, folded: bool) -> float:
    """Largest |ratio - 1| allowed before the first update.

    0 where learner and sampler run the same shapes on unfolded adapters; else 1e-5 or a tenth of the clip range.
    """
    if config.micro_batch == sample_batch and not folded:
        return 0.0
    return min(1e-5, config.clip_low / 10.0, config.clip_high / 10.0)
