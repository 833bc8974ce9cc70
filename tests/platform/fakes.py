"""Fake workers of the three roles: no tensor, numbers drawn by key, and a note of all they were asked."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from burnish.data.errors import ConfigError
from burnish.data.records import GroupSummary, PolicyVersion, RubricVersion, Scores
from burnish.data.seeding import generator
from burnish.platform.checkpoints import commit
from burnish.platform.config import Recipe, load_recipe
from burnish.platform.desk import RewardDesk
from burnish.platform.executor import Role
from burnish.platform.ledger import Ledger
from burnish.platform.local import LocalExecutor
from burnish.platform.loop import GrpoLoop
from burnish.platform.pools import Pools
from burnish.platform.rubric_start import open_swaps
from burnish.platform.runs import Run, RunStore
from burnish.platform.swaps import Swaps
from burnish.platform.tracking import NoTracker
from burnish.platform.watch import Watch, WatchConfig
from burnish.platform.workforce import Workforce
from burnish.rewards.batches import RewardError
from burnish.rewards.order import RewardOrder, identity

LEARNED = {"grad_norm": 0.5, "lr": 1e-3, "updates": 2.0, "skipped_updates": 0.0}


class Shuffled(LocalExecutor):
    """A local executor whose handles become ready in a keyed random order."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._draw = generator(seed, "arrivals")

    def wait(self, handles):
        """Any of the handles."""
        return handles[int(self._draw.integers(len(handles)))]


@dataclass
class FakeLearner:
    """Counts iterations; its digest says which."""

    iterations: int = 0
    plans: list[Any] = field(default_factory=list)
    groups: list[Any] = field(default_factory=list)

    def update(self, plan, *groups):
        """One iteration."""
        self.plans.append(
            (plan.iteration, plan.on_policy, [(g.example_id, g.advantages.tolist()) for g in plan.groups])
        )
        self.groups.append(groups)
        self.iterations += 1
        return dict(LEARNED)

    def num_shards(self):
        """One."""
        return 1

    def publish(self):
        """(version, weights)."""
        return PolicyVersion(self.iterations, f"{self.iterations:064d}"), {}

    def settled(self):
        """Nothing is written behind."""

    def save(self, parent, name, driver):
        """A commit with nothing but state.json."""
        digests = {"policy_digest": f"p{self.iterations}", "state_digest": f"s{self.iterations}"}
        commit(parent, name, lambda path: (path / "state.json").write_text(json.dumps({**driver, **digests})))
        return digests


@dataclass
class FakeRollout:
    """Samples nothing; the digest of a group is its key."""

    asked: list[tuple[int, int, int]] = field(default_factory=list)

    def load(self, version, state):
        """Take it as it is."""
        return 1, version.digest

    def sample(self, iteration, index, version):
        """(summary, group); the group is its key."""
        self.asked.append((iteration, index, version.number))
        name = f"{iteration}/{index}/{version.number}"
        return GroupSummary(str(index), iteration, version, name, 1, {}), name


@dataclass
class FakeReward:
    """Scores by key. A reward whose batch is 13 cannot be loaded, one whose batch is 17 fails in its first group."""

    recipe: Recipe
    scored: list[str] = field(default_factory=list)
    orders: list[tuple[str, int, tuple[str, ...]]] = field(default_factory=list)

    def prepare(self, specs):
        """Digests that say what each reward is."""
        if any(spec.batch == 13 for spec in specs):
            raise ConfigError("no such file")
        return [identity(spec) for spec in specs]

    def retain(self, specs):
        """Holds nothing."""

    def score(self, group, order):
        """Scores of the order's rewards."""
        if any(spec.batch == 17 for spec in order.specs):
            raise RewardError("not a number")
        self.scored.append(group)
        size = self.recipe.grpo.group_size
        names = [spec.name for spec in order.specs]
        self.orders.append((group, order.rubric.version, tuple(names)))
        raw = {s.name: generator(0, "score", group, identity(s)).normal(size=size).astype("f4") for s in order.specs}
        valid = {n: np.ones(size, bool) for n in names}
        iteration, index, _ = group.split("/")
        return Scores(index, int(iteration), order.rubric, raw, raw, valid)


@dataclass
class Stage:
    """A stage of fakes in a run directory; `seed` orders what is ready when."""

    root: Path
    seed: int = 0
    lag: int = 0
    stop_after: int = 99
    commit_every: int = 1
    overrides: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        more = [("rollouts.lag", str(self.lag)), ("checkpoints.keep_last", "4"), *self.overrides]
        more += [("checkpoints.every", str(self.commit_every))]
        self.recipe = load_recipe("smoke", more)
        self.learner, self.rollout, self.reward = FakeLearner(), FakeRollout(), FakeReward(self.recipe)
        self.executor = Shuffled(self.seed)
        self.executor.start(Role("learner", lambda rank, world: self.learner, gang=True))
        self.executor.start(Role("rollout", lambda rank, world: self.rollout))
        self.executor.start(self.reward_role("reward", None))
        self.pools = Pools(self.executor, (), self.reward_role)
        self.desk, self.workforce = RewardDesk("run"), Workforce()
        store = RunStore(self.root)
        infos = store.infos()
        self.run: Run = store.open(infos[-1].id) if infos else store.create("smoke", 0)
        self.ledger = self.new_ledger()

    def reward_role(self, name, pool):
        """Every pool is served by the one fake."""
        return Role(name, lambda rank, world: self.reward)

    def order(self) -> RewardOrder:
        """What a reward server is asked for under the recipe's rubric."""
        return RewardOrder(RubricVersion(1, "r" * 64), self.recipe.rewards.rewards)

    def swaps(self) -> Swaps:
        """The rubric's log, as the stage opens it."""
        parts = {"executor": self.executor, "pools": self.pools, "ledger": self.ledger, "desk": self.desk}
        return open_swaps(self.recipe.rewards, **parts, deadline=5.0, directory=self.run.path)

    def new_ledger(self) -> Ledger:
        """A ledger that knows nothing yet."""
        return Ledger(self.run, "grpo", recipe=self.recipe, executor=self.executor, tracker=NoTracker())

    def begin(self) -> None:
        """Resume where there is a commit, else make the first."""
        if self.ledger.resume() is None:
            self.ledger.advance(self.learner.publish()[0])
            self.ledger.commit()
        self.learner.iterations = self.ledger.iteration

    def loop(self) -> GrpoLoop:
        """The real loop on the fakes; leaves after `stop_after` finished iterations."""
        return GrpoLoop(
            self.recipe,
            self.executor,
            self.ledger,
            self.swaps(),
            Watch(WatchConfig()),
            lambda iteration, reward: {},
            lambda: self.ledger.iteration + 1 >= self.stop_after,
            workforce=self.workforce,
        )
