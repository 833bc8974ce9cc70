"""What a change of the rubric costs the iterations that go on beside it.

    OMP_NUM_THREADS=1 python benchmarks/swap.py [--iterations 80] [--markdown benchmarks/swap.md]

One run on a local Ray. A second terminal swaps a reward again and again, each time for one that has to be loaded in a
process of its own, with a pause between. An iteration that ran while a candidate was being loaded, or that began with
the switch, counts as one with a swap; the others, the first few left out, are those without. Seconds are the run's own
wall seconds (metrics.jsonl), so both kinds stand in one run on one machine.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import Page, parser
from live import LARGER, begun, entries, metrics, seconds, start

from burnish.data.errors import BurnishError
from burnish.platform.control_client import ControlClient
from burnish.platform.runs import Run

BAR = 1.3
WARM = 3
"""Iterations at the start that are left out."""
PAUSE = 6
"""Iterations without a change between two swaps."""


def swap_again_and_again(run: Run, process: subprocess.Popen[bytes]) -> int:
    """Swap until the run ends, each time for a band of another width; returns how many swaps took over."""
    client, name, width = ControlClient(run), "masked_pixel", 3
    try:
        while process.poll() is None:
            spec = {"name": "band", "kind": "boundary_band", "options": {"r_out": width, "r_in": 5}}
            found = client.wait(client.submit({"action": "swap", "name": name, "spec": spec}), lambda change: None)
            resume = int(found["iteration"]) + PAUSE
            name, width = "band", width + 1
            while client.status()["iteration"] < resume:
                time.sleep(0.1)
    except BurnishError:  # the run has ended, and its API with it
        pass
    return width - 3


def swapping(journal: list[dict[str, Any]]) -> set[int]:
    """Iterations that ran while a candidate was being loaded, or that began with a switch."""
    found: set[int] = set()
    since: int | None = None
    for entry in journal:
        if entry["kind"] != "change":
            continue
        if entry["state"] == "preparing":
            since = entry["iteration"]
        elif entry["state"] in ("active", "refused") and since is not None:
            found |= set(range(since, entry["iteration"] + 1))
            since = None
    return found


def main() -> int:
    """Run, swap, compare."""
    arguments = parser(__doc__)
    arguments.add_argument("--iterations", type=int, default=80, help="of the run, default 80")
    given = arguments.parse_args()
    page = Page("Swapping a reward while a run goes on")
    with tempfile.TemporaryDirectory() as name:
        process = start(Path(name), {**LARGER, "grpo.iterations": str(given.iterations)})
        run = begun(Path(name), process)
        count = swap_again_and_again(run, process)
        process.wait()
        taken = {i: seconds(line) for i, line in metrics(run).items()}
        touched = swapping(entries(run.path / "journal.jsonl"))
    with_swap = [s for i, s in taken.items() if i in touched and i >= WARM]
    without = [s for i, s in taken.items() if i not in touched and i >= WARM]
    rows = [
        [kind, str(len(values)), f"{statistics.median(values):.3f} s", f"{max(values):.3f} s"]
        for kind, values in (("with a swap", with_swap), ("without", without))
    ]
    page.say(
        f"{count} swaps in {given.iterations} iterations, {os.cpu_count()} cores for driver, actors and candidate.", ""
    )
    page.table(["iterations", "number", "median", "longest"], rows)
    ratio = statistics.median(with_swap) / statistics.median(without)
    page.verdict(f"median iteration with a swap <= {BAR:g} x without", ratio <= BAR, f"{ratio:.2f}")
    return page.close(given.markdown)


if __name__ == "__main__":
    sys.exit(main())
