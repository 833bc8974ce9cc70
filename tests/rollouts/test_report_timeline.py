"""The report's timeline: spans of the last iterations, and idleness over all of them."""

import re

from burnish.rollouts.report import read_report
from burnish.rollouts.report_timeline import read_spans, timeline


def event(name, lane, iteration, start, length, *, cat="grpo"):
    where = {"cat": cat, "pid": 1, "tid": 0, "args": {"lane": lane, "iteration": iteration}}
    return {"name": name, "ph": "X", "ts": start * 1e6, "dur": length * 1e6, **where}


def run(iterations):
    """Iterations of 10 s: 4 s of sampling, 5 s of learning."""
    found = [{"name": "process_name", "ph": "M", "pid": 1, "args": {"name": "<script>"}}]
    for i in range(iterations):
        found += [event("iteration", "driver", i, 10 * i, 10), event("sample", "rollout", i, 10 * i, 4)]
        found += [event("idle", "rollout", i, 10 * i + 4, 6), event("learn", "learner", i, 10 * i + 5, 5)]
        found += [event("idle", "learner", i, 10 * i, 5), event("idle", "reward", i, 10 * i, 10)]
    return found


def test_the_last_iterations_are_drawn_and_all_are_counted():
    text = timeline(run(6))
    assert [t for t in range(1, 7) if f"iteration {t}</text>" in text] == [3, 4, 5, 6]
    assert "sample, iteration 3: 4.00 s" in text and "sample, iteration 2" not in text
    assert "All 6 iterations; 10.0 s each" in text and "<td>60%</td>" in text and "<td>100%</td>" in text


def test_bars_are_as_long_as_their_time_and_stay_inside():
    bars = re.findall(r'class="span s(\d)" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', timeline(run(4)))
    widths = {kind: float(width) for kind, _, width in bars}
    assert abs(widths["0"] / widths["2"] - 4 / 5) < 0.01 and all(70 <= float(x) <= 1088.1 for _, x, _ in bars)


def test_fine_tuning_alone_or_nothing_is_not_drawn():
    assert timeline([]) == timeline([event("learn", "learner", 0, 0, 1, cat="sft")]) == ""
    assert read_spans(run(1), stage="sft") == []


def test_a_trace_without_its_end_is_read_up_to_its_last_whole_line(tmp_path):
    whole = '{"name": "learn", "ph": "X"},\n'
    (tmp_path / "trace.json").write_text("[\n" + whole * 2 + whole[:9])
    assert len(read_report(tmp_path).trace) == 2
