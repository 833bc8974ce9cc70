"""A run's journal tells which rubric scored which iteration and why it changed, in 80 columns and as JSON."""

import json

import pytest

from burnish.data.records import RewardVersion, RubricVersion
from burnish.platform.cli import main
from burnish.platform.journal import Journal
from burnish.platform.rewards_text import history_text, status_text
from burnish.platform.rewards_view import decided, rewards_of, shadow_spec, status_of
from burnish.platform.rubric_log import RubricState, Shadow
from burnish.platform.runs import RunStore
from burnish.rewards.rubric import RewardSpec, RubricConfig, WeightPoint

PIXELS, OUTSIDE = (
    RewardSpec(name="pixels", kind="masked_pixel"),
    RewardSpec(name="outside", kind="outside_preservation"),
)
BAND = RewardSpec(
    name="band", kind="boundary_band", weight=0.5, weight_schedule=(WeightPoint(iteration=0, weight=0.5),)
)
LIGHT = PIXELS.model_copy(update={"weight": 0.25})


def state(iteration, version, specs, **more):
    """Rubric `version` of these specs; its digest is that number again and again."""
    versions = tuple(RewardVersion(spec.name, 1, f"{i}" * 64) for i, spec in enumerate(specs, start=3))
    rubric = RubricVersion(version, f"{more.pop('digest', version)}" * 64)
    return RubricState(iteration, RubricConfig(rewards=specs), rubric, versions, **more).event()


def scores(iteration, *digests):
    groups = [{"example_id": "e", "rubric": {"version": 1, "digest": f"{d}" * 64}} for d in digests]
    return {"kind": "scores", "iteration": iteration, "groups": groups}


def change(change_id, state, iteration=4, action="add", name="band", why=""):
    row = {"id": change_id, "state": state, "iteration": iteration, "action": action, "name": name, "why": why}
    return {"kind": "change", **row}


SHADOW = Shadow(BAND, RewardVersion("band", 1, "e" * 64), "pixels")
WHY = "the pixels are done and the seams are what one sees now; see the notes of Tuesday's meeting"
LINES = [
    state(0, 1, (PIXELS, OUTSIDE)), *(scores(i, 1, 1) for i in range(3)),
    change("a1", "preparing"), change("a1", "prepared"),
    state(3, 2, (LIGHT, OUTSIDE), action="weight", name="pixels", why=WHY),
    change("a0", "active", iteration=2, action="weight", name="pixels"), scores(3, 2),
    state(4, 2, (LIGHT, OUTSIDE), action="shadow", name="pixels", shadows=(SHADOW,)), change("a1", "shadowing"),
    *(scores(i, 2) for i in (4, 5)),
    *({"kind": "shadow", "iteration": i, "name": "band", "against": "pixels", "mean": -0.5, "rank_correlation": r,
       "valid": 8} for i, r in ((4, 0.5), (5, None))),
    state(6, 3, (LIGHT, OUTSIDE, BAND), action="add", name="band"), change("a1", "active", iteration=5), scores(6, 3),
    change("b2", "refused", iteration=6, action="swap", why="the canary scored NaN: field pixels, a long reason " * 3),
    state(7, 4, (LIGHT, OUTSIDE), action="remove", name="band"),
    state(7, 5, (PIXELS, OUTSIDE), digest=1, action="rollback", why="as before"),
    scores(7, 1), scores(8, 1),
]  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """Make a run with these journal lines."""

    def make(lines=LINES):
        made = RunStore(tmp_path / "runs").create("tiny", 0)
        with Journal(made.path / "journal.jsonl") as journal:
            for line in lines:
                journal.append(line)
        return made

    return make


def test_every_iteration_is_under_the_rubric_that_scored_it(run):
    found = rewards_of(run().path)
    rows = [(row["first"], row["last"], row["version"], row["what"]) for row in found["rubrics"]]
    assert rows == [
        (0, 2, 1, "start: pixels, outside"),
        (3, 3, 2, "weight pixels: 1 -> 0.25"),
        (4, 5, 2, "shadow band"),
        (6, 6, 3, "add band"),
        (7, 6, 4, "remove band"),
        (7, 8, 5, "rollback to rubric 1"),
    ]
    assert found["mixed"] == [] and found["iterations_scored"] == 9 and found["rubrics"][1]["why"] == WHY


def test_a_group_under_another_rubric_is_named(run):
    made = run([state(0, 1, (PIXELS,)), scores(0, 1, 1), scores(1, 1, 2), scores(2, 2)])
    assert rewards_of(made.path)["mixed"] == [1, 2]
    assert "iterations 1, 2" in history_text(rewards_of(made.path))


def test_changes_have_their_last_state_and_refusals_their_reason(run):
    made = run()
    changes = {entry["id"]: entry for entry in rewards_of(made.path)["changes"]}
    assert [(c["state"], c["iteration"]) for c in changes.values()] == [("active", 6), ("active", 3), ("refused", 6)]
    assert changes["b2"]["reason"].startswith("the canary scored NaN")
    assert decided(made.path, "b2") == changes["b2"] and decided(made.path, "c3") is None


def test_a_shadow_says_how_far_it_agreed(run):
    (found,) = rewards_of(run().path)["shadows"]
    assert (found["name"], found["against"], found["first"], found["state"]) == ("band", "pixels", 4, "ended")
    assert (found["iterations"], found["mean"], found["rank_correlation"], found["valid"]) == (2, -0.5, 0.5, 16)


def test_the_spec_of_a_running_shadow_is_found_by_name(run):
    made = run(LINES[:12])
    assert RewardSpec.model_validate_json(json.dumps(shadow_spec(made.path, "band"))) == BAND
    assert shadow_spec(made.path, "pixels") is None and [s["name"] for s in status_of(made.path)["shadows"]] == ["band"]


def test_the_texts_are_within_80_columns_and_whole(run):
    path = run().path
    text, status = history_text(rewards_of(path)), status_text(status_of(path))
    assert max(map(len, [*text.splitlines(), *status.splitlines()])) <= 80
    words = ["iterations  rubric", "0-2         1 11111111", "overtaken   4 44444444", "rollback to rubric 1", "band"]
    assert [word for word in words if word not in text] == [] and "meeting" in text
    assert (
        "9 iterations scored, each by the rubric that holds for it alone" in text and "swap band: refused: the" in text
    )
    assert "iteration 9, rubric 5 11111111" in status and "add band: active from iteration 6" in status


def test_a_run_that_has_not_begun_says_so(run, tmp_path):
    made = run([])
    assert "names no rubric" in history_text(rewards_of(made.path))
    assert "no rubric yet" in status_text(status_of(made.path))
    started = run([state(0, 1, (PIXELS,))])
    assert rewards_of(started.path)["rubrics"][0]["last"] is None
    assert "0-          1 11111111  start: pixels" in history_text(rewards_of(started.path))


def test_the_command_shows_it_as_text_and_as_json(run, capsys):
    made = run()
    for more in ([], ["--json"]):
        with pytest.raises(SystemExit) as left:
            main(["runs", "show", made.id, "--rewards", "--runs-dir", str(made.path.parent), *more])
        assert not left.value.code
    text, _, tree = capsys.readouterr().out.rpartition("\n{")
    assert text == history_text(rewards_of(made.path)) and json.loads("{" + tree) == rewards_of(made.path)
