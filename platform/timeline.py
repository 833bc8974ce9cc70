"""When who worked: spans of every iteration, appended to `trace.json` in the run directory.

The loop and the ledger mark spans; each finished iteration is one write. The file is the JSON array form of Chrome's
trace events, one event a line and no closing bracket, so that whatever was written before a kill opens in Perfetto or
chrome://tracing. Times are wall clock, so a resumed run goes on where it stopped, with its pause to be seen. It changes
no number: a disk that refuses ends the timeline, not the run.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.platform.journal import whole_bytes

LANES = ("driver", "rollout", "reward", "learner")
WORKING = LANES[1:]
"""Lanes that are idle where they do nothing."""
TRACE = "trace.json"
SHORTEST = 2e-4
"""Seconds below which a span is left out."""
_ROWS = 16
"""Spans of one lane that overlap stand in rows of their own."""


@dataclass(frozen=True)
class Span:
    """Work of one lane: what, for which iteration (counted from 0), from when to when in seconds; its row."""

    lane: str
    name: str
    iteration: int
    start: float
    end: float
    row: int = 0


class Timeline:
    """Spans of one driver.

    Args:
        path: the file; None = spans are kept for `finish` and written nowhere.
        title: what the trace calls the process.
        stage: "sft" or "grpo".
        clock: seconds since the epoch that never go back; tests give their own.
    """

    def __init__(
        self, path: Path | None, *, title: str = "burnish", stage: str = "", clock: Callable[[], float] | None = None
    ) -> None:
        self._path, self._title, self._stage = path, title, stage
        began = time.time() - time.perf_counter()
        self._clock = clock or (lambda: began + time.perf_counter())
        self._open: dict[tuple[str, str, int], tuple[float, int]] = {}
        self._window: list[Span] = []
        self._written = 0
        self._since = self._clock()
        self._started = False

    def start(self) -> None:
        """The first iteration begins now: what came before is of no iteration."""
        self._since = self._clock()

    def begin(self, lane: str, name: str, iteration: int) -> None:
        """Work begins; a span that is open already goes on."""
        taken = {row for (other, _, _), (_, row) in self._open.items() if other == lane}
        row = next(row for row in range(len(taken) + 1) if row not in taken)
        self._open.setdefault((lane, name, iteration), (self._clock(), row))

    def end(self, lane: str, name: str, iteration: int) -> None:
        """Work ends; one that never began is no error."""
        found = self._open.pop((lane, name, iteration), None)
        if found is not None:
            self._window.append(Span(lane, name, iteration, found[0], self._clock(), found[1]))

    @contextmanager
    def span(self, lane: str, name: str, iteration: int) -> Iterator[None]:
        """Work for the length of a block, whether it fails or not."""
        self.begin(lane, name, iteration)
        try:
            yield
        finally:
            self.end(lane, name, iteration)

    def finish(self, iteration: int) -> dict[str, float]:
        """An iteration is over: write its spans; returns lane -> seconds of it in which the lane did nothing."""
        now, since = self._clock(), self._since
        gaps = {lane: self._gaps(lane, since, now) for lane in WORKING}
        idle = [Span(lane, "idle", iteration, *gap) for lane, found in gaps.items() for gap in found]
        whole = Span("driver", "iteration", iteration, since, now, 1)
        self._write([whole, *self._window[self._written :], *idle])
        self._window, self._written, self._since = [], 0, now
        return {lane: sum(end - start for start, end in found) for lane, found in gaps.items()}

    def flush(self) -> None:
        """Write spans that ended since the last iteration did; they still count as work of the next one."""
        self._write(self._window[self._written :])
        self._written = len(self._window)

    def _gaps(self, lane: str, since: float, now: float) -> list[tuple[float, float]]:
        """(start, end) of the times in a window in which no span of a lane was open."""
        busy = [(s.start, s.end) for s in self._window if s.lane == lane]
        busy += [(start, now) for (other, _, _), (start, _) in self._open.items() if other == lane]
        gaps, free = [], since
        for start, end in sorted(busy):
            if start > free:
                gaps.append((free, min(start, now)))
            free = max(free, end)
        return [*gaps, (free, now)] if free < now else gaps

    def _write(self, spans: Sequence[Span]) -> None:
        if self._path is None:
            return
        events = [self._event(span) for span in spans if span.end - span.start >= SHORTEST]
        try:
            if not self._started:
                events = [*self._names(), *events]
                self._heal()
            with self._path.open("ab") as stream:
                stream.write("".join(json.dumps(event) + ",\n" for event in events).encode())
            self._started = True
        except OSError:
            self._path = None

    def _heal(self) -> None:
        """Begin the file, or cut off a line that a kill has torn."""
        assert self._path is not None
        whole = whole_bytes(self._path)
        if whole == 0:
            self._path.write_bytes(b"[\n")
        else:
            os.truncate(self._path, whole)

    def _event(self, span: Span) -> dict[str, Any]:
        return {
            "name": span.name,
            "cat": self._stage,
            "ph": "X",
            "ts": round(span.start * 1e6),
            "dur": round((span.end - span.start) * 1e6),
            "pid": os.getpid(),
            "tid": LANES.index(span.lane) * _ROWS + span.row % _ROWS,
            "args": {"iteration": span.iteration, "lane": span.lane},
        }

    def _names(self) -> list[dict[str, Any]]:
        pid = os.getpid()
        named = [{"name": "process_name", "ph": "M", "pid": pid, "tid": 0, "args": {"name": self._title}}]
        for index, lane in enumerate(LANES):
            for row in range(2):
                label = lane if row == 0 else "iterations" if lane == "driver" else f"{lane} (overlapping)"
                where = {"ph": "M", "pid": pid, "tid": index * _ROWS + row}
                named.append({"name": "thread_name", **where, "args": {"name": label}})
                named.append({"name": "thread_sort_index", **where, "args": {"sort_index": index * _ROWS + row}})
        return named
