"""Intervals cover what they say, and depend on nothing but the numbers."""

import numpy as np
import pytest

from burnish.data.seeding import generator, permutation
from burnish.rollouts.intervals import (
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_relative,
    plain_mean,
    t_interval,
)


def names(count: int, size: int = 1) -> list[str]:
    return [f"cluster-{i // size:03d}" for i in range(count)]


def test_the_bootstrap_is_the_same_every_time_and_for_every_row_order() -> None:
    values, clusters = generator(0, "values").random(60), names(60, 3)
    first = bootstrap_mean(values, clusters, key="a")
    order = permutation(60, 1, "order")
    second = bootstrap_mean(values[order], [clusters[i] for i in order], key="a")
    assert bootstrap_mean(values, clusters, key="a") == first
    assert [second.mean, second.low, second.high] == pytest.approx([first.mean, first.low, first.high], rel=1e-12)


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    hits = 0
    for trial in range(200):
        values = generator(trial, "trial").standard_normal(40)
        found = bootstrap_mean(values, names(40), num_draws=400, key=str(trial))
        hits += found.low <= 0 <= found.high
    assert 0.88 <= hits / 200 <= 0.99


def test_examples_of_one_cluster_count_once() -> None:
    values = generator(0, "values").standard_normal(20)
    single = bootstrap_mean(values, names(20))
    repeated = bootstrap_mean(np.repeat(values, 8), names(160, 8))
    naive = bootstrap_mean(np.repeat(values, 8), names(160))
    assert repeated.low == pytest.approx(single.low)
    assert (repeated.n, repeated.clusters) == (160, 20)
    assert naive.high - naive.low < 0.6 * (repeated.high - repeated.low)


def test_pairing_finds_what_the_means_alone_hide() -> None:
    before = generator(0, "before").random(64) + 1
    after = before * 0.9 + generator(0, "noise").standard_normal(64) * 0.01
    found = bootstrap_relative(before, after, names(64))
    assert found.mean == pytest.approx(after.mean() / before.mean() - 1)
    assert found.excludes_zero and -0.11 < found.low < found.high < -0.09
    assert bootstrap_difference(before, after, names(64)).high < 0


def test_values_that_do_not_apply_are_left_out() -> None:
    found = bootstrap_mean(np.array([1.0, np.nan, 3.0]), names(3))
    assert (found.mean, found.n, found.clusters) == (2.0, 2, 2)
    assert bootstrap_relative(np.array([2.0, np.nan]), np.array([1.0, 5.0]), names(2)).mean == -0.5


def test_one_cluster_or_nothing_has_no_interval() -> None:
    assert bootstrap_mean(np.array([1.0, 2.0]), ["a", "a"]).to_json() == {
        "mean": 1.5, "low": None, "high": None, "n": 2, "clusters": 1,
    }  # fmt: skip
    assert bootstrap_mean(np.array([np.nan]), ["a"]).n == 0
    assert plain_mean(np.array([])).to_json()["mean"] is None
    assert not plain_mean(np.array([1.0, 2.0])).excludes_zero


def test_the_t_interval_matches_a_table() -> None:
    found = t_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.7764451 * np.sqrt(2.5) / np.sqrt(5)
    assert [found.mean, found.low, found.high] == pytest.approx([3, 3 - half, 3 + half], rel=1e-7)
    assert found.clusters == 5
    assert np.isnan(t_interval([1.0]).low)
