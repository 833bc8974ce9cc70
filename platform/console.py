"""What the user sees: progress bars on a terminal, plain lines in a log, JSON lines for machines.

The loop calls `line`, `event` and `progress`; it does not know which of the three is on. Nothing is wider than 80
columns on purpose, except text that came from the user.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from burnish.data.errors import BurnishError

WIDTH = 80
LOG_SECONDS = 10.0
"""A plain log gets a progress line at most this often."""


class Console:
    """Writes to one stream in one of three modes.

    Args:
        json_lines: one JSON object a line, whatever the stream is.
        stream: where to write, standard output by default.
        clock: monotonic seconds; tests give their own.
    """

    def __init__(
        self, *, json_lines: bool = False, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream if stream is not None else sys.stdout
        self._clock = clock
        self._above_bar: Callable[[str], object] | None = None
        self.mode = "json" if json_lines else "bars" if self._stream.isatty() else "plain"

    def line(self, text: str) -> None:
        """A line of text for people; JSON mode writes it as a message event."""
        if self.mode == "json":
            self.event("message", text=text)
        else:
            self._write(text)

    def event(self, kind: str, **fields: Any) -> None:
        """A fact: one JSON object, or `kind  name value  name value` wrapped to 80 columns."""
        if self.mode == "json":
            clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in fields.items()}
            self._write(json.dumps({"event": kind, **clean}, default=str))
        else:
            self._write(wrap_fields(kind, fields))

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        """A task of `total` steps; call what it gives with the number of steps just finished."""
        if self.mode == "bars":
            with self._bar(description, total) as advance:
                yield advance
            return
        done, last = 0, -math.inf

        def advance(steps: int, /) -> None:
            nonlocal done, last
            done += steps
            now = self._clock()
            if now - last >= LOG_SECONDS or done >= total:
                last = now
                self.event("progress", task=description, done=done, total=total)

        yield advance

    def closing(self, *, run_id: str, status: str, seconds: float, next_step: str) -> None:
        """The last line of a command: what came out, how long it took, and what to type next."""
        if self.mode == "json":
            self.event("end", run_id=run_id, status=status, seconds=round(seconds, 3))
        else:
            self._write(f"{status}: {run_id} in {duration(seconds)}\n  next: {next_step}")

    @contextmanager
    def _bar(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=RichConsole(file=self._stream), transient=True) as bar:
            task = bar.add_task(description[:30], total=total)
            yield lambda steps: bar.advance(task, steps)

    def _write(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()


def wrap_fields(kind: str, fields: Mapping[str, Any]) -> str:
    """`kind  name value  name value …`, continued on indented lines so that none exceeds 80 columns needlessly."""
    lines, current = [], kind
    for name, value in fields.items():
        part = f"  {name} {number(value)}"
        if len(current) + len(part) > WIDTH:
            lines.append(current)
            current = "  " + part.strip()
        else:
            current += part
    return "\n".join([*lines, current])


def number(value: object) -> str:
    """A value as text: floats with four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """Seconds as people say them: 3.2 s, 4 min 05 s, 2 h 03 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Left-aligned columns, two blanks apart."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in [header, *rows]]
    return "\n".join(lines)


def note(text: str) -> None:
    """A remark for people on standard error, out of the way of what a program reads."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def report_error(error: BurnishError, *, json_lines: bool, stream: TextIO | None = None) -> int:
    """Write an error for people or machines; returns the exit code."""
    output = stream if stream is not None else sys.stderr
    if json_lines:
        problems = [{"field": p.field, "got": p.got, "allowed": p.allowed, "hint": p.hint} for p in error.problems]
        entry = {"event": "error", "code": error.exit_code, "kind": type(error).__name__, "message": error.message}
        output.write(json.dumps({**entry, "problems": problems}) + "\n")
    else:
        output.write(f"error: {error}\n")
    return error.exit_code
