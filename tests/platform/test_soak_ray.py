"""Deaths in the first sixty of three hundred iterations on Ray: the exact result, and nothing left behind."""

import os
import signal
import time
from pathlib import Path
from statistics import linear_regression

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(2700)]

LONG = ("smoke", "--grpo.iterations", "300", "--evaluation.every", "100")
LIVES = ["sample:50,journal:20", "score:50,journal:20", "learn:11,sample:50,journal:20", ""]
"""Points a driver's life: rollout actor and driver, reward actor and driver, learner with both others, none."""
WARM = 200
"""Iterations after which memory is looked at: malloc's arenas, one a thread of the driver, fill first."""
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


def wait_until(true, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.5)


def watched(child, seconds=1200.0):
    """Exit code, and the driver's resident bytes by the lines of metrics there were."""
    sizes, deadline = {}, time.monotonic() + seconds
    while child.process.is_alive():
        assert time.monotonic() < deadline, child.text
        done = sum(len(p.read_bytes().splitlines()) for p in child.runs.root.glob("*/metrics.jsonl"))
        size = resident(child.process.pid)
        if done > 1 and size:
            sizes.setdefault(done, size)  # not what the report takes after the last one
        time.sleep(0.2)
    return child.wait(5), sizes


def slope(sizes):
    """MiB a hundred iterations, the line through what was seen once it was warm."""
    steps = [step for step in sizes if step >= WARM]
    return 100 * linear_regression(steps, [sizes[step] / MIB for step in steps]).slope


def live_and_die(burnish, runs):
    """Every life of a run's driver: exit codes, children, and the last one's memory."""
    codes, children = [], []
    for points in LIVES:
        arguments = ("--resume", "auto") if children else LONG
        children.append(burnish(*arguments, executor="ray", fail_point=points, runs=runs))
        code, sizes = watched(children[-1])
        codes.append(code)
    return codes, children, sizes


def test_deaths_in_sixty_of_three_hundred_iterations_change_no_byte_and_leave_nothing(burnish, tmp_path):
    before, shared = processes(), set(os.listdir("/dev/shm"))
    codes, children, sizes = live_and_die(burnish, tmp_path / "faults")
    alone = burnish(*LONG, runs=tmp_path / "alone")
    assert codes == [-signal.SIGKILL] * 3 + [0], children[-1].text
    assert alone.wait(900) == 0, alone.text
    assert children[-1].summary["state_digest"] == alone.summary["state_digest"]
    resent = children[-1].summary["counts"]["resent"]
    assert resent >= 3 and "a learner worker was lost" in children[2].text
    wait_until(lambda: processes() <= before)
    assert processes() <= before and set(os.listdir("/dev/shm")) <= shared
    assert not [path for path in children[-1].run.path.rglob("*") if ".tmp-" in path.name]
    print(f"resent {resent}, {slope(sizes):.2f} MiB per 100 iterations")
    assert slope(sizes) < 1.0
