"""Which version answers: pure state, a canary's share, worse scores and worse counts."""

import json
import pickle

import pytest

from burnish.data.errors import Problem
from burnish.serve.canary import Trial, worse_score
from burnish.serve.refusal import Refusal
from burnish.serve.versions import ServedVersion, Versions

NAN = float("nan")


def version(number, policy="tuned"):
    return ServedVersion(policy, number, f"digest-{number}", "s", "b")


@pytest.fixture
def versions():
    made = Versions("tuned")
    for number in (1, 2, 3):
        made.enter(version(number), now=number, state="active")
    return made


def test_one_version_before_the_active_one_stays_loaded(versions):
    assert [v.number for v in versions.loaded()] == [2, 3]
    assert {n: s.state for n, s in versions.lines["tuned"].standings.items()} == {1: "retired", 2: "held", 3: "active"}


def test_files_are_needed_while_loaded_and_for_a_while_after_a_version_was_given_up(versions):
    versions.enter(version(4), now=4, state="canary", share=0.5)
    assert {v.number for v in versions.needed(since=9)} == {2, 3, 4}
    assert {v.number for v in versions.needed(since=3)} == {1, 2, 3, 4}


@pytest.mark.parametrize("share", [0.01, 0.1, 0.37, 0.5, 0.99])
def test_a_canary_gets_its_share_of_any_hundred_requests_to_within_one(versions, share):
    versions.enter(version(4), now=4, state="canary", share=share)
    chosen = [versions.choose(None).number == 4 for _ in range(400)]
    assert all(abs(sum(chosen[k : k + 100]) - 100 * share) <= 1 for k in range(300))


def test_a_pin_is_held_to_what_is_loaded(versions):
    assert versions.choose("tuned@2").number == 2
    for name in ("tuned@1", "tuned@9", "other"):
        with pytest.raises(Refusal, match="refused"):
            versions.choose(name)


def test_rolling_back_gives_up_a_canary_first(versions):
    versions.enter(version(4), now=4, state="canary", share=0.5)
    assert [v.number for v in versions.roll_back("tuned", now=5, reason="x")] == [4, 3]
    assert [v.number for v in versions.roll_back("tuned", now=6, reason="x")] == [3, 2]
    with pytest.raises(Refusal, match="go back"):
        versions.roll_back("tuned", now=7, reason="x")


def test_the_state_survives_its_file(versions):
    versions.enter(version(4), now=4, state="canary", share=0.25)
    again = Versions.from_json(json.loads(json.dumps(versions.to_json())))
    assert again.to_json() == versions.to_json() and again.choose("tuned@4") == version(4)


@pytest.mark.parametrize(
    ("candidate", "present", "why"),
    [
        ([-0.10, -0.20], [-0.10, -0.20], ""),
        ([-0.101, -0.20], [-0.10, -0.20], ""),
        ([-0.20, -0.20], [-0.10, -0.20], "is worse than -0.15"),
        ([-0.05, -0.05], [-0.10, -0.20], ""),
        ([NAN, -0.05], [-0.10, -0.20], "1 of 2 canary examples have no score"),
        ([-0.05, NAN], [-0.10, NAN], ""),
        ([NAN], [NAN], ""),
        ([], [], ""),
    ],
)
def test_a_canary_is_worse_when_its_mean_is_or_a_score_is_lost(candidate, present, why):
    found = worse_score(candidate, present, tolerance=0.02)
    assert why in found and bool(found) == bool(why)


def test_a_trial_ends_by_failures_or_by_votes_and_not_by_a_single_one():
    trial = Trial()
    trial.active.answered, trial.canary.answered, trial.canary.failed = 20, 5, 2
    assert trial.verdict() == ""
    trial.canary.failed = 3
    assert "failed" in trial.verdict()
    trial.active.failed = 12
    assert trial.verdict() == ""
    trial.canary.worse, trial.canary.better, trial.active.better = 6, 2, 8
    assert "votes say worse" in trial.verdict()


def test_a_refusal_survives_pickling_and_says_everything():
    refusal = Refusal(429, "queue_full", "too many", [Problem("queue", "9", "at most 8")])
    again = pickle.loads(pickle.dumps(refusal))
    assert (again.body("r"), again.headers) == (refusal.body("r"), {"retry-after": "1"})
    assert json.loads(refusal.body("r"))["error"]["problems"][0]["allowed"] == "at most 8"
