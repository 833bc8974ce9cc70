"""How well sampling, scoring and updating overlap: stages that sleep 200, 80 and 120 ms, at lag 1 and one by one.

    python benchmarks/pipeline.py --markdown benchmarks/pipeline.md

The loop, ledger, commits and the Ray executor are burnish's own; four groups an iteration sleep 50 ms to be sampled and
20 ms to be scored, and an update sleeps 120 ms. Sleeps need no core, so the figures do not depend on the machine's.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import driver_cost
import numpy as np
from harness import Page, parser

from burnish.data.records import GroupSummary, PolicyVersion, Scores
from burnish.platform.checkpoints import commit
from burnish.platform.config import Recipe, load_recipe
from burnish.platform.executor import Role
from burnish.rewards.order import RewardOrder, identity

SAMPLE, SCORE, LEARN = 0.050, 0.020, 0.120
WARM, BAR = 4, 1.15


class Sampler:
    """Sleeps, then hands out a group's key."""

    def __init__(self, rank: int, world: int) -> None:
        pass

    def load(self, version: PolicyVersion, state: Any) -> tuple[int, str]:
        """Believe everything."""
        return 1, version.digest

    def sample(self, iteration: int, index: int, version: PolicyVersion) -> tuple[GroupSummary, str]:
        """One group."""
        time.sleep(SAMPLE)
        key = f"{iteration}/{index}"
        return GroupSummary(key, iteration, version, key, 1, {"sample": SAMPLE}), key


class Scorer:
    """Sleeps, then scores by key."""

    def __init__(self, size: int, rank: int, world: int) -> None:
        self._size = size

    def prepare(self, specs: Any) -> list[str]:
        """Loads nothing."""
        return [identity(spec) for spec in specs]

    def score(self, group: str, order: RewardOrder) -> Scores:
        """Other numbers for every sample."""
        time.sleep(SCORE)
        raw = {spec.name: -np.linspace(0.1, 0.9, self._size, dtype=np.float32) for spec in order.specs}
        valid = {name: np.ones(self._size, bool) for name in raw}
        return Scores(group, int(group.split("/")[0]), order.rubric, raw, raw, valid, seconds=SCORE)


class Learner:
    """Sleeps an update long."""

    def __init__(self, rank: int, world: int) -> None:
        self._updates = 0

    def update(self, plan: Any, *groups: str) -> dict[str, float]:
        """One iteration."""
        time.sleep(LEARN)
        self._updates += 1
        return {"grad_norm": 1.0, "lr": 1e-3, "updates": 2.0, "skipped_updates": 0.0}

    def num_shards(self) -> int:
        """One."""
        return 1

    def publish(self) -> tuple[PolicyVersion, dict[str, Any]]:
        """The next version."""
        return PolicyVersion(self._updates, f"{self._updates:064d}"), {}

    def settled(self) -> None:
        """Nothing is written behind."""

    def save(self, parent: Path, name: str, driver: dict[str, Any]) -> dict[str, str]:
        """A small real commit."""
        commit(parent, name, lambda path: (path / "state.json").write_text(json.dumps(driver)))
        return {"policy_digest": "", "state_digest": ""}


@dataclass(frozen=True)
class Stages:
    """What `driver_cost.drive` asks of its material."""

    recipe: Recipe

    def roles(self) -> list[Role]:
        """Rollout, reward, learner: one worker each."""
        return [
            Role("rollout", Sampler),
            Role("reward", partial(Scorer, self.recipe.grpo.group_size)),
            Role("learner", Learner, gang=True),
        ]


def bubbles(lag: int, iterations: int) -> tuple[list[float], float]:
    """Wall / longest stage of every iteration after the first few, and the largest staleness."""
    from burnish.platform.cluster import RayExecutor

    more = [("rollouts.lag", str(lag)), ("checkpoints.keep_last", "4"), ("grpo.iterations", str(iterations))]
    stages = Stages(load_recipe("smoke", more))
    executor = RayExecutor()
    for role in stages.roles():
        executor.start(role)
    with tempfile.TemporaryDirectory() as name:
        driver_cost.drive(cast(Any, stages), executor, Path(name), warm=WARM)
        (path,) = Path(name).glob("*/metrics.jsonl")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    executor.close()
    return [line["pipeline/bubble"] for line in lines[WARM:]], max(line["pipeline/staleness_max"] for line in lines)


def main() -> int:
    """Measure, print, judge."""
    arguments = parser(__doc__)
    arguments.add_argument("--iterations", type=int, default=40)
    given = arguments.parse_args()
    from burnish.platform.placement import local_ray

    page = Page("Overlap of sampling, scoring and updating")
    found = {}
    with local_ray([Role("any", Sampler, count=3)]):
        for lag in (0, 1):
            found[lag] = bubbles(lag, given.iterations)
    serial = (4 * SAMPLE + SCORE + LEARN) / (4 * SAMPLE)  # a group is scored while the next one is sampled
    rows = [
        [str(lag), f"{statistics.median(values):.3f}", f"{min(values):.3f}", f"{max(values):.3f}", f"{age:.0f}"]
        for lag, (values, age) in found.items()
    ]
    page.table(["lag", "wall / longest stage, median", "least", "largest", "staleness, versions"], rows)
    at_1, age = found[1]
    page.verdict(f"wall / longest stage <= {BAR} at lag 1", statistics.median(at_1) <= BAR, f"{rows[1][1]}")
    page.verdict("samples are at most one version old", age <= 1, f"{age:.0f}")
    page.say("", f"At lag 0 rewards alone overlap, which leaves {serial:.2f}; sleeping in turn would take 2.00.")
    return page.close(given.markdown)


if __name__ == "__main__":
    sys.exit(main())
