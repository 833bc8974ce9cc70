"""The workers that a recipe asks for: how each role is made, and with what resources."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

from burnish.platform.config import Recipe
from burnish.platform.executor import Role
from burnish.platform.learning import LearnerWorker
from burnish.platform.pools import PoolConfig, role_name
from burnish.platform.workers import RewardWorker, RolloutWorker


def roles(recipe: Recipe, seed: int, run: Path, executor: str) -> list[Role]:
    """Every role of a run.

    Args:
        recipe: counts, shares, deadlines.
        seed: the run's.
        run: the run's directory, where learner ranks meet.
        executor: "local" or "ray".
    """
    rollouts = recipe.rollouts
    rollout = partial(RolloutWorker, recipe, seed)
    return [
        learner_role(recipe, seed, run),
        Role("rollout", rollout, count=rollouts.workers, deadline=rollouts.deadline, **_share(rollouts)),
        *reward_roles(recipe, executor),
    ]


def reward_roles(recipe: Recipe, executor: str) -> list[Role]:
    """The main pool, if a reward belongs to it, and the recipe's own pools."""
    named = {name for pool in recipe.rewards.pools for name in pool.rewards}
    main = [None] if {spec.name for spec in recipe.rewards.rewards} - named else []
    return [reward_role(recipe, executor, role_name(pool), pool) for pool in (*main, *recipe.rewards.pools)]


def reward_role(recipe: Recipe, executor: str, name: str, pool: PoolConfig | None) -> Role:
    """Reward actors of a pool, None = the main one; on Ray they share model calls between groups."""
    rewards, batched = recipe.rewards, executor == "ray"
    where: dict[str, Any] = {"count": rewards.workers, **_share(rewards)}
    if pool is not None:
        where = {"count": pool.workers, **_share(pool), "runtime_env": pool.runtime_env}
    concurrency = rewards.concurrency if batched else 1
    return Role(name, partial(RewardWorker, batched), deadline=rewards.deadline, concurrency=concurrency, **where)


def learner_role(recipe: Recipe, seed: int, run: Path) -> Role:
    """The learner's gang; each one meets at an address of its own, so that a dead one is never waited for."""
    ranks = recipe.learners.ranks
    meeting = run.resolve() / f".ranks-{os.getpid()}-{time.monotonic_ns()}"
    address = f"file://{meeting}" if ranks > 1 else None
    learner = partial(LearnerWorker, recipe, seed, address)
    config = recipe.learners
    return Role("learner", learner, count=ranks, gang=True, deadline=config.deadline, **_share(config))


def _share(config: Any) -> dict[str, Any]:
    """What one worker takes of a node, as a recipe's section says it."""
    return {"num_cpus": config.num_cpus, "num_gpus": config.num_gpus, "resources": dict(config.resources)}
