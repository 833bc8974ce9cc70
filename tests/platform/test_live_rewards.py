"""Rewards that change, hang, fail and vanish while `burnish train` goes on, from another terminal."""

import html
import json
import subprocess
import sys
import time

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

ITERATIONS = ("--grpo.iterations", "30", "--grpo.examples_per_iteration", "16")
BAND = "{kind: boundary_band, options: {r_out: 9, r_in: 5}}"


def lines(run, *kinds):
    entries = [json.loads(line) for line in (run.path / "journal.jsonl").read_text().splitlines()]
    return [entry for entry in entries if entry["kind"] in kinds]


def second_terminal(child, *arguments):
    """`burnish rewards …` in a process of its own; (exit code, output)."""
    command, *rest = arguments
    line = [sys.executable, "-m", "burnish.platform.cli", "rewards", command, child.run.id, *rest]
    done = subprocess.run([*line, "--runs-dir", str(child.runs.root)], capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def wait_for_grpo(child):
    deadline = time.monotonic() + 300
    while not (child.runs.infos() and (child.run.path / "journal.jsonl").exists() and lines(child.run, "scores")):
        assert time.monotonic() < deadline and child.process.exitcode is None, child.text
        time.sleep(0.2)


@pytest.fixture
def changed(burnish):
    """A finished run on Ray whose rewards were swapped, weighed, shadowed, added and rolled back on the way."""
    child = burnish("smoke", *ITERATIONS, executor="ray")
    wait_for_grpo(child)
    answers = {
        "swap": second_terminal(child, "swap", "masked_pixel", BAND, "--why", "edges matter"),
        "refused": second_terminal(child, "add", "{kind: dreamsim, options: {weights: no-such-directory}}"),
        "weight": second_terminal(child, "weight", "outside", "0.7"),
        "add": second_terminal(child, "add", "{kind: toy_style, weight: 0.2}", "--shadow", "2"),
        "rollback": second_terminal(child, "rollback"),
    }
    assert child.wait(400) == 0, child.text
    return child, answers


def test_rewards_change_while_a_run_goes_on_and_its_journal_replays_them(changed, burnish, tmp_path):
    child, answers = changed
    assert {name: code for name, (code, _) in answers.items()} == dict.fromkeys(answers, 0) | {"refused": 2}, answers
    groups = {e["iteration"]: {g["rubric"]["digest"] for g in e["groups"]} for e in lines(child.run, "scores")}
    assert len(groups) == 30 and all(len(digests) == 1 for digests in groups.values())
    assert "no-such-directory" in answers["refused"][1]
    assert_nothing_waited(child.run)
    marks = [event["label"] for event in child.summary["events"]]
    assert [mark.split()[0] for mark in marks] == ["swap", "weight", "shadow", "add", "rollback"]
    assert marks[0] == "swap masked_pixel -> boundary_band (edges matter)"
    report = (child.run.path / "report.html").read_text()
    assert all(html.escape(mark) in report for mark in marks)
    again = burnish("smoke", *ITERATIONS, "--events", str(child.run.path / "journal.jsonl"), runs=tmp_path / "again")
    assert again.wait(400) == 0, again.text
    assert again.summary["state_digest"] == child.summary["state_digest"]


def assert_nothing_waited(run):
    """Between `preparing` and `prepared` of the first swap whole iterations were scored."""
    found = lines(run, "scores", "change")
    states = [entry.get("state", "scores") for entry in found]
    first, then = states.index("preparing"), states.index("prepared")
    assert "scores" in states[first:then]


def test_a_reward_actor_that_hangs_is_replaced_and_costs_no_byte(burnish, smoke):
    digest = json.loads((smoke.path / "summary.json").read_text())["state_digest"]
    child = burnish("smoke", "--rewards.deadline", "25", executor="ray", fail_point="score:10:hang")
    assert child.wait(400) == 0, child.text
    assert child.summary["state_digest"] == digest
    assert child.summary["counts"]["resent"] >= 1
