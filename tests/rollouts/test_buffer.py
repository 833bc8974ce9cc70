"""The fixed-lag buffer keeps its promise for every order of arrival."""

import pytest

from burnish.data.errors import ConfigError, InfrastructureError
from burnish.data.seeding import generator, permutation
from burnish.rollouts.buffer import FixedLagBuffer, LagSchedule


def simulate(*, lag: int, order_seed: int, num_iterations: int = 7, num_groups: int = 5) -> list[tuple]:
    """Run a loop in which groups arrive in a shuffled order, some of them twice; returns what each update saw."""
    buffer: FixedLagBuffer[tuple[int, int, int]] = FixedLagBuffer(LagSchedule(num_iterations, lag=lag))
    in_flight: list[tuple[int, int, int]] = []
    seen, draw = [], generator(order_seed, "arrivals")
    for finished in range(num_iterations):
        for iteration in buffer.due(finished):
            version = buffer.open(iteration, num_groups)
            in_flight += [(iteration, index, version) for index in range(num_groups)]
        while not buffer.is_whole(finished):
            item = in_flight[int(draw.integers(len(in_flight)))]
            if buffer.add(item[0], item[1], item) and draw.random() < 0.5:
                in_flight.remove(item)
        seen.append(buffer.complete(finished))
    return seen


@pytest.mark.parametrize("lag", [0, 1, 3])
def test_every_order_of_arrival_gives_the_same_updates(lag: int) -> None:
    first = simulate(lag=lag, order_seed=0)
    assert all(simulate(lag=lag, order_seed=seed) == first for seed in range(1, 20))
    assert first == [tuple((i, g, max(0, i - lag)) for g in range(5)) for i in range(7)]


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_an_iteration_is_due_only_when_its_version_exists(lag: int) -> None:
    schedule = LagSchedule(6, lag=lag)
    for finished in range(6):
        due = schedule.due(finished)
        assert due == tuple(range(finished, min(6, finished + lag + 1)))
        assert all(schedule.version(i) <= finished for i in due)


def test_submitted_iterations_are_not_due_again_and_nothing_is_due_at_the_end() -> None:
    schedule = LagSchedule(5, lag=2)
    assert schedule.due(1, {1, 2}) == (3,)
    assert schedule.due(5) == ()


def test_values_come_back_in_example_order() -> None:
    buffer: FixedLagBuffer[int] = FixedLagBuffer(LagSchedule(1))
    buffer.open(0, 8)
    for index in permutation(8, 3, "order"):
        assert buffer.add(0, int(index), int(index) * 10)
    assert buffer.complete(0) == tuple(range(0, 80, 10))


def test_a_duplicate_is_dropped_and_the_first_value_stays() -> None:
    buffer: FixedLagBuffer[str] = FixedLagBuffer(LagSchedule(2))
    buffer.open(0, 1)
    assert buffer.add(0, 0, "first")
    assert not buffer.add(0, 0, "again")
    assert buffer.complete(0) == ("first",)
    assert not buffer.add(0, 0, "late")


@pytest.mark.parametrize(("iteration", "index"), [(1, 0), (0, 2), (0, -1)])
def test_a_foreign_group_is_refused(iteration: int, index: int) -> None:
    buffer: FixedLagBuffer[int] = FixedLagBuffer(LagSchedule(3))
    buffer.open(0, 2)
    with pytest.raises(InfrastructureError, match="nobody asked"):
        buffer.add(iteration, index, 1)


def test_an_incomplete_iteration_names_what_is_missing() -> None:
    buffer: FixedLagBuffer[int] = FixedLagBuffer(LagSchedule(1))
    buffer.open(0, 3)
    buffer.add(0, 1, 5)
    assert buffer.missing(0) == (0, 2)
    with pytest.raises(InfrastructureError, match=r"\(0, 2\)"):
        buffer.complete(0)


def test_the_buffer_is_bounded_by_the_lag() -> None:
    buffer: FixedLagBuffer[int] = FixedLagBuffer(LagSchedule(9, lag=1))
    buffer.open(0, 1)
    buffer.open(1, 1)
    with pytest.raises(InfrastructureError, match="full"):
        buffer.open(2, 1)


def test_an_iteration_opens_once_and_within_range() -> None:
    buffer: FixedLagBuffer[int] = FixedLagBuffer(LagSchedule(2, lag=1))
    buffer.open(0, 1)
    for iteration in (0, 2, -1):
        with pytest.raises(InfrastructureError, match="cannot be opened"):
            buffer.open(iteration, 1)


def test_senseless_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="lag"):
        LagSchedule(3, lag=-1)
    with pytest.raises(ConfigError, match="num_iterations"):
        LagSchedule(-1)
    with pytest.raises(ConfigError, match="num_groups"):
        FixedLagBuffer(LagSchedule(1)).open(0, 0)
