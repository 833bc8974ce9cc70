"""What serving costs, and what clients see while versions change, a replica dies, or too many of them come.

    OMP_NUM_THREADS=1 python benchmarks/serve.py [--seconds 60] [--markdown benchmarks/serve.md]

A smoke run is trained and served by `burnish serve` with two replicas on a local Ray; clients, server and Ray share
this machine's cores. Ratios are taken inside one run.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from harness import Page, parser
from load import INGRESS, REPLICA, Load, Server, Try, median, percentile, request_body, served

from burnish.data.records import Example
from burnish.platform.commands import choose_policy
from burnish.platform.runs import RunStore
from burnish.policies.refiner import load_refiner
from burnish.serve.client import Client
from burnish.serve.intake import json_upload, make_job

WINDOW, RESTART = 5.0, 30.0
"""Seconds round a promotion, and after a kill, whose latency is judged."""
PROMOTIONS, CLIENTS, OVERLOAD = 3, 8, 64


def trained(runs: Path) -> str:
    """Id of a smoke run."""
    line = ["train", "smoke", "--executor", "local", "--tracking.enabled", "false", "--runs-dir", str(runs)]
    subprocess.run([sys.executable, "-m", "burnish.platform.cli", *line], check=True, stdout=subprocess.DEVNULL)
    return RunStore(runs).infos()[-1].id


def direct(runs: Path, run: str, body: bytes, repeats: int) -> float:
    """Median wall seconds of the refiner's call on the request's picture, in this process."""
    import json

    import torch

    torch.set_num_threads(1)
    chosen = choose_policy(RunStore(runs).open(run), "last")
    assert chosen.checkpoint is not None
    refiner = load_refiner(chosen.checkpoint, base=chosen.base)
    job = make_job(json_upload(json.loads(body)))
    example: Example = job.example
    seconds = []
    for _ in range(repeats + 2):
        began = time.perf_counter()
        refiner.refine(example, seed=0, regions=job.regions)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[2:])


def overhead(page: Page, server: Server, local: Server, runs: Path, run: str, *, repeats: int) -> None:
    """Served call against direct call, one client, alternating."""
    body = request_body()
    rows = []
    alone = direct(runs, run, body, repeats)
    for name, where in (("one process", local), ("Ray Serve", server)):
        tries = _repeated(where, body, repeats)
        rows.append([name, f"{median(tries) * 1e3:.1f} ms", f"{(median(tries) - alone) * 1e3:.1f} ms"])
    page.say("## Overhead of a served call (p50, one client, 128 x 128 PNG, one box)", "")
    page.table(["path", "p50", "more than direct"], [["direct refine()", f"{alone * 1e3:.1f} ms", "-"], *rows])


def _repeated(server: Server, body: bytes, repeats: int) -> list[Try]:
    load = Load(server.url, body, 1).start()
    while len(load.tries) < repeats + 3:
        time.sleep(0.01)
    return load.stop()[3:]


def throughput(page: Page, server: Server, *, seconds: float) -> None:
    """Requests a second for 1, 4 and 16 clients."""
    rows = []
    for clients in (1, 4, 16):
        tries = Load(server.url, request_body(), clients).during(seconds)
        good = [t for t in tries if t.status == 200]
        rows.append([str(clients), f"{len(good) / seconds:.1f}", f"{median(good) * 1e3:.0f} ms"])
    page.say("## Throughput (2 replicas)", "")
    page.table(["clients", "requests a second", "p50"], rows)


@dataclass
class History:
    """Which version was active when: (since, version), by the promoter's own clock."""

    turns: list[tuple[float, float, str]] = field(default_factory=list)

    def change(self, act: Callable[[], str]) -> float:
        """Make a change; its seconds."""
        began = time.monotonic()
        version = act()
        self.turns.append((began, time.monotonic(), version))
        return time.monotonic() - began

    def allowed(self, made: Try) -> set[str]:
        """Versions that may answer a try: what was active when it was sent, and what became active before its end."""
        settled = [version for _, end, version in self.turns if end <= made.since]
        begun = [v for start, end, v in self.turns if end > made.since and start <= made.since + made.seconds]
        return {settled[-1] if settled else "1", *begun}


@dataclass
class Churn:
    """What the clients saw while versions changed and a replica died."""

    tries: list[Try]
    history: History
    lost: int
    killed: float
    promotions: list[float]

    def problems(self) -> dict[str, int]:
        """Replies that must not be."""
        wrong = [t for t in self.tries if t.status == 200 and t.version not in self.history.allowed(t)]
        bad = [t for t in self.tries if t.status >= 500 and not (t.status == 503 and t.retry_after)]
        return {
            "wrong version": len(wrong),
            "5xx other than 503 with Retry-After": len(bad),
            "never answered": self.lost,
        }

    def ratios(self) -> dict[str, float]:
        """Latency round promotions and while a replica restarts, over that of all other tries."""
        near = [t for t in self.tries if any(abs(t.since - end) <= WINDOW / 2 for _, end, _ in self.history.turns)]
        restart = [t for t in self.tries if self.killed <= t.since <= self.killed + RESTART]
        rest = [t for t in self.tries if t not in near and t not in restart]
        return {"promotions": percentile(near) / percentile(rest), "restart": percentile(restart) / percentile(rest)}


def churn(server: Server, snapshots: list[Path], *, seconds: float, victim: str = REPLICA) -> Churn:
    """Eight clients for `seconds`, with three promotions, one rollback and one replica killed on the way."""
    client, history = Client(server.url, token=server.token), History()
    policies = {p["name"]: p["versions"] for p in client.policies()}["tuned"]
    history.turns.append((0.0, 0.0, str(next(v["version"] for v in policies if v["state"] == "active"))))
    load = Load(server.url, request_body(), CLIENTS).start()
    step, took, killed = seconds / 8, [], 0.0

    def promoted(place: Path) -> Callable[[], str]:
        return lambda: str(client.promote(place, policy="tuned", lineage={"run": "benchmark"})["version"])

    for number in range(PROMOTIONS):
        time.sleep(step)
        took.append(history.change(promoted(snapshots[number % len(snapshots)])))
    time.sleep(step)
    history.change(lambda: str(client.rollback(policy="tuned", reason="benchmark")["version"]))
    time.sleep(step)
    killed = time.monotonic()
    server.kill(victim)
    time.sleep(3 * step)
    return Churn(load.stop(), history, load.lost, killed, took)


@dataclass
class Flood:
    """What too many clients saw."""

    tries: list[Try]
    lost: int
    grown: int

    @property
    def refused(self) -> list[Try]:
        """Tries that the queue had no place for."""
        return [t for t in self.tries if t.status in (429, 503)]


def flood(server: Server, *, seconds: float) -> Flood:
    """Four times as many clients as the queue has places; memory is read all the while."""
    before, peak, ended = sum(server.memory().values()), [0], threading.Event()

    def watch() -> None:
        while not ended.wait(1.0):
            peak[0] = max(peak[0], sum(server.memory().values()))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    load = Load(server.url, request_body(), OVERLOAD, again=False)
    tries = load.during(seconds)
    ended.set()
    watcher.join()
    return Flood(tries, load.lost, max(0, peak[0] - before))


def say_churn(page: Page, found: Churn, title: str, *, judged: bool = True) -> None:
    """Table and verdicts of a churn.

    Args:
        page: where to.
        found: what the clients saw.
        title: of the section.
        judged: whether the latency after the kill has a bar.
    """
    counts = {s: sum(t.status == s for t in found.tries) for s in sorted({t.status for t in found.tries})}
    page.say(f"## {title}", "", f"Tries by status: {counts}; promotions took {_seconds(found.promotions)}.", "")
    for name, count in found.problems().items():
        page.verdict(f"{name}: 0", count == 0, str(count))
    ratios = found.ratios()
    page.verdict(
        "p99 within 2.5 s of a change <= 1.5 x elsewhere", ratios["promotions"] <= 1.5, f"{ratios['promotions']:.2f}"
    )
    if judged:
        page.verdict(
            "p99 within 30 s of the kill <= 3 x elsewhere", ratios["restart"] <= 3.0, f"{ratios['restart']:.2f}"
        )
    else:
        longest = max(t.seconds for t in found.tries)
        page.say(f"- There is one ingress: while it restarts everybody waits. Longest wait of a try: {longest:.1f} s.")
    page.say("")


def _seconds(values: list[float]) -> str:
    return ", ".join(f"{value:.2f} s" for value in values)


def say_flood(page: Page, found: Flood) -> None:
    """Verdicts of an overload."""
    good = [t for t in found.tries if t.status == 200]
    odd = [t for t in found.tries if t.status not in (200, 429, 503)]
    slowest = max((t.seconds for t in found.refused), default=0.0)
    page.say("## Overload: 64 clients, a queue of 16", "")
    page.verdict("excess is refused", bool(found.refused), f"{len(found.refused)} refused, {len(good)} answered")
    page.verdict("a refusal takes under 1 s", slowest < 1.0, f"slowest {slowest:.2f} s")
    page.verdict("every accepted request finishes", not odd, f"{len(odd)} otherwise")
    page.verdict("memory of all processes grows by under 200 MiB", found.grown < 200 << 20, f"{found.grown >> 20} MiB")
    page.say("")


def main(argv: list[str] | None = None) -> int:
    """Measure."""
    arguments = parser(__doc__)
    arguments.add_argument("--seconds", type=float, default=60.0, help="of the churn, default 60")
    arguments.add_argument("--repeats", type=int, default=40, help="calls of a median, default 40")
    given = arguments.parse_args(argv)
    page = Page("Serving")
    with tempfile.TemporaryDirectory() as name:
        runs = Path(name) / "runs"
        run = trained(runs)
        commits = sorted((runs / run / "stages" / "grpo" / "checkpoints").glob("step-*"))
        with (
            served(run, runs, Path(name) / "local", "--executor", "local") as local,
            served(run, runs, Path(name) / "ray", "--replicas", "2") as server,
        ):
            overhead(page, server, local, runs, run, repeats=given.repeats)
            memory = server.memory()
            page.say("## Memory at rest (PSS; 2 replicas)", "")
            page.table(["process", "MiB"], [[n, str(size >> 20)] for n, size in sorted(memory.items())])
            throughput(page, server, seconds=given.seconds / 6)
            say_churn(page, churn(server, commits, seconds=given.seconds), "Versions change and a replica dies")
            say_flood(page, flood(server, seconds=given.seconds / 4))
            found = churn(server, commits, seconds=given.seconds, victim=INGRESS)
            say_churn(page, found, "The same, and the ingress dies instead", judged=False)
    return page.close(given.markdown)


if __name__ == "__main__":
    sys.exit(main())
