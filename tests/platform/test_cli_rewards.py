"""`burnish rewards …` says what is asked for, waits for it, and leaves with the right code."""

import json
import runpy
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from burnish.platform.cli import main
from burnish.platform.control import control_server
from burnish.platform.journal import Journal
from burnish.platform.runs import RunStore
from burnish.rewards.table import TABLE

FakeDesk = runpy.run_path(str(Path(__file__).parent / "desks.py"))["FakeDesk"]
SPEC = "{name: band, kind: boundary_band, batch: 4}"


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Run `burnish rewards …` in a runs directory: (exit code, stdout, stderr)."""
    monkeypatch.setenv("BURNISH_RUNS_DIR", str(tmp_path / "runs"))

    def run(*arguments):
        with pytest.raises(SystemExit) as left:
            main(("rewards", *arguments))
        captured = capsys.readouterr()
        return left.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture
def run(tmp_path):
    return RunStore(tmp_path / "runs").create("tiny", 0)


@pytest.fixture
def driven(run):
    """The run's id, while a fake desk takes its changes: (id, desk)."""
    desk = FakeDesk()
    with control_server(run.path, desk):
        yield run.id, desk


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["add", SPEC, "--weight", "0.5", "--shadow", "3", "--why", "seams"], {
            "action": "add", "spec": {"name": "band", "kind": "boundary_band", "batch": 4, "weight": 0.5}, "shadow": 3,
            "why": "seams"}),
        (["add", "boundary_band"], {"action": "add", "spec": {"name": "boundary_band", "kind": "boundary_band"}}),
        (["remove", "pixels"], {"action": "remove", "name": "pixels"}),
        (["swap", "pixels", "masked_pixel", "--shadow", "2"], {
            "action": "swap", "name": "pixels", "spec": {"name": "masked_pixel", "kind": "masked_pixel"}, "shadow": 2}),
        (["weight", "pixels", "0.25"], {"action": "weight", "name": "pixels", "weight": 0.25}),
        (["weight", "pixels", "--schedule", "0:1.0,20:0.3"], {"action": "weight", "name": "pixels", "schedule": [
            {"iteration": 0, "weight": 1.0}, {"iteration": 20, "weight": 0.3}]}),
        (["shadow", "masked_pixel", "--iterations", "4"], {
            "action": "shadow", "spec": {"name": "masked_pixel", "kind": "masked_pixel"}, "shadow": 4}),
        (["shadow", "--stop", "pixels"], {"action": "unshadow", "name": "pixels"}),
        (["rollback"], {"action": "rollback"}),
        (["rollback", "--to", "2", "--why", "better"], {"action": "rollback", "to_version": 2, "why": "better"}),
    ],
)  # fmt: skip
def test_each_command_asks_for_its_change_and_waits_until_it_is_active(call, driven, words, expected):
    run_id, desk = driven
    code, out, err = call(words[0], run_id, *words[1:])
    assert code == 0 and out.endswith(": active from iteration 9\n") and "preparing" in err
    (change,) = desk.changes
    empty = {"name": "", "spec": None, "weight": None, "schedule": [], "shadow": 0, "to_version": None, "why": ""}
    assert change.to_json() == {**empty, **expected}


@pytest.mark.parametrize("name", ["spec.yaml", "spec.json"])
def test_a_spec_is_read_from_a_file(call, driven, tmp_path, name):
    (tmp_path / name).write_text('{"kind": "masked_pixel", "weight": 2.0}')
    assert call("add", driven[0], str(tmp_path / name))[0] == 0
    assert driven[1].changes[0].spec.name == "masked_pixel" and driven[1].changes[0].spec.weight == 2.0


def test_a_shadow_is_swapped_in_by_its_name_with_the_weight_of_the_old_one(call, driven, run):
    spec = {"name": "band", "kind": "boundary_band", "weight": 1.0, "weight_schedule": [], "gold": False, "batch": 4}
    with Journal(run.path / "journal.jsonl") as journal:
        journal.append({"kind": "rubric", "shadows": [{"spec": spec}]})
    assert call("swap", driven[0], "pixels", "band")[0] == 0
    assert driven[1].changes[0].spec.model_fields_set == {"name", "kind", "batch"}


def test_without_waiting_the_id_is_printed(call, driven):
    assert call("rollback", driven[0], "--no-wait")[1] == "c1\n"
    assert json.loads(call("rollback", driven[0], "--no-wait", "--json")[1]) == {"id": "c2"}


def test_a_refusal_leaves_with_2_and_the_reason(call, run):
    desk = FakeDesk(states=("preparing", "refused"), reason="the canary scored NaN")
    with control_server(run.path, desk):
        code, out, err = call("swap", run.id, "pixels", SPEC)
        assert (code, out) == (2, "") and "error: the run refused the change: the canary scored NaN" in err
        code, _, err = call("swap", run.id, "pixels", SPEC, "--json")
        assert code == 2 and "canary scored NaN" in json.loads(err.splitlines()[-1])["message"]


def test_a_change_decided_just_before_the_run_ended_is_found_in_the_journal(call, run):
    with Journal(run.path / "journal.jsonl") as journal:
        row = {"kind": "change", "action": "rollback", "name": "", "why": "", "iteration": 4}
        journal.append({**row, "id": "c1", "state": "active"})
        journal.append({**row, "id": "c2", "state": "shadowing"})
    for expected in (0, 4):
        desk, asked = FakeDesk(states=("queued",), changes=[None] * (expected == 4)), threading.Event()
        found = desk.change
        desk.change = lambda change_id, found=found, asked=asked: (asked.set(), found(change_id))[1]
        with ExitStack() as stack:
            stack.enter_context(control_server(run.path, desk))
            closer = threading.Thread(target=lambda asked=asked, stack=stack: asked.wait(10) and stack.close())
            closer.start()
            code, out, err = call("rollback", run.id)
            closer.join()
        assert code == expected and ("rollback: active" in out if code == 0 else "c2 was decided" in err)


@pytest.mark.parametrize(
    "words",
    [
        ["remove", "RUN", "pixls"],
        ["add", "RUN", "boundary_bnd"],
        ["add", "RUN", "{name: [}"],
        ["add", "RUN", "missing.yaml"],
        ["add", "RUN", "{kind: masked_pixel, weight_schedule: [{iteration: 0, weight: 1}]}", "--weight", "2"],
        ["weight", "RUN", "pixels"],
        ["weight", "RUN", "pixels", "1", "--schedule", "0:1"],
        ["weight", "RUN", "pixels", "nan"],
        ["weight", "RUN", "pixels", "--schedule", "0=1,x"],
        ["shadow", "RUN"],
        ["shadow", "RUN", "masked_pixel", "--stop", "pixels"],
        ["rollback", "RUN", "--to", "0"],
        ["rollback", "../x"],
        ["rollback", "RUN", "--a.b", "1"],
        ["list", "no-such-run"],
    ],
)
def test_a_users_mistake_leaves_with_2_and_hands_nothing_in(call, driven, words):
    code, out, err = call(*(driven[0] if word == "RUN" else word for word in words))
    assert code == 2 and err and out == "" and driven[1].changes == []


def test_a_run_without_a_driver_leaves_with_4_and_says_how_to_go_on(call, run):
    code, out, err = call("rollback", run.id)
    assert (code, out) == (4, "") and f"burnish train --resume {run.id}" in err


def test_the_list_is_the_runs_own_while_it_is_driven_else_the_journals(call, run):
    with control_server(run.path, FakeDesk()):
        status = json.loads(call("list", run.id, "--json")[1])
        assert status["driven"] and status["rubric"]["version"] == 3
        assert "outside  outside_preservation  0.3     2 bbbbbbbb  gold" in call("list", run.id)[1]
    code, out, err = call("list", run.id, "--json")
    assert code == 0 and not json.loads(out)["driven"] and "from the journal: " in err
    assert "no rubric yet" in call("list", run.id)[1]


def test_the_kinds_are_listed_with_direction_range_and_weights(call):
    kinds = json.loads(call("list", "--json")[1])
    assert [kind["kind"] for kind in kinds] == list(TABLE)
    assert all({"direction", "range", "needs_weights", "remote"} <= kind.keys() for kind in kinds)
    assert all(kind in call("list")[1] for kind in TABLE)


def test_a_reward_is_loaded_and_scores_a_sample(call):
    code, out, _ = call("check", SPEC, "--json")
    found = json.loads(out)
    assert code == 0 and found["name"] == "band" and len(found["digest"]) == 64 and found["weights_sha256"] == ""
    assert max(found["scores"].values()) == found["scores"]["identical"] == 0
    out = call("check", "masked_pixel")[1]
    assert "larger is better" in " ".join(out.split()) and max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("spec", [
    "masked_pixl", "{kind: masked_pixel, batch: 0}", "{name: x}", "{kind: clip_i, options: {weights: no/such}}",
    f"{{kind: masked_pixel, weights_sha256: {'a' * 64}}}",
])  # fmt: skip
def test_a_reward_that_a_run_would_refuse_is_refused_here(call, spec):
    code, out, err = call("check", spec)
    assert (code, out) == (2, "") and "error: " in err


def test_the_token_is_in_no_output(call, driven, run):
    token = (run.path / "control.token").read_text()
    printed = [call("list", driven[0]), call("rollback", driven[0]), call("remove", driven[0], "pixls", "--json")]
    assert token not in str(printed)


def test_changing_a_run_needs_neither_torch_nor_ray():
    code = "import sys, burnish.platform.cli_rewards, burnish.platform.control_client, burnish.platform.reward_spec, "
    code += "burnish.platform.rewards_text; print({'torch', 'ray', 'mlflow', 'fastapi'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
