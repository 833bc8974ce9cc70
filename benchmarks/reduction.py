"""What the reproducible reduction costs, and what it buys: the same bytes on 1, 2 and 4 ranks.

    OMP_NUM_THREADS=1 python benchmarks/reduction.py [--markdown benchmarks/reduction.md]

Each rank is a process that trains all of the tiny model's transformer on its share of eight fixed micro-batches, with
the torch engine and gloo on loopback. Both reductions take turns inside one run, so a ratio does not depend on the
machine. With more ranks than cores the times are not those of a cluster; the ratio still says what is added.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import Page, parser, single_thread

NUM_MICRO, NUM_STEPS, NUM_WARMUP = 8, 8, 2
KINDS = ("fast", "reproducible")
RANKS = (1, 2, 4)
BAR = 1.5
"""Allowed time of an update with the fixed tree, as a multiple of one without."""


def engine_of(kind: str, rank: int, world: int) -> tuple[Any, Any]:
    """A tiny policy whose weights are all trained, and the torch engine over it."""
    from burnish.learners.engine import EngineConfig
    from burnish.learners.engines import engine_factory
    from burnish.learners.optimizer import OptimizerConfig
    from burnish.platform.config import load_recipe
    from burnish.policies.snapshot import new_policy

    policy = new_policy(load_recipe("tiny").policy.config)
    policy.module.requires_grad_(True)
    config = EngineConfig(kind="torch", reduction=kind)
    total = NUM_STEPS + NUM_WARMUP
    make = engine_factory(
        config, OptimizerConfig(lr=1e-3), num_micro=NUM_MICRO // world, total_steps=total, rank=rank, world=world
    )
    return policy, make(policy.module)


def update(policy: Any, engine: Any, conditions: Any, step: int, rank: int, world: int) -> float:
    """Seconds of one update on this rank's contiguous share of the micro-batches."""
    import torch

    from burnish.data.seeding import normal

    share, began = NUM_MICRO // world, time.perf_counter()
    for micro in range(rank * share, (rank + 1) * share):
        noise = torch.from_numpy(normal((4, *policy.latent_shape(conditions)), step, "reduction", micro))
        velocity = policy.velocity(noise, torch.full((4,), 0.5), [conditions] * 4)
        engine.backward((velocity - noise).square().mean())
    engine.step()
    return time.perf_counter() - began


def rank_main(rank: int, world: int, address: str, out: Path) -> None:
    """One rank: both engines in turn; rank 0 writes seconds and digests."""
    import torch

    from burnish.learners.engine import join_ranks, leave_ranks
    from burnish.platform.config import load_recipe
    from burnish.platform.examples import recipe_source
    from burnish.policies.digests import policy_digest

    single_thread()
    join_ranks(rank=rank, world=world, address=address if world > 1 else None)
    arms = {kind: engine_of(kind, rank, world) for kind in KINDS}
    conditions = next(iter(arms.values()))[0].encode(recipe_source(load_recipe("tiny")).example("train", 0))
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for step in range(NUM_WARMUP + NUM_STEPS):
        for kind, (policy, engine) in arms.items():
            if world > 1:
                torch.distributed.barrier()
            seconds[kind].append(update(policy, engine, conditions, step, rank, world))
    states = {kind: {n: t.numpy() for n, t in engine.trainable().items()} for kind, (_, engine) in arms.items()}
    if rank == 0:
        digests = {kind: policy_digest("", state) for kind, state in states.items()}
        numbers = sum(array.size for array in states["fast"].values())
        found = {"seconds": {k: s[NUM_WARMUP:] for k, s in seconds.items()}, "digests": digests, "parameters": numbers}
        out.write_text(json.dumps(found))
    if world > 1:
        torch.distributed.barrier()
    leave_ranks()


def measured(world: int) -> dict[str, Any]:
    """What rank 0 of `world` ranks wrote."""
    with tempfile.TemporaryDirectory() as folder:
        out, address = Path(folder) / "out.json", (Path(folder) / "store").as_uri()
        command = [sys.executable, __file__, "--rank"]
        ranks = [subprocess.Popen([*command, str(r), str(world), address, str(out)]) for r in range(world)]
        try:
            if any(rank.wait(600) for rank in ranks):
                raise SystemExit(f"a rank of {world} failed")
        finally:
            for rank in ranks:  # those that still wait for one that failed
                rank.kill()
        return json.loads(out.read_text())


def main(argv: list[str] | None = None) -> int:
    """Measure, print, judge."""
    arguments = parser(__doc__).parse_args(argv)
    single_thread()
    page = Page("The reproducible reduction")
    found = {world: measured(world) for world in RANKS}
    rows, ratios = [], {}
    for world, result in found.items():
        middle = {kind: statistics.median(result["seconds"][kind]) for kind in KINDS}
        ratios[world] = middle["reproducible"] / middle["fast"]
        shown = [f"{1000 * middle[kind]:.0f} ms" for kind in KINDS]
        rows.append([str(world), *shown, f"{ratios[world]:.2f}", *(result["digests"][kind][:12] for kind in KINDS)])
    page.table(["ranks", "update, fast", "reproducible", "ratio", "weights, fast", "reproducible"], rows)
    same = {kind: len({result["digests"][kind] for result in found.values()}) for kind in KINDS}
    page.verdict(
        "1, 2 and 4 ranks end with the same weights", same["reproducible"] == 1, f"{same['reproducible']} digest"
    )
    page.verdict(f"it costs at most {BAR} times the update", max(ratios.values()) <= BAR, f"{max(ratios.values()):.2f}")
    page.say(
        "", f"{found[1]['parameters']} float32 parameters, {NUM_MICRO} micro-batches of 4 rows, {NUM_STEPS} updates;"
    )
    page.say(f"the fast reduction ends with {same['fast']} different digests.")
    return page.close(arguments.markdown)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rank"]:
        rank_main(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], Path(sys.argv[5]))
    else:
        sys.exit(main())
