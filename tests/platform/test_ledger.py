"""What is committed is on disk; what came after is remembered where it cost something, then cut off."""

import json

import numpy as np
import pytest

from burnish.data.errors import ConfigError
from burnish.data.records import GroupSummary, PolicyVersion, RubricVersion
from burnish.platform.checkpoints import committed

METRICS = {"loss": 0.5, "odd": float("nan")}


@pytest.fixture
def stage(fakes, tmp_path):
    made = fakes.Stage(tmp_path)
    made.begin()
    return made


def scored(stage, iteration, index=0):
    """One group's summary and scores."""
    summary, group = stage.rollout.sample(iteration, index, PolicyVersion(iteration, "d"))
    return summary, stage.reward.score(group, stage.order())


def finish(stage, iteration):
    stage.ledger.journal_scores(iteration - 1, [scored(stage, iteration - 1)])
    stage.learner.iterations = iteration
    stage.ledger.advance(PolicyVersion(iteration, f"{iteration:064d}"))
    stage.ledger.finish(iteration, METRICS, {"learn": 1.0})


def test_a_fresh_ledger_has_nothing_to_resume(fakes, tmp_path):
    assert fakes.Stage(tmp_path).ledger.resume() is None


def test_a_resume_brings_back_counters_versions_and_digests(stage):
    finish(stage, 1)
    finish(stage, 2)
    again = stage.new_ledger()
    assert again.resume() == stage.ledger.checkpoints / "step-000002"
    for name in ("iteration", "versions", "counts", "rubrics", "digests", "notes", "best"):
        assert getattr(again, name) == getattr(stage.ledger, name), name
    assert again.digests == {"policy_digest": "p2", "state_digest": "s2"}
    assert again.seconds["learn"] == 2.0


def test_a_resume_cuts_off_what_no_commit_covers(stage):
    finish(stage, 1)
    kept = {n: (stage.run.path / n).read_bytes() for n in ("metrics.jsonl", "journal.jsonl")}
    stage.ledger.journal_scores(1, [scored(stage, 1)])
    stage.ledger.metrics.log("grpo", 2, METRICS)
    stage.new_ledger().resume()
    assert kept == {n: (stage.run.path / n).read_bytes() for n in kept}


def test_looking_back_at_a_finished_stage_cuts_nothing_off(stage):
    finish(stage, 1)
    stage.ledger.metrics.log("later", 1, METRICS)
    stage.ledger.journal.append({"kind": "later"})
    before = {n: (stage.run.path / n).read_bytes() for n in ("metrics.jsonl", "journal.jsonl")}
    again = stage.new_ledger()
    assert again.resume(finished=True) is not None and again.iteration == 1
    assert before == {n: (stage.run.path / n).read_bytes() for n in before}


def test_scores_beyond_the_commit_are_remembered_for_exactly_their_samples(stage):
    finish(stage, 1)
    summary, scores = scored(stage, 1, index=7)
    scores.valid["outside"][3] = False
    stage.ledger.journal_scores(1, [(summary, scores)])
    again = stage.new_ledger()
    again.resume()
    found = again.remembered(summary, scores.rubric)
    assert found is not None and found.rubric == scores.rubric
    for part in ("raw", "scaled", "valid"):
        for name, array in getattr(scores, part).items():
            np.testing.assert_array_equal(getattr(found, part)[name], array)
    assert again.remembered(scored(stage, 1, index=8)[0], scores.rubric) is None
    assert again.remembered(summary, RubricVersion(1, "another rubric")) is None
    other = GroupSummary(summary.example_id, 1, summary.policy, "other samples", 1, {})
    assert again.remembered(other, scores.rubric) is None


def test_a_damaged_newest_commit_is_passed_over_and_said(stage):
    finish(stage, 1)
    finish(stage, 2)
    path = stage.ledger.checkpoints / "step-000002" / "state.json"
    path.write_bytes(path.read_bytes().replace(b"2", b"3", 1))
    again = stage.new_ledger()
    assert again.resume() == stage.ledger.checkpoints / "step-000001"
    assert again.iteration == 1 and any("step-000002" in line for line in again.warnings)


def test_metrics_that_are_not_finite_are_written_as_null(stage):
    finish(stage, 1)
    (line,) = (stage.run.path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["odd"] is None and json.loads(line)["loss"] == 0.5


def test_old_commits_go_and_the_best_stays(stage):
    stage.ledger.best = "step-000000"
    for iteration in range(1, 5):
        stage.ledger.best = "step-000001" if iteration > 1 else "step-000000"
        finish(stage, iteration)
    stage.ledger.settle()
    names = [path.name for path in committed(stage.ledger.checkpoints)]
    keep = stage.recipe.checkpoints.keep_last
    assert names == sorted({"step-000001", *(f"step-{i:06d}" for i in range(5 - keep, 5))})


def test_the_best_stays_until_the_newer_one_is_on_disk(stage):
    stage.ledger.best = "step-000000"
    for iteration in range(1, 8):
        finish(stage, iteration)
    stage.ledger.best = "step-000008"
    finish(stage, 8)
    assert (stage.ledger.checkpoints / "step-000000").is_dir()
    stage.ledger.settle()
    assert not (stage.ledger.checkpoints / "step-000000").exists()


def test_a_pinned_commit_stays_until_it_is_let_go(stage):
    stage.run.pin("step-000000")
    for iteration in range(1, 7):
        finish(stage, iteration)
    stage.ledger.settle()
    names = [path.name for path in committed(stage.ledger.checkpoints)]
    assert names[:2] == ["step-000000", "step-000003"]
    stage.run.pin("step-000000", remove=True)
    finish(stage, 7)
    stage.ledger.settle()
    assert committed(stage.ledger.checkpoints)[0].name == "step-000004"
    for commit, remove in (("step-000099", False), ("../base", False), ("step-000004", True)):
        with pytest.raises(ConfigError, match="COMMIT"):
            stage.run.pin(commit, remove=remove)


def test_a_version_is_kept_as_long_as_the_lag_needs_it(fakes, tmp_path):
    made = fakes.Stage(tmp_path, lag=1)
    for number in range(4):
        made.ledger.advance(PolicyVersion(number, str(number)))
    assert sorted(made.ledger.versions) == [2, 3] and made.ledger.version.number == 3


def test_a_warning_is_said_once(stage):
    stage.ledger.warn(["a", "b"])
    stage.ledger.warn(["b", "c"])
    assert stage.ledger.warnings == ["a", "b", "c"]


def test_the_best_iteration_is_committed_between_two_that_are_due(fakes, tmp_path):
    made = fakes.Stage(tmp_path, commit_every=4)
    made.begin()
    made.ledger.best = made.ledger.name(1)
    finish(made, 1)
    finish(made, 2)
    names = sorted(path.name for path in made.ledger.checkpoints.iterdir())
    assert names == ["step-000000", "step-000001"]
