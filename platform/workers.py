"""The workers of each role: a room's plain class, built from a recipe where it will run.

An executor makes them by `functools.partial(Worker, recipe, ...)`, in the driver's process or in an actor. A worker
that was restarted is empty; the executor repeats `begin` and `load` before it sends work again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from burnish.data.errors import InfrastructureError
from burnish.data.records import Example, Group, GroupSummary, PolicyVersion, SamplerSpec, Scores
from burnish.platform.config import Recipe
from burnish.platform.examples import recipe_source
from burnish.platform.failpoints import fail_point
from burnish.policies.snapshot import load_start
from burnish.rewards.batcher import Batcher
from burnish.rewards.order import RewardOrder
from burnish.rewards.rubric import RewardSpec
from burnish.rewards.server import RewardServer
from burnish.rollouts.evaluation import EvalPart, Evaluator, evaluation_examples
from burnish.rollouts.rollouter import Rollouter, sample_examples


class RolloutWorker:
    """Samples groups and evaluates, with the weights it was last given."""

    def __init__(self, recipe: Recipe, seed: int, rank: int, world: int) -> None:
        self._recipe = recipe
        self._seed = seed
        self._source = recipe_source(recipe)
        self._rollouter: Rollouter | None = None
        self._examples: dict[tuple[str, int], list[Example]] = {}

    def begin(self, base: Path) -> str:
        """Load the base and the adapter that training starts from; returns the base's digest."""
        recipe = self._recipe
        start = load_start(base, recipe.grpo.trained_adapter)
        self._rollouter = Rollouter(
            start.policy,
            base=start.base,
            source=self._source,
            config=recipe.rollouts,
            sampler=recipe.grpo.sampler,
            group_size=recipe.grpo.group_size,
            seed=self._seed,
            keep_means=recipe.grpo.update.guard,
        )
        return start.base

    def _ready(self) -> Rollouter:
        if self._rollouter is None:
            raise InfrastructureError("this rollout worker has no policy yet: it was restarted")
        return self._rollouter

    def load(self, version: PolicyVersion, *shards: Mapping[str, np.ndarray]) -> tuple[int, str]:
        """Take published weights, in shards; see `Rollouter.load`."""
        held = self._ready().load(version, {name: array for shard in shards for name, array in shard.items()})
        fail_point("sync")
        return held

    def sample(self, iteration: int, index: int, version: PolicyVersion) -> tuple[GroupSummary, Group]:
        """Sample one group; see `Rollouter.sample`."""
        sampled = self._ready().sample(iteration, index, version)
        fail_point("sample")
        return sampled

    def evaluate(
        self,
        split: str,
        count: int,
        sampler: SamplerSpec,
        positions: Sequence[int],
        keep: Sequence[str],
        version: PolicyVersion,
    ) -> EvalPart:
        """Rows of some positions of an evaluation, measured with `version`.

        Raises:
            InfrastructureError: `version` is not held: load, then ask again.
        """
        rollouter = self._ready()
        rollouter.use(version)
        examples = self._evaluated(split, count)
        evaluator = Evaluator(
            self._recipe.evaluation, sample=lambda batch, spec: sample_examples(rollouter.policy, batch, spec)
        )
        chosen = [examples[i] for i in positions]
        return evaluator.evaluate(chosen, sampler=sampler, positions=positions, keep=keep)

    def _evaluated(self, split: str, count: int) -> list[Example]:
        key = (split, count)
        if key not in self._examples:
            config = self._recipe.evaluation
            self._examples[key] = evaluation_examples(
                self._source, split, count=count, block=self._recipe.data.block, config=config
            )
        return self._examples[key]


class RewardWorker:
    """Scores groups by the rewards of an order; what it does not hold it loads first, so a restart costs only time.

    Args:
        batched: calls come from several threads and share model calls; False = one call at a time.
    """

    def __init__(self, batched: bool, rank: int, world: int) -> None:
        self._server = RewardServer()
        self._batcher = Batcher(self._server) if batched else None

    def prepare(self, specs: Sequence[RewardSpec]) -> list[str]:
        """Load rewards and score a canary with each; returns their digests."""
        return [self._server.prepare(spec).digest for spec in specs]

    def score(self, group: Group, order: RewardOrder) -> Scores:
        """Score one group; see `RewardServer.score`."""
        scores = (self._batcher or self._server).score(group, order)
        fail_point("score")
        return scores

    def retain(self, specs: Sequence[RewardSpec]) -> None:
        """Forget all other rewards."""
        self._server.retain(specs)

    def close(self) -> None:
        """Stop the batching thread."""
        if self._batcher is not None:
            self._batcher.close()
