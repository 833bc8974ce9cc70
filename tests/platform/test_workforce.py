"""Pools that grow and shrink while a run goes on: handed in, obeyed between iterations, and no byte moves."""

import pytest

from burnish.data.errors import ConfigError
from burnish.platform.executor import Role
from burnish.platform.local import LocalExecutor
from burnish.platform.workforce import Workforce


class Worker:
    """Remembers what it was told."""

    def __init__(self, rank, world):
        self.rank, self.told, self.closed = rank, [], False

    def tell(self, what):
        self.told.append(what)
        return what

    def close(self):
        self.closed = True


@pytest.fixture
def executor():
    made = LocalExecutor()
    made.start(Role("rollout", Worker))
    made.start(Role("reward", Worker, count=2))
    made.start(Role("learner", Worker, gang=True))
    return made


@pytest.fixture
def workforce(executor):
    made = Workforce()
    made.obey(executor)
    return made


def test_a_wish_is_obeyed_at_the_next_turn_and_said(executor, workforce):
    lines = []
    workforce._tell = lines.append
    assert workforce.ask({"rollout": 3}) == {
        "reward": {"working": 2, "wanted": 2},
        "rollout": {"working": 1, "wanted": 3},
    }
    assert executor.sizes()["rollout"] == 1
    workforce.obey(executor)
    assert executor.sizes() == {"rollout": 3, "reward": 2, "learner": 1}
    assert workforce.status()["rollout"] == {"working": 3, "wanted": 3} and lines == ["rollout workers: 3 from now on"]


@pytest.mark.parametrize(
    "wanted", [{}, {"rollout": 0}, {"rollout": True}, {"reward": "2"}, {"reward": 4097}, {"learner": 2}]
)
def test_what_makes_no_sense_is_refused(workforce, wanted):
    with pytest.raises(ConfigError, match="the change is refused"):
        workforce.ask(wanted)
    assert workforce.status()["rollout"]["wanted"] == 1


def test_a_pool_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="no such pool in this run now"):
        Workforce().ask({"rollout": 2})


def test_a_new_worker_is_told_what_was_broadcast_and_one_that_goes_is_closed(executor):
    for number in range(3):
        executor.broadcast("rollout", "tell", number, keep=2)
    executor.resize("rollout", 3)
    old, *new = executor._workers["rollout"]
    assert old.told == [0, 1, 2] and [worker.told for worker in new] == [[1, 2]] * 2
    executor.resize("rollout", 1)
    assert [worker.closed for worker in (old, *new)] == [False, True, True]


@pytest.mark.parametrize("lag", [0, 1])
def test_a_run_whose_pools_change_decides_what_an_undisturbed_one_decides(fakes, tmp_path, lag):
    still, moved = (fakes.Stage(tmp_path / name, lag=lag, seed=seed) for name, seed in (("still", 0), ("moved", 5)))
    for made in (still, moved):
        made.begin()
    sizes = iter([{"rollout": 4, "reward": 3}, {"rollout": 2}, {"reward": 1}, {"rollout": 1}])
    obey = moved.workforce.obey

    def obey_and_ask(executor):
        obey(executor)
        moved.workforce.ask(next(sizes))

    moved.workforce.obey = obey_and_ask
    for made in (still, moved):
        made.loop().run()
    assert moved.learner.plans == still.learner.plans and moved.learner.groups == still.learner.groups
    journals = [(made.run.path / "journal.jsonl").read_bytes() for made in (still, moved)]
    assert journals[0] == journals[1] and moved.executor.sizes()["rollout"] == 2
