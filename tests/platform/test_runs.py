import json
import os
import re
import time

import pytest

from burnish.data.errors import ConfigError
from burnish.platform.environment import environment_versions, version_changes
from burnish.platform.runs import CONFIG, RunStore
from burnish.platform.runs_view import compare, compare_text, list_text, show, show_text

TRAVERSAL = [
    "..", ".", "", "/", "../x", "a/../b", "/etc/passwd", "a/b", "a\\b", "..\\x", "%2e%2e", "%2e%2e%2fx", "a%00",
    "a\x00b", "C:", "C:\\x", "c:x", "~", "~root", "#x", "a#b", "a?b", "a b", " a", "a ", "a\n", "\na", "\ta",
    "A", "Ä", "․․", "．．", "a∕b", "a⁄b", ".hidden", "-a", "_a", "a" * 65, "file:x", "$HOME", "a;b",
    "a|b", "*", "a*", "a\u202eb", "a/.", "./a",
]  # fmt: skip


def done(store, recipe="tiny", seed=0):
    run = store.create(recipe, seed)
    run.update(status="done")
    time.sleep(0.002)
    return run


@pytest.mark.parametrize("run_id", TRAVERSAL)
def test_a_run_id_cannot_leave_the_root(tmp_path, run_id):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ConfigError):
        RunStore(tmp_path / "runs").open(run_id)


def test_a_link_in_the_root_is_no_run(tmp_path):
    run = RunStore(tmp_path / "other").create("tiny", 0)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "link").symlink_to(run.path)
    store = RunStore(tmp_path / "runs")
    assert store.infos() == []
    with pytest.raises(ConfigError, match="run not found"):
        store.open("link")


@pytest.mark.parametrize("recipe", ["tiny", "My Recipe!", "x" * 90, "../up", "Ä"])
@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_an_id_is_recipe_seed_seconds_and_four_hex_digits(tmp_path, recipe, seed):
    run = RunStore(tmp_path).create(recipe, seed)
    assert re.fullmatch(rf"[a-z0-9][a-z0-9._-]{{0,42}}-{seed}-\d{{14}}-[0-9a-f]{{4}}", run.id) and len(run.id) <= 64
    assert run.info.recipe == recipe and os.listdir(tmp_path) == [run.id]


def test_two_runs_in_one_second_have_two_ids(tmp_path):
    store = RunStore(tmp_path)
    assert len({store.create("tiny", 0).id for _ in range(30)}) == 30


def test_run_json_keeps_what_a_resume_needs(tmp_path):
    run = RunStore(tmp_path).create("tiny", 3, config_digest="ab", versions={"torch": "2"})
    run.update(status="interrupted", mlflow_run_id="m1", error="stopped")
    info = RunStore(tmp_path).open(run.id).start()
    assert (info.status, info.seed, info.mlflow_run_id, info.error) == ("running", 3, "m1", None)
    assert (info.pid, info.config_digest, info.versions) == (os.getpid(), "ab", {"torch": "2"})
    with pytest.raises(ValueError, match="status"):
        run.update(status="happy")


def test_auto_takes_the_newest_unfinished_run_that_nobody_drives(tmp_path):
    store = RunStore(tmp_path)
    assert store.latest_unfinished() is None
    first, second = store.create("tiny", 0), store.create("tiny", 1)
    for run in (first, second):
        (run.path / CONFIG).touch()
    os.utime(second.path)
    second.update(created="2999-01-01T00:00:00Z")
    assert store.latest_unfinished().id == second.id
    assert store.latest_unfinished("tiny", 0).id == first.id
    with second.lock():
        assert store.latest_unfinished().id == first.id
    second.update(status="done")
    first.update(status="failed")
    assert store.latest_unfinished().id == first.id
    assert store.latest_unfinished("other") is None


def test_prune_keeps_the_newest_the_named_and_the_running(tmp_path):
    store = RunStore(tmp_path)
    runs = [done(store, f"r{i}") for i in range(5)]
    for number, run in enumerate(runs):
        run.update(created=f"2026-01-0{number + 1}T00:00:00Z")
    with runs[1].lock():
        assert store.prune(2, {runs[0].id}) == [runs[2].id]
    assert [info.recipe for info in store.infos()] == ["r0", "r1", "r3", "r4"]
    with pytest.raises(ConfigError):
        store.prune(0)


@pytest.mark.parametrize("text", ["", "{}", '{"format_version": 99}', "[]", '{"format_version": 1, "odd": 2}'])
def test_a_damaged_or_newer_run_json_is_an_error_and_passed_over_in_lists(tmp_path, text):
    run = RunStore(tmp_path).create("tiny", 0)
    (run.path / "run.json").write_text(text)
    with pytest.raises(ConfigError, match=r"run\.json"):
        _ = run.info
    assert RunStore(tmp_path).infos() == []


def test_versions_of_two_machines_are_compared():
    versions = environment_versions()
    assert {"torch", "python", "cpu_capability", "threads"} <= versions.keys()
    assert version_changes(versions, versions) == []
    assert version_changes({"torch": "2.10"}, {"torch": "2.15"}) == ["torch: 2.10 -> 2.15"]


def test_runs_are_shown_and_compared(tmp_path):
    store = RunStore(tmp_path)
    first, second = store.create("tiny", 0), store.create("tiny", 1)
    (first.path / "summary.json").write_text(json.dumps({"stages": {"grpo": {"error": 0.25}}, "run_id": "x"}))
    (first.path / "metrics.jsonl").write_text('{"stage": "sft", "step": 1}\n{"stage": "sft", "step": 2}\n')
    rows = {name: (a, b) for name, a, b in compare(first, second)}
    assert rows["seed"] == (0, 1) and rows["stages.grpo.error"] == (0.25, None) and "run_id" not in rows
    assert show(first)["last_metrics"]["sft"]["step"] == 2
    assert "error  0.25" in show_text(show(first))
    assert "*  seed" in compare_text(compare(first, second), ("a", "b"))
    assert first.id in list_text(store.infos()) and "no runs" in list_text([])
