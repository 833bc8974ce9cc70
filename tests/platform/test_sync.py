"""Delivery is proved by who receives it."""

import pytest

from burnish.data.errors import RefusedError
from burnish.data.records import PolicyVersion
from burnish.platform.executor import Role
from burnish.platform.local import LocalExecutor
from burnish.platform.sync import deliver

VERSION = PolicyVersion(4, "f" * 64)
OLD = PolicyVersion(3, "e" * 64)


class FakeLearner:
    def num_shards(self):
        return 1

    def publish(self):
        return VERSION, {"w": 1.0}

    def published(self, commit):
        return OLD, {"w": float(len(commit))}


class FakeRollout:
    def __init__(self, answer):
        self.answer, self.got = answer, []

    def load(self, version, state):
        self.got.append((version.number, state["w"]))
        return self.answer(version)


@pytest.fixture
def fleet():
    """Maker of an executor with one learner and one rollout worker for each of the given answers."""
    made = []

    def make(*answers):
        executor = LocalExecutor()
        executor.start(Role("learner", lambda rank, world: FakeLearner(), gang=True))
        made[:] = [FakeRollout(answer) for answer in answers]
        executor.start(Role("rollout", lambda rank, world: made[rank], count=len(answers)))
        return executor, made

    return make


def honest(version):
    return 3, version.digest


def test_every_worker_gets_the_published_weights(fleet):
    executor, workers = fleet(honest, honest)
    assert deliver(executor) == VERSION
    assert [w.got for w in workers] == [[(4, 1.0)]] * 2


def test_an_earlier_commit_can_be_delivered(fleet):
    executor, workers = fleet(honest)
    assert deliver(executor, commit="123456") == OLD
    assert workers[0].got == [(3, 6.0)]


@pytest.mark.parametrize("liar", [lambda v: (0, v.digest), lambda v: (3, "0" * 64)])
def test_a_worker_that_bound_nothing_or_holds_other_bytes_stops_the_run(fleet, liar):
    executor, _ = fleet(honest, liar)
    with pytest.raises(RefusedError, match="was not delivered") as caught:
        deliver(executor)
    assert caught.value.exit_code == 5
