"""What serving rewards costs beside the rewards themselves.

    OMP_NUM_THREADS=1 python benchmarks/rewards.py [--spec JSON] [--ray 15] [--markdown benchmarks/rewards.md]

Three bars, without Ray: model calls when many threads send small requests, CPU of an image against one full batch of
the same reward, and how often a target or reference is embedded. `--spec` takes a reward of yours in a recipe's form;
its first batches must apply to drawn examples. A fourth, an iteration with rewards against one without, is measured
with `--ray 15`, on four runs of a local Ray.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from harness import Meter, Page, interleaved, metered, parser, single_thread
from live import LARGER, begun, metrics, seconds, start

from burnish.data.masks import box_mask
from burnish.data.records import (
    Conditions,
    Example,
    Geometry,
    Group,
    PolicyVersion,
    Reference,
    RubricVersion,
    SamplerSpec,
    Scores,
    Trajectory,
)
from burnish.data.seeding import generator
from burnish.rewards.batcher import Batcher
from burnish.rewards.encoders import ConvEncoder
from burnish.rewards.order import RewardOrder
from burnish.rewards.rubric import RewardSpec
from burnish.rewards.server import RewardServer
from burnish.rewards.table import make_reward, reward_class

CPU_BAR = 1.15
ITERATION_BAR = 1.1
ITERATION_CLAIM = f"an iteration with rewards at most {ITERATION_BAR} of one without"
WARM = 3
"""Iterations at the start of a run that are left out."""
SIDE = 256
THREADS = 32
DEFAULT = RewardSpec(name="toy_semantic", kind="toy_semantic", options={"size": 224})
"""A stand-in that is large enough for its cost to be the model's: 224 px, as real encoders look at."""
CACHED = ("toy_perceptual", "toy_style", "toy_semantic")


def drawn(name: str, number: int, *, side: int = SIDE) -> np.ndarray:
    """Noise float32 [3,side,side] in [0,1]."""
    return generator(0, "reward-benchmark", name, number).random((3, side, side), dtype=np.float32)


def example(number: int) -> Example:
    """A drawn example with a box, a target and two references."""
    target, mask = drawn("target", number), box_mask((32, 32, 224, 224), height=SIDE, width=SIDE)
    references = (Reference("style", drawn("style", number)), Reference("subject", drawn("subject", number)))
    image = np.where(mask > 0, np.float32(0.5), target)
    return Example(f"e{number}", "restore it", image, mask, references, target)


def group(of: Example, images: Iterable[np.ndarray]) -> Group:
    """A group of outputs float32 [3,H,W] each; only what a reward server reads is real."""
    policy, none, spec = PolicyVersion(0, ""), np.zeros((1, 1, 1), np.float32), SamplerSpec("ode", 1)
    flat = np.zeros(1, np.float32)
    rows = tuple(
        Trajectory(of.id, i, none, none, flat, (0,), flat, flat, spec, policy, "", image)
        for i, image in enumerate(images)
    )
    return Group(of, Conditions(of.id, Geometry(SIDE, SIDE), {}), rows, 0, policy)


@dataclass(frozen=True)
class Material:
    """Outputs, which of the examples each is for, and the order that scores them."""

    images: tuple[np.ndarray, ...]
    examples: tuple[Example, ...]
    order: RewardOrder

    def requests(self, rows: int) -> list[Group]:
        """All images in groups of at most `rows`, the examples in turn; each example a copy, as the network makes."""
        starts = range(0, len(self.images), rows)
        examples = [replace(self.examples[i % len(self.examples)]) for i in range(len(starts))]
        return [group(e, self.images[start : start + rows]) for e, start in zip(examples, starts, strict=True)]


def material(spec: RewardSpec, *, images: int, examples: int) -> Material:
    """`images` outputs for `examples` different examples."""
    return Material(
        tuple(drawn("output", i) for i in range(images)),
        tuple(example(i) for i in range(examples)),
        RewardOrder(RubricVersion(1, ""), (spec,)),
    )


def arrive(batcher: Batcher, given: Material, rows: int, *, threads: int = THREADS) -> list[Scores]:
    """Send everything as small requests; each thread sends its next one when it was answered."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda request: batcher.score(request, given.order), given.requests(rows)))


@contextmanager
def counted(owner: type[Any], name: str) -> Iterator[Meter]:
    """Count the calls of a method of a class, in here."""
    original = getattr(owner, name)
    try:
        yield metered(owner, name)
    finally:
        setattr(owner, name, original)


def model_calls(page: Page, given: Material, spec: RewardSpec, *, repeats: int) -> None:
    """Calls against ceil(N / batch) + 1."""
    count, server = len(given.images), RewardServer()
    crosses = server.prepare(spec).crosses
    bound = math.ceil(count / spec.batch) + 1
    page.say(f"## Model calls: {count} images, {THREADS} threads, batch {spec.batch}, window 5 ms", "")
    if not crosses:
        page.verdict("the probe lets groups share calls", None, "it does not, for this reward on this machine")
        return
    batcher, rows = Batcher(server), []
    for size in (1, 3, 5):
        calls = []
        for _ in range(repeats):
            with counted(reward_class(spec.kind), "score") as meter:
                arrive(batcher, given, size)
            calls.append(meter.calls)
        rows.append([str(size), str(math.ceil(count / size)), str(max(calls)), str(bound)])
    batcher.close()
    page.table(["images a request", "requests", "calls, worst", "bar"], rows)
    worst = max(int(row[2]) for row in rows)
    page.verdict(f"at most ceil(N/batch) + 1 = {bound} calls", worst <= bound, f"{worst}")
    page.say("")


def full_batches(given: Material, rows: int, *, batch: int) -> list[tuple[np.ndarray, list[Example]]]:
    """The rows of small requests as full batches [B,3,H,W] with their examples."""
    flat = [(row.image, request.example) for request in given.requests(rows) for row in request.trajectories]
    parts = [flat[start : start + batch] for start in range(0, len(flat), batch)]
    return [(np.stack([image for image, _ in part]), [e for _, e in part]) for part in parts]


def cpu_cost(page: Page, given: Material, spec: RewardSpec, *, repeats: int) -> None:
    """Process seconds of an image that was served, against full batches of the same rows on the bare reward.

    The same rows, because a row whose example came with a request of its own costs a reward more than one of a group:
    the target is cropped and recognised for every example that comes.
    """
    count, reward, server = len(given.images) // spec.batch * spec.batch, make_reward(spec), RewardServer()
    given, sizes, batcher = replace(given, images=given.images[:count]), (spec.batch, 5, 1), Batcher(server)
    cases: dict[str, Callable[[], Any]] = {}
    for size in sizes:
        batches = full_batches(given, size, batch=spec.batch)
        cases[f"bare {size}"] = lambda batches=batches: [reward.score(*each) for each in batches]
        cases[f"server {size}"] = lambda size=size: server.score_many([(g, given.order) for g in given.requests(size)])
        cases[f"batcher {size}"] = lambda size=size: arrive(batcher, given, size)
    timings = interleaved(cases, repeats=repeats)
    batcher.close()
    page.say(f"## CPU of an image: {count} images, least of {repeats}", "")
    rows, worst = [], 0.0
    for size in sizes:
        bare, *served = (timings[f"{way} {size}"] for way in ("bare", "server", "batcher"))
        ratios = [each.best / bare.best for each in served]
        worst = max(worst, *ratios)
        cells = [f"{each.best / count * 1e3:.3f} ms ({each.spread:.0%})" for each in (bare, *served)]
        rows.append([str(size), *cells, *(f"{ratio:.3f}" for ratio in ratios)])
    page.table(["images a request", "bare, full batches", "server", "batcher", "server ratio", "batcher ratio"], rows)
    page.verdict(f"at most {CPU_BAR} of full batches of the same rows", worst <= CPU_BAR, f"{worst:.3f}")
    page.say("")


def embeddings(page: Page, *, images: int, examples: int) -> None:
    """How often targets and references were embedded, by many requests for few examples."""
    page.say(f"## Embeddings: {images} images for {examples} examples, requests of 1", "")
    rows = []
    for kind in CACHED:
        given = material(RewardSpec(name=kind, kind=kind), images=images, examples=examples)
        server = RewardServer()
        server.prepare(given.order.specs[0])
        batcher = Batcher(server)
        with counted(ConvEncoder, "features") as meter:
            calls = sum(scores.costs[kind]["calls"] for scores in arrive(batcher, given, 1))
        batcher.close()
        rows.append([kind, f"{calls:.0f}", f"{meter.calls - calls:.0f}", str(examples)])
    page.table(["reward", "model calls", "embedded beside them", "distinct images"], rows)
    most = max(int(row[2]) for row in rows)
    page.verdict("a target or reference is embedded once", most <= examples, f"{most} for {examples} images")
    page.say("")


def iteration_cost(page: Page, *, iterations: int, repeats: int) -> None:
    """The fourth bar, on Ray: iterations under four rewards against iterations under the cheapest one alone.

    A run without any reward cannot learn, so the comparison is with masked_pixel, whose cost is a few multiplications.
    The bar counts only where scoring takes less time than sampling; both stand in the table.
    """
    one = [{"name": "masked_pixel", "kind": "masked_pixel"}]
    more = ["outside_preservation", "toy_perceptual", "toy_semantic"]
    arms = {"one": one, "four": [*one, *({"name": kind, "kind": kind} for kind in more)]}
    found: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arms}
    for _ in range(repeats):
        for arm, rewards in arms.items():
            overrides = {**LARGER, "grpo.iterations": str(iterations), "grpo.dar.enabled": "false"}
            lines = finished({**overrides, "rewards.rewards": json.dumps(rewards), "grpo.dar.reward": '""'})
            found[arm] += [line for i, line in lines.items() if i >= WARM]
    page.say("## An iteration", "")
    page.table(
        ["rewards", "iterations", "iteration", "sampling", "scoring, all calls"], [_row(a, found[a]) for a in arms]
    )
    ratio = _median(found["four"], seconds) / _median(found["one"], seconds)
    page.verdict(ITERATION_CLAIM, ratio <= ITERATION_BAR, f"{ratio:.3f}")


def finished(overrides: Mapping[str, str]) -> dict[int, dict[str, Any]]:
    """Metrics by iteration of a run on Ray, once it is done."""
    with tempfile.TemporaryDirectory() as name:
        process = start(Path(name), overrides)
        run = begun(Path(name), process)
        process.wait()
        return metrics(run)


def scoring(line: Mapping[str, Any]) -> float:
    """Wall seconds that an iteration's model calls took on the reward actors."""
    return sum(value for name, value in line.items() if name.startswith("reward/") and name.endswith("/seconds"))


def _median(lines: Sequence[Mapping[str, Any]], of: Callable[[Mapping[str, Any]], float]) -> float:
    return statistics.median(of(line) for line in lines)


def _row(arm: str, lines: Sequence[Mapping[str, Any]]) -> list[str]:
    parts: list[Callable[[Mapping[str, Any]], float]] = [seconds, lambda line: line["seconds/sample"], scoring]
    return [arm, str(len(lines)), *(f"{_median(lines, part):.3f} s" for part in parts)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 1 where a bar was missed."""
    options = parser(__doc__)
    options.add_argument("--spec", metavar="JSON", help="a reward as a recipe has it; default: a 224 px stand-in")
    options.add_argument("--images", type=int, default=128)
    options.add_argument("--examples", type=int, default=8, help="distinct examples")
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--ray", type=int, default=0, metavar="N", help="also compare runs of N iterations on Ray")
    chosen = options.parse_args(arguments)
    single_thread()
    spec = DEFAULT if chosen.spec is None else RewardSpec.model_validate_json(chosen.spec)
    page = Page("Serving rewards")
    page.say(f"Reward `{json.dumps(spec.model_dump(mode='json', include={'kind', 'batch', 'options'}))}`.", "")
    given = material(spec, images=chosen.images, examples=chosen.examples)
    model_calls(page, given, spec, repeats=chosen.repeats)
    cpu_cost(page, given, spec, repeats=chosen.repeats)
    embeddings(page, images=chosen.images, examples=chosen.examples)
    if chosen.ray:
        iteration_cost(page, iterations=chosen.ray, repeats=2)
    else:
        page.verdict(ITERATION_CLAIM, None, "give --ray 15")
    return page.close(chosen.markdown)


if __name__ == "__main__":
    sys.exit(main())
