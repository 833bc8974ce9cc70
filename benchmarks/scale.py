"""How many workers one driver keeps busy: 16 to 2,048 simulated ones, which sleep, in a few async actors.

    python benchmarks/scale.py --markdown benchmarks/scale.md

The executor's own submit, wait and get are timed, with a summary and a group handle a call as in training. A driver
that hands on `rate` groups a second keeps at most rate x seconds workers busy, so efficiency is held against
min(1, rate x seconds / workers), with the rate measured here on work that takes no time. It is counted from
when every worker has had one group until only one for each is left, so without the start and the end, when workers wait
for their first group and for nothing.

A group's CPU is given twice: all that the driver's process took, and that without what an idle Ray driver takes in the
same time, measured right before each row. The first says what a machine needs, the second what a group costs: where
three groups come a second, most of the first is Ray's own threads, which work whether groups come or not. A call of two
results without the executor, made alone, stands beside it.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

from harness import Page, parser

from burnish.data.records import GroupSummary, PolicyVersion

HOSTS = 4
VERSION = PolicyVersion(0, "0" * 64)
WORKERS = (16, 64, 256, 512, 1024, 2048)
BAR, DRIVER_MS = 0.9, 2.0


class Sleepers:
    """Many workers in one process: a call sleeps and returns a summary and a group, as a rollout worker does."""

    async def build(self) -> str:
        """Where it stands; there is nothing to build."""
        return "here"

    async def call(self, method: str, iteration: int, index: int, version: PolicyVersion, seconds: float) -> Any:
        """One group."""
        import asyncio

        await asyncio.sleep(seconds)
        return GroupSummary(str(index), iteration, version, "d" * 64, 1, {"sample": seconds}), b"group"


def host_actors() -> list[Any]:
    """A few actors that each hold a share of the simulated workers."""
    import ray

    made: Any = ray.remote(Sleepers)
    actors = [made.options(num_cpus=0, max_concurrency=WORKERS[-1]).remote() for _ in range(HOSTS)]
    ray.get([actor.call.remote("sample", 0, 0, VERSION, 0.0) for actor in actors])
    return actors


@dataclass(frozen=True)
class Measured:
    """Groups done, process and wall seconds; groups and wall seconds without the first and last round."""

    groups: int
    cpu: float
    elapsed: float
    steady: int
    wall: float

    @property
    def cpu_ms(self) -> float:
        """Process milliseconds a group."""
        return self.cpu / self.groups * 1e3

    def added_ms(self, idle: float) -> float:
        """Process milliseconds a group beyond what an idle driver takes: `idle` ms a second."""
        return self.cpu_ms - idle * self.elapsed / self.groups

    @property
    def rate(self) -> float:
        """Groups a second."""
        return self.steady / self.wall


def drive(actors: list[Any], *, workers: int, seconds: float, groups: int) -> Measured:
    """Keep `workers` busy until `groups` are done, as the training loop does: wait for one, submit the next."""
    from burnish.platform.cluster import RayExecutor
    from burnish.platform.executor import Role

    def make(role: Role, slot: int) -> tuple[Any, Any]:
        return actors[slot % HOSTS], actors[slot % HOSTS].build.remote()

    executor = RayExecutor(make=make)
    executor.start(Role("rollout", lambda rank, world: None, count=workers))
    cpu, start, first, last = time.process_time(), time.perf_counter(), 0.0, 0.0
    waiting = {}
    for index in range(min(workers, groups)):
        waiting |= dict.fromkeys(executor.submit("rollout", "sample", 0, index, VERSION, seconds, returns=2)[:1], index)
    sent, done = len(waiting), 0
    while waiting:
        handle = executor.wait(list(waiting))
        assert executor.get(handle).num_forwards == 1
        waiting.pop(handle)
        done += 1
        if done == workers:
            first = time.perf_counter()
        if done == groups - workers:
            last = time.perf_counter()
        if sent < groups:
            (summary, _) = executor.submit("rollout", "sample", 0, sent, VERSION, seconds, returns=2)
            waiting[summary] = sent
            sent += 1
    return Measured(done, time.process_time() - cpu, time.perf_counter() - start, groups - 2 * workers, last - first)


def idle_ms(seconds: float = 5.0) -> float:
    """CPU ms a second of a Ray driver that only sleeps."""
    start = time.process_time()
    time.sleep(seconds)
    return (time.process_time() - start) / seconds * 1e3


def alone_ms(actors: list[Any], *, calls: int = 300) -> float:
    """CPU ms of a call without the executor, made alone."""
    import ray

    start = time.process_time()
    for index in range(calls):
        summary, _ = actors[0].call.options(num_returns=2).remote("sample", 0, index, VERSION, 0.0)
        ray.wait([summary], num_returns=1, fetch_local=False)
        ray.get(summary)
    return (time.process_time() - start) / calls * 1e3


def main() -> int:
    """Measure, print, judge."""
    arguments = parser(__doc__)
    arguments.add_argument("--workers", type=int, nargs="+", default=list(WORKERS))
    arguments.add_argument("--rounds", type=int, default=5, help="groups a worker")
    given = arguments.parse_args()
    from burnish.platform.executor import Role
    from burnish.platform.placement import local_ray

    page = Page("How many workers one driver keeps busy")
    with local_ray([Role("rollout", lambda rank, world: None, count=HOSTS)]):
        actors = host_actors()
        drive(actors, workers=64, seconds=0.0, groups=256)
        floor = drive(actors, workers=64, seconds=0.0, groups=2000)
        page.say(
            f"Groups that take no time: {floor.rate:.0f} a second, {floor.cpu_ms:.2f} ms CPU each.",
            f"A call of Ray's made alone: {alone_ms(actors):.2f} ms CPU.",
            "",
        )
        rows, at_512, full, dearest = [], 0.0, 0.0, 0.0
        for seconds in (1.0, 5.0):
            for workers in given.workers:
                idle = idle_ms()
                found = drive(actors, workers=workers, seconds=seconds, groups=given.rounds * workers)
                efficiency, bound = found.rate * seconds / workers, min(1.0, floor.rate * seconds / workers)
                dearest = max(dearest, found.added_ms(idle))
                if (workers, seconds) == (512, 5.0):
                    at_512, full = efficiency, found.cpu_ms
                costs = [f"{cost:.2f} ms" for cost in (idle, found.cpu_ms, found.added_ms(idle))]
                rows.append([f"{workers}", f"{seconds:g} s", f"{efficiency:.3f}", f"{bound:.3f}", *costs])
    heads = ["workers", "a group takes", "efficiency", "min(1, rate x seconds / workers)"]
    page.table([*heads, "idle driver, a second", "driver CPU a group", "without the idle driver's"], rows)
    page.verdict(f"512 workers of 5 s at {BAR} or better", at_512 >= BAR if at_512 else None, f"{at_512:.3f}")
    page.verdict(
        f"their driver at <= {DRIVER_MS:g} ms CPU a group", full <= DRIVER_MS if full else None, f"{full:.2f} ms"
    )
    page.verdict(
        f"CPU that a group adds, everywhere, <= {DRIVER_MS:g} ms", dearest <= DRIVER_MS, f"at most {dearest:.2f} ms"
    )
    return page.close(given.markdown)


if __name__ == "__main__":
    sys.exit(main())
