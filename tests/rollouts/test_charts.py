"""Charts of the report: ticks, thinning, frames and which metric goes where."""

import re

import pytest

from burnish.rollouts.report_charts import (
    Chart,
    Event,
    Series,
    data_table,
    draw,
    log_ticks,
    nice_ticks,
    number,
    smooth,
    thin,
)
from burnish.rollouts.report_curves import build_charts

NAN = float("nan")


def chart(*values: float, log: bool = False, guide: float | None = None) -> Chart:
    points = tuple((float(i), v) for i, v in enumerate(values))
    return Chart("T", "y", (Series("a", points),), log=log, guide=guide)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.00864, "0.00864"), (12.345, "12.3"), (0.0, "0.00"), (3e-6, "3.00e-06"), (NAN, "–"), (None, "–")],
)  # fmt: skip
def test_numbers_keep_three_digits(value: float | None, shown: str) -> None:
    assert number(value) == shown


def test_ticks_are_round_and_inside() -> None:
    assert nice_ticks(0.0, 1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert nice_ticks(-0.031, 0.012) == [-0.03, -0.02, -0.01, 0.0, 0.01]
    assert log_ticks(0.03, 1.5) == pytest.approx([0.05, 0.1, 0.2, 0.5, 1.0])
    assert log_ticks(1e-5, 2.0) == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1])


def test_long_series_are_thinned_to_bucket_means_and_smoothed_in_place() -> None:
    points = [(float(i), float(i % 2)) for i in range(1000)]
    assert len(thin(points)) == 250
    assert thin(points)[0] == (1.5, 0.5)
    assert thin([]) == []
    assert [x for x, _ in smooth(points)] == [x for x, _ in points]
    assert abs(smooth(points)[500][1] - 0.5) < 0.05


@pytest.mark.parametrize("values", [(1.0,), (0.0, 0.0), (5.0, 5.0), (-1.0, -2.0, NAN), (1e-9, 1e9), tuple(range(99))])
def test_every_point_lies_inside_the_picture(values: tuple[float, ...]) -> None:
    svg = draw(chart(*values, log=True, guide=None))
    places = re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", svg)
    assert places
    assert all(50 <= float(x) <= 412 and 12 <= float(y) <= 200 for x, y in places)


def test_nothing_to_draw_draws_nothing() -> None:
    assert draw(chart(NAN)) == draw(chart()) == ""


def test_events_are_numbered_lines_inside_the_range() -> None:
    svg = draw(chart(1, 2, 3), [Event(1, "<b>"), Event(9, "later")])
    assert svg.count('class="event"') == 1
    assert "&lt;b&gt;" in svg and "later" not in svg


def test_a_guide_is_always_in_view() -> None:
    assert 'class="guide"' in draw(chart(0.2, 0.3, guide=1.0))


def test_the_table_is_thinned_and_keeps_the_last_step() -> None:
    table = data_table(chart(*range(100)))
    assert table.count("<tr>") < 30
    assert '<th scope="row">99</th><td>99.0</td>' in table
    assert "every 5th step" in table


def test_each_metric_has_one_chart_and_unknown_ones_come_last() -> None:
    metrics = [
        {"stage": "sft", "step": 1, "loss": 2.0, "grad_norm": 1.0},
        {"stage": "grpo", "step": 1, "reward/total/mean": 0.1, "reward/toy_x/mean": 0.2, "dev/ode/masked_mse": 0.3,
         "dev/sde/masked_mse": 0.4, "grad_norm": 1.0, "time/sample": 2.0, "note": "text"},
    ]  # fmt: skip
    built = build_charts(metrics)
    assert [c.title for c in built["sft"][0]] == ["Fine-tuning loss", "Gradient norm (sft)"]
    charts, more = built["grpo"]
    assert [c.title for c in charts] == ["Masked error", "Training reward", "Reward: toy x", "Gradient norm (grpo)"]
    assert [s.label for s in charts[0].series] == ["dev ode", "dev sde"]
    assert [c.title for c in more] == ["time/sample"]
