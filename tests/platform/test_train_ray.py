"""`burnish train` on Ray: the bytes of the local executor, for any number of actors and any of them killed."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from burnish.platform.checkpoints import latest_verified, load_tensors

pytestmark = pytest.mark.ray

TWO_RANKS = ("--learners.ranks", "2", "--sft.micro_batch", "8")
"""Fine-tuning is skipped where this is used; its batch still has to divide."""


@pytest.fixture
def digest(smoke):
    """state_digest of the undisturbed run on the local executor."""
    return json.loads((smoke.path / "summary.json").read_text())["state_digest"]


def finished(child, seconds=280.0):
    assert child.wait(seconds) == 0, child.text
    return child.summary


def processes_of(pid):
    """Processes whose environment or parent says that this child started them."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
            name = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, IndexError):
            continue
        found.append((int(path.name), parent, name))
    family, grown = set(), {pid}
    while family < grown:  # however deep: who dies hands its children over to a grandparent
        family, grown = grown, grown | {p for p, parent, _ in found if parent in grown}
    return [(p, name) for p, _, name in found if p in family and p != pid]


def ray_processes():
    """Ids of all processes of Ray on this machine."""
    names = ("raylet", "gcs_server", "ray::")
    return {p for p, name in processes_of(1) if any(n in name for n in names)}


def left_since(before):
    """Processes of Ray that came since, but for those that the clusters of then have started."""
    return ray_processes() - before - {p for pid in before for p, _ in processes_of(pid)}


def test_ray_comes_to_the_bytes_of_the_local_executor_and_leaves_no_process(burnish, digest):
    before = ray_processes()
    child = burnish("smoke", executor="ray")
    assert finished(child)["state_digest"] == digest
    assert child.summary["counts"]["resent"] == 0
    assert not left_since(before)


@pytest.mark.slow
def test_two_rollout_and_two_reward_actors_come_to_the_same_bytes(burnish, digest, smoke):
    child = burnish("smoke", "--rollouts.workers", "2", "--rewards.workers", "2", executor="ray")
    assert finished(child)["state_digest"] == digest
    assert child.summary["config_digest"] == smoke.info.config_digest
    assert (child.run.path / "journal.jsonl").read_bytes() == (smoke.path / "journal.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("point", ["sample:10", "score:10", "sync:5"])
def test_a_killed_pool_actor_costs_a_call_and_no_byte(burnish, digest, smoke, point):
    child = burnish("smoke", executor="ray", fail_point=point)
    assert finished(child)["state_digest"] == digest
    assert child.summary["counts"] | {"resent": 0} == {"groups": 16, "samples": 128, "resent": 0, "missing_scores": 0}
    assert child.summary["counts"]["resent"] >= 1 and child.longest < 45
    assert (child.run.path / "journal.jsonl").read_bytes() == (smoke.path / "journal.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("point", ["learn:3", "mid-file:12"])
def test_a_killed_learner_is_rebuilt_from_the_last_commit(burnish, digest, point):
    child = burnish("smoke", executor="ray", fail_point=point)
    assert finished(child)["state_digest"] == digest
    assert "a learner worker was lost" in child.text and child.longest < 60
    assert child.summary["iterations"] == 4


@pytest.mark.slow
def test_a_killed_driver_on_ray_leaves_no_actor_and_resumes_on_the_local_executor(burnish, digest):
    before = ray_processes()
    child = burnish("smoke", executor="ray", fail_point="journal:2")
    assert child.wait(200) == -signal.SIGKILL, child.text
    resumed = burnish("--resume", "auto")
    assert finished(resumed)["state_digest"] == digest
    wait_until_gone(before)


def wait_until_gone(before, seconds=60):
    deadline = time.monotonic() + seconds
    while left_since(before):
        assert time.monotonic() < deadline, f"still there: {left_since(before)}"
        time.sleep(0.5)


@pytest.mark.slow
def test_roles_that_this_machine_cannot_hold_are_refused(burnish):
    child = burnish("smoke", "--rollouts.num_gpus", "64", executor="ray")
    assert child.wait(240) == 2
    assert "rollouts.workers: got 1 x {'CPU': 1.0, 'GPU': 64.0}" in child.text


@pytest.mark.slow
def test_ctrl_c_on_ray_commits_and_leaves_no_process(burnish, digest):
    before = ray_processes()
    child = burnish("smoke", executor="ray")
    while "progress  task GRPO" not in child.text:
        child.process.join(0.05)
        assert child.process.exitcode is None, child.text
    os.kill(child.process.pid, signal.SIGINT)
    assert child.wait(60) == 130, child.text
    assert not left_since(before)
    resumed = burnish("--resume", "auto", executor="ray")
    assert finished(resumed)["state_digest"] == digest


@pytest.mark.slow
def test_two_learner_ranks_agree_with_one_within_rounding_and_survive_their_loss(burnish, smoke, tmp_path):
    start = ("smoke", "--from", smoke.id, "--stages", "grpo", *TWO_RANKS)
    children = []
    for number, point in enumerate(("", "learn:3")):
        runs = tmp_path / str(number)
        shutil.copytree(smoke.path, runs / smoke.id)
        children.append(burnish(*start, executor="ray", fail_point=point, runs=runs))
        finished(children[-1])
    for name in ("policy.safetensors", "optimizer.safetensors"):
        one, two = (load_tensors(newest(run) / name) for run in (smoke, children[0].run))
        assert one.keys() == two.keys()
        for key in one:
            np.testing.assert_allclose(two[key].numpy(), one[key].numpy(), rtol=0, atol=1e-6, err_msg=key)
    assert children[1].summary["state_digest"] == children[0].summary["state_digest"]
    assert "a learner worker was lost" in children[1].text


def newest(run):
    found = latest_verified(run.path / "stages" / "grpo" / "checkpoints")
    assert found is not None
    return found
