"""MLflow on SQLite, written by the driver alone and never in its way.

Metrics go to a spool file first; a background thread sends them, in order, each once. When MLflow is slow, down or not
importable, training goes on and the spool is sent by the next process that opens the run. The loop calls `log` after a
commit. Rooms other than `platform/` do not know that tracking exists.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from burnish.data.errors import BurnishError
from burnish.platform.journal import Journal, encode
from burnish.platform.mlflow_sink import ENDED, MlflowSink, TrackingConfig
from burnish.platform.runs import Run, write_json

_PAUSES = (0.5, 2.0, 10.0, 30.0)


class Tracker:
    """Spool and sender of one run.

    Args:
        directory: the run directory; `tracking/` is made in it.
        connect: makes the sink, called in the background thread and again after a failure.
        on_connect: told the MLflow run id once there is one (the driver stores it in run.json).
        close_seconds: how long `close` waits for the sender.

    Attributes:
        failures: how often MLflow or the spool failed; the loop shows it and goes on.
        last_error: what the last failure was, "" if none.
    """

    def __init__(
        self,
        directory: Path,
        *,
        connect: Callable[[], Any],
        on_connect: Callable[[str], object] = lambda run_id: None,
        close_seconds: float = 30.0,
    ) -> None:
        self.failures = 0
        self.last_error = ""
        self._spool = Journal(directory / "tracking" / "pending.jsonl", durable=False)
        self._sent_file = directory / "tracking" / "sent.json"
        self._connect, self._on_connect, self._close_seconds = connect, on_connect, close_seconds
        self._sent = min(_read_sent(self._sent_file), self._spool.offset)
        self._last = self._last_steps()
        self._wake, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="burnish-tracking", daemon=True)
        self._thread.start()

    def log(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """Queue one committed step; a step at or below the stage's last one was queued before a crash: ignored."""
        if step <= self._last.get(stage, -1):
            return
        finite = {f"{stage}/{k}": float(v) for k, v in metrics.items() if v == v and abs(v) != float("inf")}
        self._queue({"stage": stage, "step": step, "time": time.time_ns() // 1_000_000, "metrics": finite})
        self._last[stage] = step

    def event(self, step: int, text: str) -> None:
        """Queue something that happened at a step: a tag `event.000012`."""
        self._queue({"tag": f"event.{step:06d}", "text": text})

    def finish(self, status: str) -> None:
        """Queue the end (burnish's status) and wait at most `close_seconds` for the sender."""
        self._queue({"finish": ENDED.get(status, "FAILED")})
        self.close()

    def close(self) -> None:
        """Stop the sender when it has sent everything or its time is up; what is left stays in the spool."""
        self._closing.set()
        self._wake.set()
        self._thread.join(self._close_seconds)

    @property
    def pending(self) -> int:
        """Entries of the spool that MLflow has not had yet."""
        return len(self._spool.tail(self._sent))

    def _queue(self, entry: Mapping[str, Any]) -> None:
        try:
            self._spool.append(entry)
        except BurnishError:
            self.failures += 1
        self._wake.set()

    def _last_steps(self) -> dict[str, int]:
        try:
            entries = self._spool.tail(0)
        except BurnishError:
            self.failures += 1
            return {}
        return {entry["stage"]: entry["step"] for entry in entries if "stage" in entry}

    def _work(self) -> None:
        """Send until closed; each failure is counted and followed by a longer pause."""
        sink, failed = None, 0
        while True:
            closing = self._closing.is_set()
            try:
                if sink is None:
                    sink = self._connect()
                    self._on_connect(sink.mlflow_run_id)
                self._drain(sink)
                failed = 0
            except Exception as error:  # tracking must never stop training: any failure is counted and tried again
                sink, failed = None, failed + 1
                self.last_error = f"{type(error).__name__}: {error}"
                self.failures += 1
            if closing:
                return
            if failed:
                self._closing.wait(_PAUSES[min(failed, len(_PAUSES)) - 1])
            else:
                self._wake.wait()
                self._wake.clear()

    def _drain(self, sink: Any) -> None:
        """Send what is in the spool, in order; the timestamp is the spool's, so a repeated batch is the same rows."""
        while entries := self._spool.tail(self._sent):
            for entry in entries:
                if "finish" in entry:
                    sink.finish(entry["finish"])
                elif "tag" in entry:
                    sink.tag(entry["tag"], entry["text"])
                elif entry["metrics"]:
                    sink.log(entry["step"], timestamp_ms=entry["time"], metrics=entry["metrics"])
                self._sent += len(encode(entry))
                write_json(self._sent_file, {"offset": self._sent})


class NoTracker:
    """Stands in where tracking is disabled."""

    failures = 0
    last_error = ""
    pending = 0

    def log(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """Does nothing."""

    def event(self, step: int, text: str) -> None:
        """Does nothing."""

    def finish(self, status: str) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def open_tracker(config: TrackingConfig, run: Run, *, params: Mapping[str, str]) -> Tracker | NoTracker:
    """The tracker of a run; on a resume it goes on with the same MLflow run and sends what the last driver left.

    Args:
        config: the recipe's `tracking`.
        run: its directory gets `tracking/`, its run.json `mlflow_run_id`.
        params: flat text parameters of the recipe.
    """
    if not config.enabled:
        return NoTracker()

    def connect() -> MlflowSink:
        known, runs_dir = run.info.mlflow_run_id, run.path.parent
        return MlflowSink(config, runs_dir=runs_dir, run_id=run.id, mlflow_run_id=known, params=params)

    def remember(mlflow_run_id: str) -> None:
        if run.info.mlflow_run_id != mlflow_run_id:
            run.update(mlflow_run_id=mlflow_run_id)

    return Tracker(run.path, connect=connect, on_connect=remember, close_seconds=config.close_seconds)


def _read_sent(path: Path) -> int:
    try:
        return int(json.loads(path.read_bytes())["offset"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
