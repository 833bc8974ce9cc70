"""A whole iteration against its bound, and what the driver adds to it.

    OMP_NUM_THREADS=1 python benchmarks/epoch.py [--model large|tiny|both] [--ray] [--markdown benchmarks/epoch.md]

Bound of a sample: T forward + k (forward + backward), + k reference forwards where there is a KL term; T denoising
steps, k trained ones. Its three parts are the bare transformer calls on the iteration's own inputs, at the same batch,
adapter unfolded, timed in the same process in turn with the iterations. An iteration is all that the workers do: draw
examples, encode, sample, score by the tiny recipe's rubric, plan, update, publish and load the new weights.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from driver_cost import Material, Recording, drive, group_bytes, image_bytes
from harness import Page, Timing, interleaved, metered, parser, single_thread
from models import WORKLOADS, Workload, digest_of

from burnish.data.records import PolicyVersion, RewardVersion
from burnish.learners.dar import DarConfig
from burnish.learners.engine import EngineConfig, join_ranks
from burnish.learners.engines import engine_factory
from burnish.learners.grpo import GrpoConfig, KlConfig
from burnish.learners.learner import Learner
from burnish.platform.config import Recipe, load_recipe
from burnish.platform.planning import make_plan
from burnish.policies.lora import adapter_disabled, export_state
from burnish.policies.sampling import SamplerConfig
from burnish.policies.tiny import TinyPolicy
from burnish.rewards.order import RewardOrder
from burnish.rewards.rubric import rubric_version
from burnish.rewards.server import RewardServer
from burnish.rollouts.rollouter import RolloutConfig, Rollouter

BAR = 1.15
DRIVER_BAR = 2.0


@dataclass(frozen=True)
class Algorithm:
    """What is trained: k steps, with or without a KL term."""

    name: str
    trained: int
    beta: float


def algorithms(work: Workload) -> list[Algorithm]:
    """The two ends: one SDE step without KL; every step but the last with KL."""
    every = work.num_steps - 1
    return [Algorithm("1 SDE step, no KL", 1, 0.0), Algorithm(f"{every} SDE steps, KL", every, 0.04)]


class Iteration:
    """One iteration of GRPO on `groups` groups, in one process, without executor or ledger."""

    def __init__(self, work: Workload, algorithm: Algorithm, recipe: Recipe, *, groups: int, engine: str) -> None:
        steps = work.num_steps
        self.work, self.recipe, self.groups, self.number = work, recipe, groups, 0
        self.policy, self.base = work.policy()
        sampling, _ = work.policy()
        sampler = SamplerConfig(
            num_steps=steps, window=tuple(range(steps - 1)), num_train_steps=algorithm.trained, logprob_region="mask"
        )
        self.rollouter = Rollouter(
            sampling,
            base=self.base,
            source=work.source,
            config=RolloutConfig(sample_batch=work.group_size),
            sampler=sampler,
            group_size=work.group_size,
            seed=0,
        )
        config = GrpoConfig(
            updates_per_iteration=1, micro_batch=work.group_size, kl=KlConfig(beta=algorithm.beta), clip_low=0.01
        )
        make = engine_factory(
            EngineConfig.model_validate({"kind": engine}), config.optimizer, num_micro=groups, total_steps=100
        )
        reference: Any = lambda: adapter_disabled(self.policy.module)  # noqa: E731
        self.learner = Learner(self.policy, make, config, reference=reference, sample_batch=work.group_size)
        self.server, specs = RewardServer(), recipe.rewards.rewards
        versions = tuple(RewardVersion(spec.name, 1, self.server.prepare(spec).digest) for spec in specs)
        self.order = RewardOrder(rubric_version(recipe.rewards, versions), specs, versions)
        self.deliver()

    def deliver(self) -> None:
        """Publish the learner's weights and load them where sampling happens."""
        state = self.learner.publish()
        version = PolicyVersion(self.number, digest_of(self.base, self.policy))
        self.rollouter.load(version, state)

    def __call__(self) -> None:
        """Sample, score, plan, learn, deliver."""
        first = self.number * self.groups
        sampled = [
            self.rollouter.sample(self.number, index, self.rollouter.version)
            for index in range(first, first + self.groups)
        ]
        self.summary, self.group = sampled[0]
        scores = [self.server.score(group, self.order) for _, group in sampled]
        self.scores = scores[0]
        planned = make_plan(
            scores,
            iteration=self.number,
            on_policy=True,
            rubric=self.recipe.rewards,
            config=self.recipe.grpo.advantages,
            dar=DarConfig(),
        )
        self.learner.update(planned.plan, *(group for _, group in sampled))
        self.number += 1
        self.deliver()


def bare_calls(iteration: Iteration) -> dict[str, Callable[[], Any]]:
    """The bound's parts on one batch of the iteration's own inputs."""
    policy, work = iteration.policy, iteration.work
    arguments = captured(policy, work)
    module = policy.module

    def forward() -> None:
        with torch.inference_mode():
            module(**arguments)

    def train() -> None:
        module(**arguments)[0].sum().backward()
        module.zero_grad(set_to_none=True)

    def reference() -> None:
        with torch.no_grad(), adapter_disabled(module):
            module(**arguments)

    return {"forward": forward, "forward + backward": train, "reference forward": reference}


def captured(policy: TinyPolicy, work: Workload) -> dict[str, Any]:
    """Arguments of one transformer call as the policy makes it."""
    conditions = policy.encode(work.source.example("train", 0))
    latents = torch.full((work.group_size, *policy.latent_shape(conditions)), 0.1)
    seen: dict[str, Any] = {}
    hook = policy.module.register_forward_pre_hook(lambda m, a, kwargs: seen.update(kwargs), with_kwargs=True)
    with torch.no_grad():
        policy.velocity(latents, torch.full((work.group_size,), 0.5), [conditions] * work.group_size)
    hook.remove()
    return {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in seen.items()}


def bound(timings: dict[str, Timing], work: Workload, algorithm: Algorithm, groups: int) -> float:
    """Seconds of an iteration that did nothing but the transformer's arithmetic."""
    each = work.num_steps * timings["forward"].best + algorithm.trained * timings["forward + backward"].best
    if algorithm.beta:
        each += algorithm.trained * timings["reference forward"].best
    return each * groups


def measure(page: Page, work: Workload, recipe: Recipe, options: Any) -> Iteration:
    """Both algorithms on one workload; returns the last iteration, whose group is real."""
    rows, ratios = [], []
    for algorithm in algorithms(work):
        iteration = Iteration(work, algorithm, recipe, groups=options.groups, engine=options.engine)
        forward = metered(iteration.rollouter.policy.module, "forward")
        timings = interleaved({**bare_calls(iteration), "iteration": iteration}, repeats=options.repeats)
        whole, least = timings["iteration"], bound(timings, work, algorithm, options.groups)
        calls = forward.calls / ((options.repeats + 1) * options.groups)
        samples = options.groups * work.group_size
        parts = [f"{timings[n].best / work.group_size * 1e3:.2f}" for n in list(timings)[:3]]
        ratios.append((algorithm, whole.best / least))
        measured = [f"{whole.best / samples * 1e3:.2f} ms", f"{whole.spread:.0%}", f"{calls:g}"]
        rows.append([algorithm.name, *measured, *parts, f"{least / samples * 1e3:.2f} ms", f"{whole.best / least:.3f}"])
    page.say(f"## {work.describe(iteration.policy)}; {options.groups} groups an iteration, engine {options.engine}", "")
    header = ["algorithm", "CPU a sample", "spread", "sampling calls a group", "forward", "fwd + bwd", "reference"]
    page.table([*header, "bound", "ratio"], rows)
    page.say("Milliseconds a sample; the reference runs without the adapter, which is what folding it would save.", "")
    for algorithm, ratio in ratios:
        if work.barred:
            page.verdict(f"{work.name}, {algorithm.name}: within {BAR} of the bound", ratio <= BAR, f"{ratio:.3f}")
    page.say("")
    return iteration


def driver(page: Page, iteration: Iteration, recipe: Recipe, *, on_ray: bool) -> None:
    """CPU of the driver a group, and the bytes that pass through it."""
    state = export_state(iteration.policy.module)
    material = Material(recipe, iteration.group, iteration.summary, iteration.scores, state)
    size = len(material.group.trajectories)
    page.say(f"## Driver: {recipe.grpo.examples_per_iteration} groups of {size} an iteration, a commit each", "")
    costs = {"local": [local_cost(material) for _ in range(3)]}
    if on_ray:
        costs["ray"] = ray_costs(material)
    for name, values in costs.items():
        best, spread = min(values) * 1e3, (max(values) - min(values)) * 1e3
        claim = f"driver CPU a group, {name} executor, <= {DRIVER_BAR:g} ms"
        page.verdict(claim, best <= DRIVER_BAR, f"{best:.2f} ms (spread {spread:.2f} ms)")
    crossings(page, material)


def local_cost(material: Material) -> float:
    """Seconds a group under the local executor."""
    from burnish.platform.local import LocalExecutor

    executor = LocalExecutor()
    for role in material.roles():
        executor.start(role)
    with tempfile.TemporaryDirectory() as directory:
        return drive(material, executor, Path(directory), warm=2)


def ray_costs(material: Material) -> list[float]:
    """Seconds a group on a local Ray, three times; Ray's own threads in the driver's process count."""
    from burnish.platform.placement import local_ray

    costs = []
    with local_ray(material.roles()):
        from burnish.platform.cluster import RayExecutor

        for _ in range(3):
            executor = RayExecutor()
            for role in material.roles():
                executor.start(role)
            with tempfile.TemporaryDirectory() as directory:
                costs.append(drive(material, executor, Path(directory), warm=8))
            executor.close()
    return costs


def crossings(page: Page, material: Material) -> None:
    """What crosses between processes for a group, and by which way."""
    executor = Recording()
    for role in material.roles():
        executor.start(role)
    with tempfile.TemporaryDirectory() as directory:
        drive(material, executor, Path(directory), warm=2)
    recipe = material.recipe
    groups = recipe.grpo.iterations * recipe.grpo.examples_per_iteration
    per_group = {k: v / groups for k, v in executor.driver.items()}
    page.say("", "Bytes a group through the driver:", "")
    page.table(["call", "bytes"], [[k, f"{v:,.0f}"] for k, v in sorted(per_group.items(), key=lambda i: -i[1])])
    text, buffers = group_bytes(material.group)
    images = image_bytes(material.group)
    whole = executor.stored["sample, part 2"] / groups
    page.say(
        f"The group itself is stored once and read by reference: {whole:,.0f} bytes, of these {images:,} of images and "
        f"{buffers:,} in numpy buffers beside {text:,} bytes of pickle.",
        "",
    )
    through = sum(per_group.values())
    fetched = any(k.startswith("sample, part 2") for k in executor.driver)
    page.verdict("images never pass through the driver", not fetched and through < images, f"{through:,.0f} bytes do")
    page.verdict("images cross once, as numpy", buffers >= images and whole < 2 * (buffers + text), f"{images:,} bytes")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 1 where a bar was missed."""
    options = parser(__doc__)
    options.add_argument("--model", choices=[*WORKLOADS, "both"], default="both")
    options.add_argument("--engine", choices=["deepspeed", "torch"], default="deepspeed")
    options.add_argument("--groups", type=int, default=1, help="groups an iteration, a power of two")
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--iterations", type=int, default=60, help="of the driver's measurement")
    options.add_argument("--ray", action="store_true", help="measure the driver on a local Ray too")
    chosen = options.parse_args(arguments)
    single_thread()
    join_ranks()
    page = Page("Iteration and driver")
    recipe = load_recipe("tiny", [("grpo.iterations", str(chosen.iterations))])
    for name in WORKLOADS if chosen.model == "both" else [chosen.model]:
        last = measure(page, WORKLOADS[name](), recipe, chosen)
    driver(page, last, recipe, on_ray=chosen.ray)
    return page.close(chosen.markdown)


if __name__ == "__main__":
    sys.exit(main())
