"""A run with a remote judge: it may fail for good, and the run says so and goes on."""

import json
import runpy
from pathlib import Path

import pytest

FakeJudge = runpy.run_path(str(Path(__file__).parents[1] / "rewards" / "fake_judge.py"))["FakeJudge"]
QUICKLY = {"attempts": 1, "timeout": 5.0, "deadline": 5.0, "breaker_failures": 3, "breaker_reset": 600.0}


@pytest.fixture
def judge():
    with FakeJudge() as made:
        yield made


def rewards(judge):
    """The smoke recipe's rewards, and a judge beside them."""
    options = {"url": judge.score_url, **QUICKLY}
    spec = {"name": "judge", "kind": "http", "weight": 0.2, "options": options}
    local = [{"name": n, "kind": n} for n in ("masked_pixel", "outside_preservation", "toy_semantic")]
    return "--rewards.rewards", json.dumps([*local, spec])


@pytest.mark.slow
def test_a_judge_that_answers_500_for_20_iterations_is_missing_and_the_others_carry_on(burnish, judge):
    judge.mode = "500"
    child = burnish("smoke", "--grpo.iterations", "20", *rewards(judge))
    assert child.wait() == 0, child.text
    summary = child.summary
    costs = summary["rewards"]["judge"]
    assert summary["reproducible"] is False and summary["iterations"] == 20
    assert (costs["scored"], costs["missing"]) == (0, 20 * 4 * 8)
    assert costs["breaker_open"] > costs["failures"] > 0 and len(judge.requests) < 40
    assert summary["rewards"]["masked_pixel"]["missing"] == 0
    assert any("reward 'judge': 640 of 640 scores are missing" in line for line in summary["warnings"])
    assert "640 of 640 scores are missing" in (child.run.path / "report.html").read_text()


def test_a_judge_that_answers_is_counted_and_makes_no_promise_of_equal_bytes(burnish, judge):
    child = burnish("smoke", *rewards(judge))
    assert child.wait() == 0, child.text
    costs = child.summary["rewards"]["judge"]
    assert child.summary["reproducible"] is False
    assert costs["missing"] == 0 and costs["scored"] == 4 * 4 * 8 and costs["requests"] >= 16
