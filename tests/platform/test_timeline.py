"""The timeline: spans, idleness, and a file that opens whatever a kill has left of it."""

import json

import pytest

from burnish.platform.timeline import Timeline


@pytest.fixture
def now():
    """A clock that tests set: now[0] seconds."""
    return [0.0]


@pytest.fixture
def made(tmp_path, now):
    return lambda: Timeline(tmp_path / "trace.json", title="run", stage="grpo", clock=lambda: now[0])


def events(path):
    """Read as Perfetto does: a closing bracket is not needed."""
    return json.loads(path.read_text().rstrip().rstrip(",") + "]")


def work(timeline, now, lane, name, iteration, start, end):
    now[0] = start
    with timeline.span(lane, name, iteration):
        now[0] = end


def test_a_role_is_idle_where_none_of_its_spans_is_open(made, now, tmp_path):
    timeline = made()
    work(timeline, now, "rollout", "sample", 0, 0.0, 4.0)
    work(timeline, now, "reward", "score", 0, 3.0, 5.0)
    work(timeline, now, "learner", "learn", 0, 5.0, 9.0)
    now[0] = 10.0
    assert timeline.finish(0) == {"rollout": 6.0, "reward": 8.0, "learner": 6.0}
    spans = [(e["args"]["lane"], e["ts"], e["dur"]) for e in events(tmp_path / "trace.json") if e["name"] == "idle"]
    assert ("learner", 0, 5_000_000) in spans and ("learner", 9_000_000, 1_000_000) in spans


def test_work_ahead_counts_and_stands_in_a_row_of_its_own(made, now, tmp_path):
    timeline = made()
    timeline.begin("rollout", "sample", 0)
    timeline.begin("rollout", "sample", 1)
    now[0] = 2.0
    timeline.end("rollout", "sample", 0)
    now[0] = 6.0
    assert timeline.finish(0)["rollout"] == 0.0
    now[0] = 7.0
    timeline.end("rollout", "sample", 1)
    now[0] = 8.0
    assert timeline.finish(1)["rollout"] == 1.0
    sampled = [e for e in events(tmp_path / "trace.json") if e["name"] == "sample"]
    assert [e["dur"] for e in sampled] == [2_000_000, 7_000_000] and sampled[0]["tid"] != sampled[1]["tid"]


def test_a_commit_after_the_iteration_is_written_at_once_and_counts_for_the_next(made, now, tmp_path):
    timeline = made()
    now[0] = 1.0
    timeline.finish(0)
    work(timeline, now, "learner", "commit", 0, 1.0, 2.0)
    timeline.flush()
    assert [e["name"] for e in events(tmp_path / "trace.json")].count("commit") == 1
    now[0] = 4.0
    assert timeline.finish(1)["learner"] == 2.0
    assert [e["name"] for e in events(tmp_path / "trace.json")].count("commit") == 1


def test_a_line_that_a_kill_has_torn_is_cut_off_and_the_next_driver_goes_on(made, now, tmp_path):
    for iteration in range(2):
        timeline = made()
        work(timeline, now, "learner", "learn", iteration, now[0], now[0] + 1.0)
        timeline.finish(iteration)
        with (tmp_path / "trace.json").open("a") as stream:
            stream.write('{"name": "lea')
    timeline = made()
    now[0] += 1.0
    timeline.finish(2)
    assert [e["args"]["iteration"] for e in events(tmp_path / "trace.json") if e["name"] == "iteration"] == [0, 1, 2]


def test_work_that_fails_ends_there_and_a_disk_that_refuses_ends_no_run(now, tmp_path):
    timeline = Timeline(tmp_path / "missing" / "trace.json", clock=lambda: now[0])
    with pytest.raises(ValueError, match="broken"), timeline.span("learner", "learn", 0):
        now[0] = 1.0
        raise ValueError("broken")
    now[0] = 3.0
    assert timeline.finish(0)["learner"] == 2.0 and not (tmp_path / "missing").exists()


def test_a_run_leaves_a_trace_of_every_iteration_and_its_report_draws_it(smoke):
    found = events(smoke.path / "trace.json")
    names = {(e["cat"], e["args"]["iteration"], e["name"]) for e in found if e["ph"] == "X"}
    for iteration in range(4):
        assert {("grpo", iteration, name) for name in ("iteration", "sample", "score", "learn", "idle")} <= names
    assert ("grpo", 3, "commit") in names and "iteration 4</text>" in (smoke.path / "report.html").read_text()
    lines = [json.loads(line) for line in (smoke.path / "metrics.jsonl").read_text().splitlines()]
    assert all(line["seconds/idle/learner"] >= 0 for line in lines)
