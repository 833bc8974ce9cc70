"""Faults of whole runs on Ray beyond a single death: a lag, hangs, workers that come and go, a head that dies."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from burnish.platform.control_client import ControlClient

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(600)]

LAG = ("--rollouts.lag", "1", "--checkpoints.keep_last", "3")


def finished(child, seconds=280.0):
    assert child.wait(seconds) == 0, child.text
    return child.summary


@pytest.fixture(scope="module")
def lagged(forks, tmp_path_factory):
    """state_digest of the smoke recipe at lag 1, on the local executor."""
    root = tmp_path_factory.mktemp("lagged")
    command = [sys.executable, "-m", "burnish.platform.cli", "train", "smoke", *LAG, "--executor", "local"]
    more = [
        "--tracking.enabled",
        "false",
        "--evaluation.count",
        "8",
        "--evaluation.dev_count",
        "4",
        "--runs-dir",
        str(root),
    ]
    subprocess.run([*command, *more], check=True, timeout=280, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (summary,) = root.glob("*/summary.json")
    return re.search(r'"state_digest": "(\w+)"', summary.read_text())[1]


@pytest.mark.parametrize(("workers", "point"), [("1", ""), ("3", ""), ("2", "sample:6"), ("1", "score:9")])
def test_at_lag_1_actors_and_kills_change_no_byte(burnish, lagged, smoke_digest, workers, point):
    child = burnish("smoke", *LAG, "--rollouts.workers", workers, executor="ray", fail_point=point)
    assert finished(child)["state_digest"] == lagged != smoke_digest
    assert (child.summary["counts"]["resent"] >= 1) == bool(point)


@pytest.mark.parametrize(("point", "deadline"), [("sample:10:hang", "rollouts"), ("score:10:hang", "rewards")])
def test_a_hung_actor_of_a_run_is_replaced_and_changes_no_byte(burnish, smoke_digest, point, deadline):
    child = burnish("smoke", f"--{deadline}.deadline", "30", executor="ray", fail_point=point)
    assert finished(child)["state_digest"] == smoke_digest and 30 <= child.longest < 75
    assert child.summary["counts"]["resent"] >= 1 and child.summary["counts"]["samples"] == 128


def test_workers_come_and_go_while_a_run_goes_on(burnish, tmp_path):
    longer = ("smoke", "--grpo.iterations", "40")
    child = burnish(*longer, executor="ray", runs=tmp_path / "ray")
    for seen, sizes in (("iteration 2:", {"rollout": 3, "reward": 2}), ("rollout workers: 3", {"rollout": 1})):
        deadline = time.monotonic() + 300
        while seen not in child.text:
            assert child.process.is_alive() and time.monotonic() < deadline, child.text
            time.sleep(0.05)
        with ControlClient(child.run) as client:
            assert client.workers(sizes)["rollout"]["wanted"] == sizes["rollout"]
    alone = burnish(*longer, runs=tmp_path / "alone")
    assert finished(child)["state_digest"] == finished(alone)["state_digest"]
    assert "rollout workers: 3 from now on" in child.text and "rollout workers: 1 from now on" in child.text
    assert child.summary["counts"]["resent"] == 0


def test_a_dead_head_ends_the_run_in_time_and_it_resumes(burnish, smoke_digest):
    child = burnish("smoke", executor="ray", fail_point="journal:3:hang")
    deadline = time.monotonic() + 240
    while Path(f"/proc/{child.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
        assert child.process.is_alive() and time.monotonic() < deadline, child.text
        time.sleep(0.1)
    heads = [int(p.name) for p in Path("/proc").glob("[0-9]*") if is_head_of(p, child.process.pid)]
    assert len(heads) == 1
    os.kill(heads[0], signal.SIGKILL)
    os.kill(child.process.pid, signal.SIGCONT)
    started = time.monotonic()
    assert child.wait(120) != 0
    noticed = time.monotonic() - started
    print(f"a dead head was noticed after {noticed:.1f} s, exit {child.process.exitcode}")
    assert noticed < 70
    resumed = burnish("--resume", "auto")
    assert finished(resumed)["state_digest"] == smoke_digest


def is_head_of(process, parent):
    try:
        name = (process / "cmdline").read_bytes()
        return b"gcs_server" in name and int((process / "stat").read_text().rsplit(")", 1)[1].split()[1]) == parent
    except OSError:
        return False
