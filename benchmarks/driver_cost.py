"""What a group costs the driver: CPU of the training loop with fake workers, and the bytes that pass through it.

The loop, ledger, journal, planning, watch and pruning are burnish's own; the workers hand out one real group again and
again. Their own CPU is measured and taken off, so what is left is the driver's. Used by `epoch.py`.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial, wraps
from pathlib import Path
from typing import Any

import numpy as np

from burnish.data.records import Group, GroupSummary, PolicyVersion, Scores
from burnish.platform.checkpoints import commit
from burnish.platform.config import Recipe
from burnish.platform.desk import RewardDesk
from burnish.platform.executor import Executor, Handle, Role
from burnish.platform.ledger import Ledger
from burnish.platform.local import LocalExecutor
from burnish.platform.loop import GrpoLoop
from burnish.platform.pools import Pools
from burnish.platform.rubric_start import open_swaps
from burnish.platform.runs import RunStore
from burnish.platform.sync import deliver
from burnish.platform.tracking import NoTracker
from burnish.platform.watch import Watch
from burnish.rewards.order import RewardOrder, identity
from burnish.rewards.rubric import RewardSpec

fake_seconds = [0.0]
"""Process seconds that fake workers of this process took."""


def fake(method: Callable[..., Any]) -> Callable[..., Any]:
    """Count a fake worker's own CPU."""

    @wraps(method)
    def counted(*args: Any) -> Any:
        started = time.process_time()
        result = method(*args)
        fake_seconds[0] += time.process_time() - started
        return result

    return counted


class FakeRollouter:
    """Hands out one group under every example's name."""

    def __init__(self, group: Group, summary: GroupSummary, rank: int, world: int) -> None:
        self._group, self._summary = group, summary

    @fake
    def load(self, version: PolicyVersion, state: Any) -> tuple[int, str]:
        """Believe everything."""
        return 1, version.digest

    @fake
    def sample(self, iteration: int, index: int, version: PolicyVersion) -> tuple[GroupSummary, Group]:
        """The group under the name of example `index`."""
        name, digest = f"example-{index}", f"{iteration:032d}{index:032d}"
        summary = replace(self._summary, example_id=name, iteration=iteration, policy=version, samples_digest=digest)
        return summary, replace(self._group, iteration=iteration, policy=version)


class FakeReward:
    """Hands out scores of one group, other ones every time."""

    def __init__(self, scores: Scores, rank: int, world: int) -> None:
        self._scores, self._calls = scores, 0

    @fake
    def prepare(self, specs: Sequence[RewardSpec]) -> list[str]:
        """Loads nothing."""
        return [identity(spec) for spec in specs]

    @fake
    def score(self, group: Group, order: RewardOrder) -> Scores:
        """Scores, turned round by one place every call."""
        self._calls += 1
        turned = {
            name: {k: np.roll(v, self._calls) for k, v in getattr(self._scores, name).items()}
            for name in ("raw", "scaled", "valid")
        }
        return replace(self._scores, iteration=group.iteration, rubric=order.rubric, **turned)


class FakeLearner:
    """Learns nothing and says something."""

    def __init__(self, state: dict[str, np.ndarray], rank: int, world: int) -> None:
        self._state, self._updates = state, 0

    @fake
    def update(self, plan: Any, *groups: Group) -> dict[str, float]:
        """About as many numbers as a learner returns."""
        self._updates += 1
        numbers = {f"metric_{i}": float(i) for i in range(12)}
        return {**numbers, "grad_norm": 1.0, "lr": 1e-3, "updates": 2.0, "skipped_updates": 0.0}

    @fake
    def num_shards(self) -> int:
        """One."""
        return 1

    def publish(self) -> tuple[PolicyVersion, dict[str, np.ndarray]]:
        """The next version, weights of the real size."""
        return PolicyVersion(self._updates, f"{self._updates:064d}"), self._state

    @fake
    def settled(self) -> None:
        """Nothing is written behind."""

    def save(self, parent: Path, name: str, driver: dict[str, Any]) -> dict[str, str]:
        """A small real commit, so that the driver has something to prune."""
        commit(parent, name, lambda path: (path / "state.json").write_text("{}"))
        return {"policy_digest": "", "state_digest": ""}


class Recording(LocalExecutor):
    """The local executor, noting what would cross between processes.

    Attributes:
        driver: bytes that the driver takes in or sends out, by method.
        stored: bytes of results that stay with the workers, by method; nothing fetches them twice.
    """

    def __init__(self) -> None:
        super().__init__()
        self.driver: dict[str, int] = {}
        self.stored: dict[str, int] = {}
        self._names: dict[int, str] = {}

    def _note(self, table: dict[str, int], name: str, value: Any) -> None:
        table[name] = table.get(name, 0) + len(pickle.dumps(value, protocol=5))

    def _made(self, method: str, args: Sequence[Any], handles: tuple[Handle, ...]) -> tuple[Handle, ...]:
        self._note(self.driver, f"{method}: arguments", [a for a in args if not hasattr(a, "value")])
        for part, handle in enumerate(handles):
            name = method if len(handles) == 1 else f"{method}, part {part + 1}"
            self._names[id(handle)] = name
            self._note(self.stored, name, handle.value)  # type: ignore[attr-defined]
        return handles

    def submit(self, role: str, method: str, *args: Any, returns: int = 1) -> tuple[Handle, ...]:
        """As the local executor."""
        return self._made(method, args, super().submit(role, method, *args, returns=returns))

    def gang(
        self, role: str, method: str, *args: Any, each: Sequence[Sequence[Any]] = (), returns: int = 1
    ) -> tuple[Handle, ...]:
        """As the local executor."""
        return self._made(method, args, super().gang(role, method, *args, each=each, returns=returns))

    def get(self, handle: Handle) -> Any:
        """As the local executor."""
        value = super().get(handle)
        self._note(self.driver, f"{self._names.get(id(handle), 'other')}: result", value)
        return value


@dataclass(frozen=True, eq=False)
class Material:
    """What the fake workers hand out: a real group, its summary and scores, and weights of the real size."""

    recipe: Recipe
    group: Group
    summary: GroupSummary
    scores: Scores
    state: dict[str, np.ndarray]

    def roles(self) -> list[Role]:
        """The three roles, faked."""
        return [
            Role("rollout", partial(FakeRollouter, self.group, self.summary)),
            Role("reward", partial(FakeReward, self.scores)),
            Role("learner", partial(FakeLearner, self.state), gang=True),
        ]


def drive(material: Material, executor: Executor, directory: Path, *, warm: int) -> float:
    """Run the loop; returns the driver's CPU seconds a group, the first `warm` iterations left out."""
    recipe = material.recipe
    run = RunStore(directory).create("driver", 0)
    ledger = Ledger(run, "grpo", recipe=recipe, executor=executor, tracker=NoTracker())
    marks: list[float] = []

    def after(iteration: int, reward: float) -> dict[str, float]:
        marks.append(time.process_time() - fake_seconds[0])
        return {}

    ledger.advance(deliver(executor))
    ledger.commit()
    pools = Pools(executor, (), lambda name, pool: material.roles()[1])
    parts: dict[str, Any] = {"executor": executor, "pools": pools, "ledger": ledger, "desk": RewardDesk(run.id)}
    swaps = open_swaps(recipe.rewards, **parts, deadline=60.0, directory=run.path)
    GrpoLoop(recipe, executor, ledger, swaps, Watch(recipe.watch), after, lambda: False).run()
    counted = marks[warm:]
    return (counted[-1] - counted[0]) / ((len(counted) - 1) * recipe.grpo.examples_per_iteration)


def image_bytes(group: Group) -> int:
    """Bytes of a group's images."""
    return sum(t.image.nbytes for t in group.trajectories)


def group_bytes(group: Group) -> tuple[int, int]:
    """(pickled bytes, bytes of numpy buffers that travel beside the pickle) of a group."""
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(group, protocol=5, buffer_callback=buffers.append)
    return len(text), sum(b.raw().nbytes for b in buffers)
