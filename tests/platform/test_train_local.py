"""`burnish train` on the local executor: the run's end, equal bytes, interruptions, refusals."""

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from burnish.platform import learning
from burnish.platform.checkpoints import committed
from burnish.platform.config import load_recipe
from burnish.platform.environment import cpu_kind
from burnish.platform.learning import LearnerWorker
from burnish.platform.runs import RunStore

DIGESTS = Path(__file__).parent / "smoke_digests.json"
SUMMARY = {
    "run_id",
    "status",
    "reproducible",
    "config_digest",
    "policy_digest",
    "state_digest",
    "stages",
    "iterations",
    "rubric_versions",
    "timing",
    "counts",
}


@pytest.fixture
def digest(smoke):
    """state_digest of the undisturbed run."""
    return json.loads((smoke.path / "summary.json").read_text())["state_digest"]


@pytest.fixture
def copied(smoke, tmp_path):
    """A copy of the undisturbed run as a driver left it that was interrupted before the end."""
    shutil.copytree(smoke.path, tmp_path / "runs" / smoke.id)
    run = RunStore(tmp_path / "runs").open(smoke.id)
    run.update(status="interrupted")
    return run


def entries(run, name):
    return [json.loads(line) for line in (run.path / name).read_text().splitlines()]


def test_the_summary_says_what_the_run_did(smoke, state_of):
    summary = json.loads((smoke.path / "summary.json").read_text())
    assert summary.keys() >= SUMMARY and (summary["run_id"], summary["status"]) == (smoke.id, "done")
    assert (summary["iterations"], summary["reproducible"]) == (4, True)
    assert summary["counts"] == {"groups": 16, "samples": 128, "resent": 0, "missing_scores": 0}
    assert summary["timing"].keys() >= {"sample", "score", "learn", "sync", "other", "wall"}
    state = state_of(smoke)
    assert (state["state_digest"], state["policy_digest"]) == (summary["state_digest"], summary["policy_digest"])
    assert smoke.info.status == "done" and smoke.info.config_digest == summary["config_digest"]


def test_both_stages_are_evaluated_on_the_held_out_examples(smoke):
    stages = json.loads((smoke.path / "summary.json").read_text())["stages"]
    assert stages.keys() == {"sft", "grpo"} and stages["sft"]["heldout"].keys() == {"ode", "sde"}
    for label in ("ode", "sde"):
        found = stages["grpo"]["heldout"][label]
        assert found.keys() == {"before", "after", "change"}
        assert {"mean", "low", "high", "n"} <= found["after"]["primary"]["masked_mse"].keys()
        assert found["before"] == stages["sft"]["heldout"][label]["after"]


def test_the_run_directory_is_whole_and_nothing_half_written_is_left(smoke):
    names = {path.name for path in smoke.path.iterdir()}
    assert names >= {"config.yaml", "run.json", "metrics.jsonl", "journal.jsonl", "summary.json", "report.html"}
    assert names >= {"images", "base", "stages"}
    assert not [path for path in smoke.path.rglob("*") if ".tmp-" in path.name or path.name.startswith(".ranks")]
    assert [line["step"] for line in entries(smoke, "metrics.jsonl")] == [20, 1, 2, 3, 4]
    assert [e["iteration"] for e in entries(smoke, "journal.jsonl") if e["kind"] == "scores"] == [0, 1, 2, 3]


def test_the_recorded_digest_of_the_smoke_recipe_has_not_drifted(digest):
    kind = f"torch {torch.__version__.split('+')[0]}, {torch.backends.cpu.get_cpu_capability()}, {cpu_kind()}"
    recorded = json.loads(DIGESTS.read_text())
    if kind not in recorded:
        pytest.skip(f'no digest for this kind of machine; to record: "{kind}": "{digest}"')
    assert digest == recorded[kind]


def test_another_process_comes_to_the_same_bytes_and_does_not_import_ray(burnish, digest, smoke, state_of):
    child = burnish("smoke")
    assert child.wait() == 0, child.text
    assert child.summary["state_digest"] == digest
    assert state_of(child.run)["versions"] == state_of(smoke)["versions"]
    assert "imported ray: False" in child.text
    assert (child.run.path / "journal.jsonl").read_bytes() == (smoke.path / "journal.jsonl").read_bytes()


@pytest.mark.slow
def test_another_seed_and_another_switch_come_to_other_bytes(burnish, digest, copied):
    """Shuffled advantages: the negative control is a switch of the recipe, and it changes the run."""
    start = ("smoke", "--from", copied.id, "--stages", "grpo", "--grpo.iterations", "2")
    found = {digest}
    for more in ((), ("--seed", "1"), ("--grpo.advantages.control", "shuffled"), ("--grpo.dar.enabled", "false")):
        child = burnish(*start, *more)
        assert child.wait() == 0, child.text
        found.add(state_digest(child))
    assert len(found) == 5


def state_digest(child):
    return child.summary["state_digest"]


def test_the_first_ctrl_c_commits_and_the_resumed_run_ends_as_if_undisturbed(burnish, digest):
    child = burnish("smoke")
    wait_for(lambda: "progress  task GRPO" in child.text)
    os.kill(child.process.pid, signal.SIGINT)
    assert child.wait() == 130, child.text
    assert child.run.info.status == "interrupted" and "burnish train --resume" in child.text
    assert not [path for path in child.run.path.rglob("*") if ".tmp-" in path.name]
    resumed = burnish("--resume", "auto")
    assert resumed.wait() == 0, resumed.text
    assert (resumed.run.id, state_digest(resumed)) == (child.run.id, digest)


def test_the_second_ctrl_c_leaves_at_once_and_the_run_can_still_be_resumed(burnish, digest):
    child = burnish("smoke")
    wait_for(lambda: "progress  task fine-tuning" in child.text)
    os.kill(child.process.pid, signal.SIGINT)
    time.sleep(0.05)
    os.kill(child.process.pid, signal.SIGINT)
    assert child.wait(20) == 130
    resumed = burnish("--resume", "auto")
    assert resumed.wait() == 0, resumed.text
    assert state_digest(resumed) == digest


def wait_for(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.mark.parametrize("name", ["policy.safetensors", "optimizer.safetensors", "state.json"])
def test_a_flipped_byte_in_the_newest_checkpoint_costs_one_iteration_and_no_byte(burnish, copied, digest, name):
    newest = committed(copied.path / "stages" / "grpo" / "checkpoints")[-1]
    raw = bytearray((newest / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (newest / name).write_bytes(raw)
    child = burnish("--resume", copied.id)
    assert child.wait() == 0, child.text
    assert state_digest(child) == digest
    assert any(name in line for line in child.summary["warnings"])


def test_a_finished_checkpoints_adapter_loads_in_plain_diffusers(smoke):
    recipe = load_recipe(str(smoke.path / "config.yaml"))
    assert recipe.grpo.adapter.alpha != recipe.grpo.adapter.rank
    newest = committed(smoke.path / "stages" / "grpo" / "checkpoints")[-1]
    learner = LearnerWorker(recipe, 0, None, 0, 1)
    learner.begin_grpo(smoke.path / "base", newest)
    _, weights = learner.publish()
    assert learner.num_shards() == 1
    assert all((abs(array).max() > 0) for name, array in weights.items() if ".lora_B." in name)
    assert learner.verify_adapter(newest, smoke.path / "base") <= 1e-6
    learner.close()


def test_a_resume_that_is_refused_leaves_the_run_as_it_was(burnish, copied):
    before = [(copied.path / name).read_bytes() for name in ("config.yaml", "run.json")]
    change = ("--grpo.iterations", "6", "--allow-change", "grpo.iterations")
    with copied.lock():
        child = burnish("--resume", copied.id, *change, runs=copied.path.parent)
        assert child.wait() != 0 and "is being driven" in child.text
    assert [(copied.path / name).read_bytes() for name in ("config.yaml", "run.json")] == before


def test_a_commit_holds_the_drivers_state_of_its_moment(smoke, tmp_path, monkeypatch):
    recipe, ready = load_recipe(str(smoke.path / "config.yaml")), threading.Event()
    learner = LearnerWorker(recipe, 0, None, 0, 1)
    learner.begin_grpo(smoke.path / "base", None)
    monkeypatch.setattr(
        learning, "write_state", lambda path, state, write=learning.write_state: ready.wait() and write(path, state)
    )
    driver = {"iteration": 1, "notes": {"watch": [1.0]}}
    learner.save(tmp_path, "step-000001", driver)
    driver["notes"]["watch"].append(2.0)  # the driver goes on while a slow disk takes the commit
    ready.set()
    learner.settled()
    assert json.loads((tmp_path / "step-000001" / "state.json").read_text())["notes"] == {"watch": [1.0]}
    learner.close()


def test_a_learning_rate_of_zero_trips_the_alarm(burnish):
    child = burnish("smoke", "--grpo.update.optimizer.lr", "0")
    assert child.wait() == 5, child.text
    assert "did not change the policy" in child.text and child.run.info.status == "failed"
    assert "did not change" in (child.run.info.error or "")


def test_wrong_settings_are_refused_before_a_run_is_made(burnish):
    child = burnish("smoke", "--grpo.group_size", "1", "--grpo.update.clip_low", "0", "--grpo.update.kl.beta", "-1")
    assert child.wait() == 2
    assert all(field in child.text for field in ("grpo.group_size", "clip_low", "kl.beta"))
    assert not child.runs.infos()


def test_a_damaged_image_is_named_and_refused_before_a_run_is_made(burnish, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot an image")
    child = burnish("smoke", "--data.sources", f"[{{kind: folder, path: {folder}}}]")
    assert child.wait() == 3, child.text
    assert "broken.png" in child.text and not child.runs.infos()


def test_a_resume_under_another_recipe_is_refused_by_name(burnish, copied):
    child = burnish("smoke", "--resume", copied.id, "--grpo.group_size", "16")
    assert child.wait() == 2, child.text
    assert "grpo.group_size" in child.text and "--allow-change" in child.text


def test_a_second_driver_of_the_same_run_is_refused_quickly(burnish, copied):
    with copied.lock():
        started = time.monotonic()
        child = burnish("--resume", copied.id)
        assert child.wait() == 4
        assert time.monotonic() - started < 15 and str(os.getpid()) in child.text


def test_an_allowed_change_is_remembered_and_ends_the_promise_of_equal_bytes(burnish, copied):
    child = burnish("--resume", copied.id, "--grpo.iterations", "5", "--allow-change", "grpo.iterations")
    assert child.wait() == 0, child.text
    assert child.summary["iterations"] == 5 and child.summary["reproducible"] is False
    assert load_recipe(str(copied.path / "config.yaml")).grpo.iterations == 5
    assert copied.info.config_digest == child.summary["config_digest"]


def test_a_run_of_one_stage_goes_on_as_that_and_grpo_waits_for_its_base(burnish):
    killed = burnish("smoke", "--stages", "sft", fail_point="before-rename:1")
    assert killed.wait() != 0
    assert tuple(killed.run.info.stages) == ("sft",)
    early = burnish("--resume", "auto", "--stages", "grpo")
    assert early.wait() == 2 and "fine-tuning is not finished" in early.text
    resumed = burnish("--resume", "auto", "--stages", "sft")
    assert resumed.wait() == 0, resumed.text
    assert list(resumed.summary["stages"]) == ["sft"]
