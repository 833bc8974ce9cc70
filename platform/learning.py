"""The learner's worker: one rank of supervised fine-tuning, then of GRPO, and the checkpoints it writes.

Rank 0 writes files; gathering weights is collective, so every rank takes part in each call.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from burnish.data.records import Example, Group, PolicyVersion, UpdatePlan
from burnish.data.sources import reader_chunks
from burnish.learners.engine import join_ranks, leave_ranks
from burnish.learners.engines import EngineFactory, check_unsplit, engine_factory
from burnish.learners.learner import Learner, Reference
from burnish.learners.optimizer import OptimizerConfig
from burnish.learners.sft_trainer import SftTrainer
from burnish.learners.split import grpo_micro_batches, sft_micro_batches
from burnish.learners.trainer import Trainer, TrainerState
from burnish.platform.checkpoints import commit
from burnish.platform.commit_thread import CommitThread
from burnish.platform.config import Recipe
from burnish.platform.examples import recipe_source
from burnish.platform.failpoints import fail_point
from burnish.platform.sync import shard_names, shards_of
from burnish.platform.trainer_state import read_state, state_digest, write_state
from burnish.policies.digests import base_digest, policy_digest
from burnish.policies.lora import adapter_disabled, reference_active, trainable
from burnish.policies.lora_files import starting_adapter
from burnish.policies.protocol import Policy
from burnish.policies.snapshot import (
    Start,
    captured_adapter,
    load_base,
    load_start,
    load_trained,
    new_policy,
    save_base,
    save_start,
    snapshot_record,
)
from burnish.policies.whole import Types, frozen_copy, settle, standing_in, train_whole
from burnish.rollouts.evaluation import deployed

Published = tuple[PolicyVersion | dict[str, np.ndarray], ...]
"""A version, then its weights in shards."""


class LearnerWorker:
    """One learner rank.

    Args:
        recipe, seed: what to train.
        address: torch init method where ranks meet; None for one rank.
        rank, world: this process and how many there are.
    """

    def __init__(self, recipe: Recipe, seed: int, address: str | None, rank: int, world: int) -> None:
        self._recipe = recipe
        self._seed = seed
        self._rank = rank
        self._world = world
        self._source = recipe_source(recipe)
        self._base = ""
        self._types: Types = {}
        self._policy: Any = None
        self._trainer: Trainer | None = None
        self._commits = CommitThread()
        join_ranks(rank=rank, world=world, address=address)

    def _engine(self, module: Any, optimizer: OptimizerConfig, **numbers: int) -> EngineFactory:
        """What builds a stage's engine round the module."""
        config = self._recipe.learners.engine
        check_unsplit(module, config)
        return engine_factory(config, optimizer, rank=self._rank, world=self._world, **numbers)

    # -- supervised fine-tuning -------------------------------------------------------------------------------------

    def begin_sft(self, checkpoint: Path | None) -> None:
        """Build a fresh policy and its trainer; continue from a verified checkpoint where there is one."""
        recipe, config = self._recipe, self._recipe.sft
        policy = new_policy(recipe.policy.config)
        if config.trains == "adapter":
            starting_adapter(policy.module, recipe.grpo.adapter)
        else:
            self._types = train_whole(policy.module)
        num_micro = sft_micro_batches(config.batch, micro_batch=config.micro_batch, world=self._world)
        make = self._engine(policy.module, config.optimizer, num_micro=num_micro, total_steps=config.steps)
        trainer = SftTrainer(policy, make, config, seed=self._seed, rank=self._rank, world=self._world)
        self._hold(policy, trainer, base="", checkpoint=checkpoint)

    def sft(self, step_from: int, step_to: int) -> dict[str, float]:
        """Train some steps; returns their metrics."""
        trainer = self._trainer
        assert isinstance(trainer, SftTrainer)
        return trainer.train(step_from, step_to, self._chunks)

    def _chunks(self, step: int) -> list[list[Example]]:
        """This rank's chunks of a step: examples of one geometry each."""
        config, data = self._recipe.sft, self._recipe.data
        own = reader_chunks(
            step,
            reader=self._rank,
            readers=self._world,
            num_chunks=config.batch // config.micro_batch,
            size=config.micro_batch,
            block=data.block,
            count=self._source.count("train"),
            seed=data.seed,
        )
        return [[self._source.example("train", index) for index in chunk] for chunk in own]

    def write_base(self, parent: Path) -> str:
        """Commit the trained policy, or a fresh one where nothing was trained, as `base/`; returns its digest."""
        trainer, policy = self._trainer, self._policy or new_policy(self._recipe.policy.config)
        if trainer is not None:
            _restore(policy, trainer.averaged() or trainer.publish())
            settle(policy.module, self._types)
        elif self._recipe.grpo.adapter.start_from is not None:
            starting_adapter(policy.module, self._recipe.grpo.adapter)
        if self._rank == 0:
            commit(parent, "base", lambda path: self._write_start(policy, path))
        return base_digest(policy.module)

    def _write_start(self, policy: Any, path: Path) -> None:
        """The base; where there is an adapter already, the untouched weights and the adapter beside them."""
        adapted = any(".lora_" in name for name, _ in policy.module.named_parameters())
        clean = new_policy(self._recipe.policy.config) if adapted and policy.family == "tiny" else policy
        save_base(clean, path, whole=self._trainer is not None and not adapted)
        if adapted:
            save_start(policy, path)

    # -- GRPO -------------------------------------------------------------------------------------------------------

    def begin_grpo(self, base: Path, checkpoint: Path | None) -> str:
        """Put an adapter on the base and build the learner; returns the base's digest."""
        recipe, config = self._recipe, self._recipe.grpo
        start = load_start(base, config.trained_adapter, reference=True)
        policy, digest = start.policy, start.base
        reference = self._reference(start)
        num_micro = grpo_micro_batches(
            config.examples_per_iteration,
            group_size=config.group_size,
            micro_batch=config.update.micro_batch,
            updates=config.update.updates_per_iteration,
            world=self._world,
        )
        steps = config.iterations * config.update.updates_per_iteration * config.update.epochs
        make = self._engine(policy.module, config.update.optimizer, num_micro=num_micro, total_steps=steps)
        learner = Learner(
            policy,
            make,
            config.update,
            reference=reference,
            sample_batch=recipe.rollouts.sample_batch,
            folded=recipe.rollouts.fold_adapter,
            rank=self._rank,
            world=self._world,
        )
        self._hold(policy, learner, base=digest, checkpoint=checkpoint)
        return digest

    def _reference(self, start: Start) -> Reference | None:
        """What turns the policy into the one that the stage started from: its adapter off, a copy of it, or of all."""
        policy = start.policy
        if self._recipe.grpo.trains == "adapter":
            active = reference_active if start.continued else adapter_disabled
            return lambda: active(policy.module)
        if not self._recipe.grpo.update.kl.beta:
            return None
        frozen = frozen_copy(policy.module)
        return lambda: standing_in(policy, frozen)

    def update(self, plan: UpdatePlan, *groups: Group) -> dict[str, float]:
        """One iteration's optimiser steps; see `Learner.update`."""
        learner = self._trainer
        assert isinstance(learner, Learner)
        metrics = learner.update(plan, *groups)
        fail_point("learn")
        return metrics

    def num_shards(self) -> int:
        """In how many parts the trained weights are published."""
        sizes = {n: 4 * getattr(p, "ds_numel", p.numel()) for n, p in trainable(self._policy.module).items()}
        return len(shard_names(sizes))

    def publish(self) -> Published:
        """Which version the trained weights are, and these in shards; rank 0's are read, so only it hands them on."""
        assert self._trainer is not None
        return self._in_shards(self._trainer.counters["iterations"], self._trainer.publish())

    def published(self, checkpoint: Path) -> Published:
        """What an earlier, verified commit had published; the trained weights stay as they are."""
        state = read_state(checkpoint)
        return self._in_shards(state.counters["iterations"], dict(state.weights))

    def _in_shards(self, number: int, state: dict[str, np.ndarray]) -> Published:
        version, shards = PolicyVersion(number, policy_digest(self._base, state)), shards_of(state)
        return version, *(shard if self._rank == 0 else {} for shard in shards)

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def save(self, parent: Path, name: str, driver: Mapping[str, Any]) -> dict[str, str]:
        """Begin to commit a checkpoint as of now; returns its policy digest and state digest.

        It is written behind the training; `settled` waits for it, and so does the next one.

        Args:
            parent: directory of the stage's checkpoints.
            name: for example step-000040.
            driver: what the driver needs to go on, JSON.
        """
        assert self._trainer is not None and self._policy is not None
        state = self._trainer.state()
        digests = {"policy_digest": policy_digest(self._base, state.weights), "state_digest": state_digest(state)}
        if self._rank == 0:
            record = {**driver, "counters": dict(state.counters), **digests}
            self._commits.commit(parent, name, self._writer(state, record))
        return digests

    def settled(self) -> None:
        """Wait until the last checkpoint is on disk."""
        self._commits.settle()

    def _writer(self, state: TrainerState, record: Mapping[str, Any]) -> Callable[[Path], None]:
        """What fills a checkpoint's directory later, from copies: the driver goes on with what it handed over."""
        adapter = None
        if isinstance(self._trainer, Learner) and self._recipe.grpo.trained_adapter is not None:
            adapter = captured_adapter(self._policy.module)
        texts = {"state.json": json.dumps(record, sort_keys=True, indent=1)}
        if isinstance(self._trainer, Learner):
            texts["snapshot.json"] = json.dumps(self._snapshot(record), sort_keys=True, indent=1)

        def write(path: Path) -> None:
            write_state(path, state)
            if adapter is not None:
                adapter(path / "adapter")
            for name, text in texts.items():
                (path / name).write_text(text)

        return write

    def _snapshot(self, record: Mapping[str, Any]) -> dict[str, Any]:
        return snapshot_record(
            family=self._policy.family,
            base=self._base,
            policy=record["policy_digest"],
            adapter=self._recipe.grpo.trained_adapter,
            sampler=deployed(self._recipe.grpo.sampler.spec, self._recipe.evaluation),
            refiner=self._recipe.refiner.model_dump(mode="json"),
            weights="raw",
        )

    def _hold(self, policy: Any, trainer: Trainer, *, base: str, checkpoint: Path | None) -> None:
        if self._trainer is not None:
            self._trainer.close()
        self._policy, self._trainer, self._base = policy, trainer, base
        if checkpoint is not None:
            trainer.load_state(read_state(checkpoint))

    def verify_adapter(self, checkpoint: Path, base: Path) -> float:
        """Largest difference of velocity between this policy and the exported adapter in plain diffusers."""
        assert self._policy is not None
        plain = load_base(base)
        load_trained(plain.module, checkpoint, whole=self._recipe.grpo.trains == "all")
        return velocity_difference(self._policy, plain, self._source.example("dev", 0))

    def close(self) -> None:
        """Leave the process group, once the last checkpoint is on disk."""
        self._commits.close()
        if self._trainer is not None:
            self._trainer.close()
        leave_ranks()


def velocity_difference(one: Policy, other: Policy, example: Example) -> float:
    """Largest |difference| of two policies' velocities on one example, at two noise levels."""
    conditions = one.encode(example)
    picture = example.target if example.image is None else example.image
    latents = one.encode_image(torch.from_numpy(np.array(picture))[None], conditions).repeat(2, 1, 1)
    arguments = (latents, torch.tensor([0.25, 1.0], device=latents.device), [conditions] * 2)
    with torch.no_grad():
        return float((one.velocity(*arguments) - other.velocity(*arguments)).abs().max())


def _restore(policy: Policy, weights: Mapping[str, np.ndarray]) -> None:
    for name, parameter in trainable(policy.module).items():
        parameter.data.copy_(torch.from_numpy(np.array(weights[name])))
