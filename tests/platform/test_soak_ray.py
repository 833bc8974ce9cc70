"""Sixty iterations on Ray with six deaths and more: the exact result, and nothing left behind."""

import os
import signal
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1500)]

LONG = ("smoke", "--grpo.iterations", "60", "--evaluation.every", "30")
LIVES = ["sample:50,journal:20", "score:50,journal:20", "learn:11,sample:50"]
"""Points a driver's life: rollout actor and driver, reward actor and driver, learner and rollout actor."""
MIB = 1 << 20


def resident(pid):
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def processes():
    """Ids of Ray's processes and of workers on this machine."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if any(name in path.read_bytes() for name in (b"raylet", b"gcs_server", b"ray::")):
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found


def watched(child, seconds=700.0):
    """Exit code, and the driver's resident bytes by the lines of metrics there were."""
    sizes, deadline = {}, time.monotonic() + seconds
    while child.process.is_alive():
        assert time.monotonic() < deadline, child.text
        done = sum(len(p.read_bytes().splitlines()) for p in child.runs.root.glob("*/metrics.jsonl"))
        size = resident(child.process.pid)
        if done > 1 and size:
            sizes[done] = size
        time.sleep(0.2)
    return child.wait(5), sizes


def slope(sizes):
    """MiB a hundred iterations over the second half of what was seen."""
    steps = sorted(sizes)[len(sizes) // 2 :]
    return (sizes[steps[-1]] - sizes[steps[0]]) / MIB / (steps[-1] - steps[0]) * 100


def test_sixty_iterations_with_six_deaths_end_with_the_bytes_of_an_undisturbed_run(burnish, tmp_path):
    before, shared = processes(), set(os.listdir("/dev/shm"))
    codes, slopes = [], []
    for number, points in enumerate(LIVES):
        arguments = ("--resume", "auto") if number else LONG
        child = burnish(*arguments, executor="ray", fail_point=points, runs=tmp_path / "faults")
        code, sizes = watched(child)
        codes.append(code)
        slopes.append(slope(sizes))
    alone = burnish(*LONG, runs=tmp_path / "alone")
    assert codes == [-signal.SIGKILL, -signal.SIGKILL, 0], child.text
    assert alone.wait(600) == 0, alone.text
    assert child.summary["state_digest"] == alone.summary["state_digest"]
    assert child.summary["counts"]["resent"] >= 3 and "a learner worker was lost" in child.text
    deadline = time.monotonic() + 60
    while processes() - before and time.monotonic() < deadline:
        time.sleep(0.5)
    assert processes() <= before and set(os.listdir("/dev/shm")) <= shared
    assert not [path for path in child.run.path.rglob("*") if ".tmp-" in path.name]
    print(f"resent {child.summary['counts']['resent']}, MiB per 100 iterations: {[round(s, 2) for s in slopes]}")
