import io
import json

from burnish.data.errors import ConfigError, Problem
from burnish.platform.console import Console, duration, report_error, table, wrap_fields


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_gets_plain_lines_within_80_columns():
    stream = io.StringIO()
    console = Console(stream=stream)
    console.event("iteration", **{f"metric_{i}": 0.123456789 for i in range(12)})
    console.line("words")
    lines = stream.getvalue().splitlines()
    assert console.mode == "plain" and lines[-1] == "words"
    assert max(map(len, lines)) <= 80 and len(lines) > 2 and "metric_0 0.1235" in lines[0]


def test_a_log_gets_progress_seldom_and_the_end_always():
    stream, times = io.StringIO(), iter([0.0, 1.0, 2.0, 20.0, 21.0])
    with Console(stream=stream, clock=lambda: next(times)).progress("sft", 5) as advance:
        for _ in range(5):
            advance(1)
    assert [line.split()[-3] for line in stream.getvalue().splitlines()] == ["1", "4", "5"]


def test_a_terminal_gets_a_bar():
    stream = Terminal()
    console = Console(stream=stream)
    with console.progress("sft", 2) as advance:
        advance(2)
    assert console.mode == "bars" and "sft" in stream.getvalue()


def test_machines_get_one_json_object_a_line_also_on_a_terminal():
    stream = Terminal()
    console = Console(json_lines=True, stream=stream)
    console.line("hello")
    console.event("iteration", loss=float("nan"), step=1)
    console.closing(run_id="r", status="done", seconds=1.5, next_step="x")
    entries = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [e["event"] for e in entries] == ["message", "iteration", "end"]
    assert entries[1] == {"event": "iteration", "loss": None, "step": 1}


def test_the_closing_line_says_what_to_type_next():
    stream = io.StringIO()
    Console(stream=stream).closing(run_id="tiny-0", status="done", seconds=75.0, next_step="burnish eval tiny-0")
    assert stream.getvalue() == "done: tiny-0 in 1 min 15 s\n  next: burnish eval tiny-0\n"


def test_durations_tables_and_fields():
    assert [duration(s) for s in (3.21, 65, 7380)] == ["3.2 s", "1 min 05 s", "2 h 03 min"]
    assert table(["a", "b"], [["long", "x"]]) == "a     b\nlong  x"
    assert wrap_fields("kind", {}) == "kind"


def test_errors_are_text_for_people_and_json_for_machines():
    error = ConfigError("refused", [Problem("a.b", "1", "2", "try 2"), Problem("c", "x", "y")])
    stream = io.StringIO()
    assert report_error(error, json_lines=False, stream=stream) == 2
    assert stream.getvalue() == "error: refused\n  a.b: got 1, allowed 2 (try 2)\n  c: got x, allowed y\n"
    stream = io.StringIO()
    report_error(error, json_lines=True, stream=stream)
    assert json.loads(stream.getvalue())["problems"][0] == {"field": "a.b", "got": "1", "allowed": "2", "hint": "try 2"}
