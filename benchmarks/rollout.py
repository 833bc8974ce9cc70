"""How much of a rollout is not the transformer, and what the shared prefix saves.

    OMP_NUM_THREADS=1 python benchmarks/rollout.py [--model large|tiny|both] [--markdown benchmarks/rollout.md]

A rollout is all that a rollout worker does for a group: draw the example, encode, draw noise, integrate, decode,
record, digest. Its own transformer forwards are timed inside it, so the ratio does not depend on the machine's load.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from harness import Meter, Page, interleaved, metered, parser, single_thread
from models import WORKLOADS, Workload, digest_of

from burnish.data.records import PolicyVersion
from burnish.policies.lora import export_state
from burnish.policies.sampling import SamplerConfig
from burnish.rollouts.rollouter import RolloutConfig, Rollouter

LOOP_BAR = 1.05
PREFIX_BAR = 1.10
"""Allowed time of the shared prefix, as a multiple of the share of forwards that are left."""


def sampler_of(work: Workload, *, shared_prefix: bool = False) -> SamplerConfig:
    """One SDE step a third of the way in, all other steps ODE."""
    branch = max(1, work.num_steps // 4)
    return SamplerConfig(
        num_steps=work.num_steps,
        window=(branch,),
        num_train_steps=1,
        shared_initial_noise=shared_prefix,
        shared_prefix=shared_prefix,
    )


def rollouter_of(work: Workload, sampler: SamplerConfig) -> Rollouter:
    """A rollouter that holds the workload's policy."""
    policy, base = work.policy()
    made = Rollouter(
        policy,
        base=base,
        source=work.source,
        config=RolloutConfig(sample_batch=work.group_size),
        sampler=sampler,
        group_size=work.group_size,
        seed=0,
    )
    made.load(PolicyVersion(0, digest_of(base, policy)), export_state(policy.module))
    return made


@dataclass
class Arm:
    """One rollouter under measurement: rollout seconds, forward seconds and counts of every repetition."""

    rollouter: Rollouter
    forward: Meter
    encode: Meter
    groups: int
    iteration: int = 0
    ratios: tuple[float, ...] = ()
    claimed: int = 0

    def __call__(self) -> None:
        """Sample `groups` groups of fresh examples."""
        self.forward.reset()
        self.encode.reset()
        self.claimed = 0
        first = self.iteration * self.groups
        self.iteration += 1
        started = time.process_time()
        for index in range(first, first + self.groups):
            summary, _ = self.rollouter.sample(self.iteration, index, self.rollouter.version)
            self.claimed += summary.num_forwards
        self.ratios += ((time.process_time() - started) / self.forward.seconds,)


def arms_of(work: Workload, groups: int) -> dict[str, Arm]:
    """Name -> arm; the meters stay for the life of the process."""
    found = {}
    for name, shared in (("plain", False), ("shared prefix", True)):
        rollouter = rollouter_of(work, sampler_of(work, shared_prefix=shared))
        module = rollouter.policy.module
        forward = metered(module, "forward", rows=lambda *a, hidden_states, **k: hidden_states.shape[0])
        encode = metered(rollouter.policy, "encode")
        found[name] = Arm(rollouter, forward, encode, groups)
    return found


def measure(page: Page, work: Workload, *, groups: int, repeats: int) -> None:
    """Measure one workload and write its tables and verdicts."""
    arms = arms_of(work, groups)
    page.say(f"## {work.describe(arms['plain'].rollouter.policy)}", "")
    timings = interleaved(arms, repeats=repeats)
    rows = []
    for name, arm in arms.items():
        measured = arm.ratios[1:]
        share = f"{min(measured):.3f} ({min(measured):.3f} to {max(measured):.3f})"
        each = timings[name].best / (groups * work.group_size)
        rows.append(
            [name, f"{each * 1e3:.2f} ms", f"{timings[name].spread:.0%}", share, f"{arm.forward.rows / groups:g}"]
        )
    page.table(["rollout", "CPU a sample", "spread", "rollout / own forwards", "rows forwarded a group"], rows)
    verdicts(page, work, arms, groups=groups)
    prefix_verdict(page, work, arms, timings["shared prefix"].best / timings["plain"].best, groups=groups)


def verdicts(page: Page, work: Workload, arms: dict[str, Arm], *, groups: int) -> None:
    """The loop's overhead, and what was counted."""
    plain = arms["plain"]
    best = min(plain.ratios[1:])
    if work.barred:
        page.verdict(f"{work.name}: rollout within {LOOP_BAR} of its own forwards", best <= LOOP_BAR, f"{best:.3f}")
    once = all(arm.encode.calls == groups for arm in arms.values())
    page.verdict(f"{work.name}: conditions encoded once a group", once, f"{plain.encode.calls} calls, {groups} groups")
    expected = groups * work.num_steps * work.group_size
    counted = plain.forward.rows == plain.claimed == expected
    page.verdict(f"{work.name}: rows forwarded", counted, f"{plain.forward.rows}, T x G x groups = {expected}")


def prefix_verdict(page: Page, work: Workload, arms: dict[str, Arm], ratio: float, *, groups: int) -> None:
    """Rows of the shared prefix: k for the trunk, then (T - k) x G. The branching step itself runs at full batch,

    since its replay in the learner has that shape and must give the same bytes.
    """
    shared = arms["shared prefix"]
    branch = shared.rollouter.sampler.window[0]
    expected = groups * (branch + (work.num_steps - branch) * work.group_size)
    counted = shared.forward.rows == shared.claimed == expected
    page.verdict(f"{work.name}: rows with a shared prefix of {branch}", counted, f"{shared.forward.rows} of {expected}")
    left = expected / (groups * work.num_steps * work.group_size)
    passed = ratio <= left * PREFIX_BAR
    claim = f"{work.name}: time of the shared prefix <= {PREFIX_BAR} x its share of rows"
    page.verdict(claim, passed, f"{ratio:.3f} of the plain time, {left:.3f} of its rows")
    page.say("")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 1 where a bar was missed."""
    options = parser(__doc__)
    options.add_argument("--model", choices=[*WORKLOADS, "both"], default="both")
    options.add_argument("--groups", type=int, default=4, help="groups a repetition")
    options.add_argument("--repeats", type=int, default=3)
    chosen = options.parse_args(arguments)
    single_thread()
    page = Page("Rollout loop")
    for name in WORKLOADS if chosen.model == "both" else [chosen.model]:
        work = WORKLOADS[name]()
        groups = chosen.groups if name == "large" else 4 * chosen.groups
        measure(page, work, groups=groups, repeats=chosen.repeats)
    return page.close(chosen.markdown)


if __name__ == "__main__":
    sys.exit(main())
