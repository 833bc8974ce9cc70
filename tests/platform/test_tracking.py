import threading
import time

import pytest
from pydantic import ValidationError

from burnish.platform.mlflow_sink import MlflowSink, TrackingConfig
from burnish.platform.runs import RunStore
from burnish.platform.tracking import NoTracker, Tracker, open_tracker


class Server:
    """A fake MLflow that keeps what it was sent and fails when told to."""

    mlflow_run_id = "m1"

    def __init__(self):
        self.down, self.rows, self.ends = False, [], []

    def connect(self):
        self._maybe_fail()
        return self

    def log(self, step, timestamp_ms, metrics):
        self._maybe_fail()
        self.rows.append((step, metrics))

    def finish(self, status):
        self._maybe_fail()
        self.ends.append(status)

    def _maybe_fail(self):
        if self.down:
            raise ConnectionError("down")


@pytest.fixture
def server():
    return Server()


def tracker(path, server, **options):
    return Tracker(path, connect=server.connect, close_seconds=5.0, **options)


def test_steps_arrive_in_order_with_their_stage_and_without_what_is_not_finite(tmp_path, server):
    seen = []
    t = tracker(tmp_path, server, on_connect=seen.append)
    for step in (1, 2, 3):
        t.log("grpo", step, {"loss": step / 2, "bad": float("nan"), "worse": float("inf")})
    t.finish("done")
    assert server.rows == [(s, {"grpo/loss": s / 2}) for s in (1, 2, 3)]
    assert (server.ends, seen, t.pending, t.failures) == (["FINISHED"], ["m1"], 0, 0)


def test_what_a_down_server_missed_is_sent_once_in_order_by_the_next_driver(tmp_path, server):
    server.down = True
    first = tracker(tmp_path, server)
    for step in (1, 2):
        first.log("sft", step, {"loss": 1.0})
    first.close()
    assert server.rows == [] and first.pending == 2 and first.failures > 0
    server.down = False
    second = tracker(tmp_path, server)
    for step in (2, 3):
        second.log("sft", step, {"loss": 1.0})
    second.finish("done")
    assert [step for step, _ in server.rows] == [1, 2, 3]


def test_a_step_that_a_crash_made_again_is_sent_once(tmp_path, server):
    first = tracker(tmp_path, server)
    first.log("grpo", 1, {"a": 1.0})
    first.close()
    second = tracker(tmp_path, server)
    second.log("grpo", 1, {"a": 1.0})
    second.log("sft", 1, {"a": 1.0})
    second.close()
    assert [metrics for _, metrics in server.rows] == [{"grpo/a": 1.0}, {"sft/a": 1.0}]


def test_a_server_that_hangs_does_not_hold_up_training(tmp_path, server):
    release = threading.Event()
    server.log = lambda *arguments: release.wait(30)
    t = Tracker(tmp_path, connect=server.connect, close_seconds=0.05)
    start = time.monotonic()
    for step in range(50):
        t.log("grpo", step, {"a": 1.0})
    t.close()
    taken = time.monotonic() - start
    print(f"50 steps queued beside a server that hangs: {taken:.2f} s")
    assert taken < 2.0
    release.set()


def test_a_spool_that_cannot_be_written_is_counted_and_nothing_more(tmp_path, server):
    (tmp_path / "tracking").write_text("in the way")
    t = tracker(tmp_path, server)
    t.log("grpo", 1, {"a": 1.0})
    t.close()
    assert t.failures >= 1


@pytest.mark.parametrize("uri", ["file:///x", "mlruns", "/abs/mlruns", "https://user:hunter2@host", "ftp://x"])
def test_a_file_store_or_a_secret_in_the_uri_is_refused_without_showing_it(uri):
    with pytest.raises(ValidationError) as caught:
        TrackingConfig(uri=uri)
    assert all("hunter2" not in e["msg"] for e in caught.value.errors())


def test_disabled_tracking_touches_nothing(tmp_path):
    run = RunStore(tmp_path).create("tiny", 0)
    t = open_tracker(TrackingConfig(enabled=False), run, params={})
    t.log("grpo", 1, {"a": 1.0})
    t.finish("done")
    assert isinstance(t, NoTracker) and [p.name for p in run.path.iterdir()] == ["run.json"]


@pytest.mark.slow
def test_mlflow_on_sqlite_holds_the_run_once_over_a_resume(tmp_path):
    run = RunStore(tmp_path).create("tiny", 0)
    config = TrackingConfig(close_seconds=200.0)
    for steps, status in (((1, 2), "interrupted"), ((2, 3), "done")):
        t = open_tracker(config, run, params={"grpo.group_size": "16"})
        for step in steps:
            t.log("grpo", step, {"loss": float(step)})
        t.finish(status)
        assert (t.pending, t.failures) == (0, 0), t.last_error
    known = run.info.mlflow_run_id
    sink = MlflowSink(config, runs_dir=tmp_path, run_id=run.id, mlflow_run_id=None, params={})
    assert sink.mlflow_run_id == known
    history = sink._client.get_metric_history(known, "grpo/loss")
    assert [(m.step, m.value) for m in history] == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert {p.name for p in tmp_path.iterdir()} >= {"mlflow.db", run.id}
