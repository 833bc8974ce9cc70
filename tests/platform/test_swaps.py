"""Changes of the rubric while the loop runs: what holds from where, what is refused, what a crash or replay keeps."""

import json

import pytest

from burnish.data.errors import ConfigError, RefusedError
from burnish.platform.changes import Change
from burnish.platform.rubric_start import keep_events
from burnish.rewards.rubric import RewardSpec, WeightPoint

BAND = RewardSpec(name="band", kind="boundary_band", weight=0.5)


@pytest.fixture
def stage(fakes, tmp_path):
    """Maker of a stage of fakes whose desk gets changes before given iterations."""

    def make(name="run", changes=None, **options):
        made = fakes.Stage(tmp_path / name, **options)
        made.begin()
        hand_in(made, changes or {})
        return made

    return make


def hand_in(made, changes):
    """Submit each change when the iteration of its key has been finished."""
    finish = made.ledger.finish
    for change in changes.get(0, ()):
        made.desk.submit(change)

    def then(iteration, *rest, **options):
        finish(iteration, *rest, **options)
        for change in changes.get(iteration, ()):
            made.desk.submit(change)

    made.ledger.finish = then


def lines(made, kind):
    entries = [json.loads(line) for line in (made.run.path / "journal.jsonl").read_text().splitlines()]
    return [entry for entry in entries if entry["kind"] == kind]


def scored_by(made):
    """iteration -> rubric versions in its journalled scores."""
    return {e["iteration"]: sorted({g["rubric"]["version"] for g in e["groups"]}) for e in lines(made, "scores")}


def test_a_change_holds_from_the_next_iteration_and_no_group_mixes_rubrics(stage):
    made = stage(changes={1: [Change("add", spec=BAND)]})
    made.loop().run()
    assert scored_by(made) == {0: [1], 1: [2], 2: [2], 3: [2]}
    names = {(int(g.split("/")[0]), name) for g, _, found in made.reward.orders for name in found}
    assert {i for i, name in names if name == "band"} == {1, 2, 3}
    states = [e["state"] for e in lines(made, "change")]
    assert states == ["preparing", "prepared", "active"]


def test_with_a_lag_a_change_waits_for_the_first_iteration_that_is_not_asked_for(stage):
    made = stage(lag=1, changes={1: [Change("add", spec=BAND)]})
    made.loop().run()
    assert scored_by(made) == {0: [1], 1: [1], 2: [2], 3: [2]}


def test_swap_weight_remove_and_rollback_each_make_a_new_rubric(stage):
    first = stage().recipe.rewards.rewards[0].name
    changes = {
        0: [Change("swap", name=first, spec=BAND)],
        1: [Change("weight", name="band", weight=0.25)],
        2: [Change("remove", name="band")],
        3: [Change("rollback")],
    }
    made = stage("changed", changes=changes)
    loop = made.loop()
    loop.run()
    assert [s.rubric.version for s in loop.swaps.log.states] == [1, 2, 3, 4, 5]
    weights = [s.config.weights.get("band") for s in loop.swaps.log.states]
    assert weights == [None, 0.5, 0.25, None, 0.25]
    assert loop.swaps.log.states[4].rubric.digest == loop.swaps.log.states[2].rubric.digest


def test_a_swap_keeps_the_weight_unless_the_spec_says_one(stage):
    made = stage()
    old = made.recipe.rewards.rewards[0]
    made.desk.submit(Change("swap", name=old.name, spec=RewardSpec(name="band", kind="boundary_band")))
    loop = made.loop()
    loop.run()
    assert loop.swaps.log.newest.config.weights["band"] == old.weight


def test_a_candidate_that_cannot_be_loaded_is_refused_and_the_run_goes_on(stage):
    made = stage(changes={1: [Change("add", spec=BAND.model_copy(update={"batch": 13}))]})
    made.loop().run()
    assert scored_by(made) == {i: [1] for i in range(4)}
    (request,) = made.desk.status()["changes"]
    assert request["state"] == "refused" and "no such file" in request["reason"]
    assert any("no such file" in warning for warning in made.ledger.warnings)


@pytest.mark.parametrize(
    "change",
    [
        Change("remove", name="nobody"),
        Change("weight", name="masked_pixel", weight=-1.0),
        Change("swap", name="nobody", spec=BAND),
        Change("rollback"),
        Change("rollback", to_version=7),
        Change("unshadow", name="band"),
        Change("add", name="band"),
    ],
)
def test_a_change_that_does_not_fit_is_refused_when_it_is_handed_in(stage, change):
    made = stage()
    made.loop().swaps.turn(0, 0, 0)
    loop = made.loop()
    loop.swaps.turn(0, 0, 0)
    with pytest.raises(ConfigError):
        made.desk.submit(change)


def test_a_shadow_is_logged_and_changes_nothing(stage):
    plain, shadowed = stage("plain"), stage("shadowed", changes={1: [Change("shadow", spec=BAND)]})
    plain.loop().run()
    shadowed.loop().run()
    assert shadowed.learner.plans == plain.learner.plans
    assert scored_by(shadowed) == scored_by(plain)
    assert [e["iteration"] for e in lines(shadowed, "shadow")] == [1, 2]
    assert all(-1 <= e["rank_correlation"] <= 1 for e in lines(shadowed, "shadow"))


def test_a_change_may_shadow_before_it_acts(stage):
    made = stage(changes={0: [Change("add", spec=BAND, shadow=2)]})
    made.loop().run()
    assert scored_by(made) == {0: [1], 1: [1], 2: [2], 3: [2]}
    assert made.desk.status()["changes"][0]["state"] == "active"


def test_a_rollback_overtakes_a_change_that_waits_for_the_shadow_before_it(stage):
    weight = Change("weight", name=stage().recipe.rewards.rewards[0].name, weight=0.25)
    seams = BAND.model_copy(update={"name": "seams"})
    shadowed = [Change("add", spec=BAND, shadow=3), Change("shadow", spec=seams, shadow=1)]
    made = stage("overtaken", changes={0: [weight, *shadowed, Change("rollback")]})
    made.loop().run()
    states = {entry["action"]: entry["state"] for entry in made.desk.status()["changes"]}
    assert states == {"weight": "active", "add": "active", "shadow": "active", "rollback": "active"}
    first = {entry["action"]: entry["iteration"] for entry in made.desk.status()["changes"]}
    assert first == {"weight": 0, "rollback": 0, "add": 3, "shadow": 3}


def test_a_shadow_that_fails_is_dropped_with_what_waited_for_it(stage):
    made = stage(changes={0: [Change("add", spec=BAND.model_copy(update={"batch": 17}), shadow=2)]})
    loop = made.loop()
    loop.run()
    assert scored_by(made) == {i: [1] for i in range(4)}
    assert made.desk.status()["changes"][0]["state"] == "refused" and loop.swaps.log.newest.shadows == ()


def test_a_swap_survives_a_crash_before_its_iteration_is_committed(stage):
    change = {1: [Change("add", spec=BAND)]}
    whole = stage("whole", changes=change)
    whole.loop().run()
    killed = stage("killed", changes=change)
    killed.learner.update = killed.learner.update if killed.ledger.iteration else _dying(killed.learner, 2)
    with pytest.raises(KeyboardInterrupt):
        killed.loop().run()
    resumed = stage("killed")
    resumed.loop().run()
    assert scored_by(resumed) == scored_by(whole)
    assert killed.learner.plans + resumed.learner.plans == whole.learner.plans


def _dying(learner, after):
    """An update that a kill interrupts after some iterations."""
    update = learner.update

    def once(plan, *groups):
        if learner.iterations == after:
            raise KeyboardInterrupt
        return update(plan, *groups)

    return once


def test_the_journal_of_a_run_replays_its_changes_in_another(stage, tmp_path):
    first = stage().recipe.rewards.rewards[0].name
    changes = {
        0: [Change("add", spec=BAND, shadow=1)],
        1: [Change("weight", name=first, schedule=(WeightPoint(iteration=0, weight=1.0),))],
        2: [Change("rollback")],
    }
    made = stage("made", changes=changes)
    made.loop().run()
    again = stage("again")
    keep_events(made.run.path / "journal.jsonl", again.run.path)
    again.loop().run()
    assert again.learner.plans == made.learner.plans
    assert scored_by(again) == scored_by(made)


def test_a_replay_with_another_reward_is_refused(stage):
    made = stage("made", changes={1: [Change("add", spec=BAND)]})
    made.loop().run()
    again = stage("again")
    keep_events(made.run.path / "journal.jsonl", again.run.path)
    again.reward.prepare = lambda specs: ["another file" for _ in specs]
    with pytest.raises((RefusedError, ConfigError)):
        again.loop().run()


def test_a_file_without_changes_cannot_be_replayed(tmp_path):
    (tmp_path / "journal.jsonl").write_text('{"kind": "scores"}\n')
    with pytest.raises(ConfigError, match="nothing to repeat"):
        keep_events(tmp_path / "journal.jsonl", tmp_path)


def test_what_is_not_done_at_the_end_is_refused_and_nobody_waits(stage):
    made = stage(changes={1: [Change("add", spec=BAND, shadow=99)], 4: [Change("remove", name="outside")]})
    loop = made.loop()
    loop.run()
    loop.swaps.close()
    assert [change["state"] for change in made.desk.status()["changes"]] == ["refused", "refused"]
    with pytest.raises(ConfigError, match="has ended"):
        made.desk.submit(Change("rollback"))


def test_a_change_after_a_resume_never_comes_before_one_that_was_decided(stage):
    killed = stage("killed", lag=1, changes={1: [Change("add", spec=BAND)]})
    killed.learner.update = _dying(killed.learner, 1)
    with pytest.raises(KeyboardInterrupt):
        killed.loop().run()
    resumed = stage("killed", lag=1, changes={0: [Change("weight", name="outside", weight=0.9)]})
    loop = resumed.loop()
    loop.run()
    assert [s.iteration for s in loop.swaps.log.states] == sorted(s.iteration for s in loop.swaps.log.states)
    assert all(len(versions) == 1 for versions in scored_by(resumed).values())


def test_a_replay_that_was_left_goes_on_with_what_is_still_to_come(stage):
    changes = {1: [Change("add", spec=BAND)], 3: [Change("rollback")]}
    made = stage("made", changes=changes)
    made.loop().run()
    first = stage("again", stop_after=2)
    keep_events(made.run.path / "journal.jsonl", first.run.path)
    first.loop().run()
    second = stage("again")
    second.loop().run()
    assert first.learner.plans + second.learner.plans == made.learner.plans
    assert scored_by(second) == scored_by(made)


def test_a_shadow_that_never_answers_is_dropped_and_the_run_goes_on(stage, monkeypatch):
    monkeypatch.setattr("burnish.platform.shadowing.PATIENCE", 0.05)
    made = stage(changes={0: [Change("shadow", spec=BAND)]})
    made.executor.poll = lambda handle: getattr(handle.value, "rubric", None) is None
    made.loop().run()
    assert any("the shadow 'band' was dropped" in warning for warning in made.ledger.warnings)
    assert scored_by(made) == {i: [1] for i in range(4)}
