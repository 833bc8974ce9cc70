"""SIGKILL at seeded moments of an iteration; `--resume auto` ends with the bytes of the undisturbed run."""

import json
import signal

import pytest

from burnish.data.seeding import generator
from burnish.platform.checkpoints import latest_verified

PHASES = {
    "sample": [("sample", 16), ("sample", 16)],
    "score": [("score", 16), ("journal", 4)],
    "update": [("learn", 4), ("learn", 4)],
    "sync": [("sync", 6), ("log", 4)],
    "commit": [("before-rename", 7), ("after-rename", 7)],
}
COMMIT = ["after-tmp", "mid-file", "after-manifest", "before-prune"]


def moments():
    """Ten fail points, two a phase: label and how many visits it survives, drawn by key."""
    for phase, points in PHASES.items():
        for number, (label, visits) in enumerate(points):
            yield f"{label}:{1 + int(generator(7, 'kill', phase, number).integers(visits))}"


def committed_lines(run):
    """Bytes of metrics.jsonl and journal.jsonl that the newest sound commit of the run covers."""
    for stage in ("grpo", "sft"):
        found = latest_verified(run.path / "stages" / stage / "checkpoints")
        if found is not None:
            state = json.loads((found / "state.json").read_text())
            offsets = {f"{name}.jsonl": state[f"{name}_offset"] for name in ("metrics", "journal")}
            return {name: b"" if not n else (run.path / name).read_bytes()[:n] for name, n in offsets.items()}
    return {}


def check_kill_and_resume(burnish, smoke, point):
    killed = burnish("smoke", fail_point=point)
    assert killed.wait() == -signal.SIGKILL, killed.text
    kept = committed_lines(killed.run)
    resumed = burnish("--resume", "auto")
    assert resumed.wait() == 0, resumed.text
    assert resumed.run.id == killed.run.id
    undisturbed = json.loads((smoke.path / "summary.json").read_text())
    assert {k: resumed.summary[k] for k in ("state_digest", "policy_digest", "counts")} == {
        k: undisturbed[k] for k in ("state_digest", "policy_digest", "counts")
    }
    assert all((resumed.run.path / name).read_bytes().startswith(lines) for name, lines in kept.items())
    steps = [json.loads(line)["step"] for line in (resumed.run.path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [20, 1, 2, 3, 4]
    assert (resumed.run.path / "journal.jsonl").read_bytes() == (smoke.path / "journal.jsonl").read_bytes()
    assert not [path for path in resumed.run.path.rglob("*") if ".tmp-" in path.name]


def test_a_driver_killed_between_update_and_delivery_ends_as_if_undisturbed(burnish, smoke):
    check_kill_and_resume(burnish, smoke, "learn:3")


@pytest.mark.slow
@pytest.mark.parametrize("point", list(moments()))
def test_a_kill_at_a_seeded_moment_loses_nothing_committed_and_changes_no_byte(burnish, smoke, point):
    check_kill_and_resume(burnish, smoke, point)


@pytest.mark.slow
@pytest.mark.parametrize("label", COMMIT)
def test_a_kill_inside_any_commit_of_the_run_loses_nothing(burnish, smoke, label):
    count = 1 + int(generator(8, "kill", label).integers(20 if label == "mid-file" else 6))
    check_kill_and_resume(burnish, smoke, f"{label}:{count}")


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_still_ends_with_the_same_bytes(burnish, smoke):
    points = ["after-manifest:2", "sample:3", "learn:1", "score:6", "sync:4", "before-rename:1", "log:1"]
    for number, point in enumerate(points):
        child = burnish(*(("--resume", "auto") if number else ("smoke",)), fail_point=point)
        assert child.wait() == -signal.SIGKILL, (point, child.text)
    last = burnish("--resume", "auto")
    assert last.wait() == 0, last.text
    assert last.summary["state_digest"] == json.loads((smoke.path / "summary.json").read_text())["state_digest"]
