"""Fine-tuning of two ranks on Ray Train: the bytes of one rank, also when a rank dies and the group begins anew."""

import json
import os
import signal
import time

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(600)]

TREE = ("--learners.engine", "{kind: torch, reduction: reproducible}", "--sft.micro_batch", "4")
ONLY = ("smoke", *TREE, "--stages", "sft", "--sft.steps", "150")
TWO = ("--learners.ranks", "2")


@pytest.fixture
def alone(burnish, tmp_path):
    """(state digest, metrics) of one rank on the local executor."""
    child = burnish(*ONLY, runs=tmp_path / "alone")
    assert child.wait() == 0, child.text
    return told(child)


def told(child):
    (state,) = child.run.path.glob("stages/sft/checkpoints/step-000150/state.json")
    lines = [json.loads(line) for line in (child.run.path / "metrics.jsonl").read_text().splitlines()]
    return json.loads(state.read_text())["state_digest"], {line["step"]: line["loss"] for line in lines}


def test_two_ranks_of_which_one_dies_come_to_the_bytes_of_one_and_leave_nothing_of_ray_train(burnish, alone):
    child = burnish(*ONLY, *TWO, executor="ray", fail_point="mid-file:9")
    assert child.wait(400) == 0, child.text
    assert "A worker died" in child.text
    digest, metrics = told(child)
    assert digest == alone[0] and list(metrics) == [50, 100, 150]
    assert metrics == pytest.approx(alone[1], rel=1e-5)
    assert not [path.name for path in child.run.path.iterdir() if path.name in (".ray-train", ".stop-sft")]
    assert (child.run.path / "base" / "manifest.json").is_file()


def test_ctrl_c_commits_the_block_and_the_resumed_run_ends_as_if_undisturbed(burnish, alone):
    child = burnish(*ONLY, *TWO, executor="ray")
    deadline = time.monotonic() + 300
    while not list(child.runs.root.glob("*/stages/sft/checkpoints/step-000050")):
        assert child.process.is_alive() and time.monotonic() < deadline, child.text
        time.sleep(0.1)
    os.kill(child.process.pid, signal.SIGINT)
    assert child.wait(200) == 130, child.text
    resumed = burnish("--resume", "auto", executor="ray")
    assert resumed.wait(400) == 0, resumed.text
    assert told(resumed)[0] == alone[0]


def test_ranks_that_always_fail_end_the_run_with_the_reason(burnish):
    child = burnish(*ONLY, *TWO, "--cluster.restarts", "1", executor="ray", fail_point="mid-file:1")
    assert child.wait(400) == 4, child.text
    assert "fine-tuning failed too often" in child.text
