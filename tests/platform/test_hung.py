"""Who counts as hung or lost, on a clock of the test's own: an actor that gave no answer, never a late driver."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from ray.exceptions import RayActorError

from burnish.platform.cluster import RayExecutor
from burnish.platform.executor import Role

DEADLINE = 600.0


@dataclass(eq=False)
class Ref:
    """An answer and when it is there."""

    ready: float
    value: object


class World:
    """Ray and its clock: actors take one call after the other, waiting makes time pass."""

    def __init__(self):
        self.now, self.killed = 0.0, []

    def make(self, role, slot):
        return Actor(self), Ref(0.0, "here")

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds

    def wait(self, refs, *, num_returns=1, timeout=0.0, fetch_local=True):
        if not any(ref.ready <= self.now for ref in refs):
            self.now = min(self.now + timeout, *(ref.ready for ref in refs))
        done = [ref for ref in refs if ref.ready <= self.now][:num_returns]
        return done, [ref for ref in refs if ref not in done]

    def get(self, ref, timeout=None):
        assert ref.ready <= self.now
        if isinstance(ref.value, Exception):
            raise ref.value
        return ref.value

    def kill(self, actor):
        self.killed.append(actor)


class Actor:
    """Works for as many seconds as it is told and answers with them."""

    def __init__(self, world):
        self.world, self.free = world, world.now
        self.call = SimpleNamespace(options=lambda num_returns: self.call, remote=self.work)
        self.build = SimpleNamespace(remote=lambda: Ref(world.now, "here"))

    def work(self, method, seconds):
        self.free = max(self.free, self.world.now) + seconds
        return Ref(self.free, seconds)


@pytest.fixture
def world(monkeypatch):
    """A world in place of Ray and of time."""
    made = World()
    for module in ("cluster", "crew"):
        monkeypatch.setattr(f"burnish.platform.{module}.ray", made)
        monkeypatch.setattr(f"burnish.platform.{module}.time", made)
    return made


def pool(world, count):
    executor = RayExecutor(make=world.make)
    executor.start(Role("w", lambda rank, world: None, count, False, DEADLINE))
    return executor


def test_answers_that_the_driver_takes_late_are_no_sign_of_a_hang(world):
    executor = pool(world, 4)
    handles = [executor.submit("w", "work", 100.0)[0] for _ in range(8)]
    world.sleep(2000.0)
    while handles:
        handles.remove(executor.wait(handles))
    assert (world.killed, executor.resent) == ([], 0)


def test_a_call_behind_a_long_queue_waits_for_its_turn(world):
    executor = pool(world, 1)
    for _ in range(8):
        executor.submit("w", "work", 100.0)
    assert executor.broadcast("w", "load", 1.0) == [1.0]
    assert (world.killed, executor.resent, world.now) == ([], 0, 801.0)


def test_what_a_hung_actor_had_answered_is_not_asked_for_again(world):
    executor = pool(world, 1)
    handles = [executor.submit("w", "work", seconds)[0] for seconds in (1.0, 1.0, 1.0, 700.0)]
    handles[3].call.args = (1.0,)
    assert executor.broadcast("w", "load", 1.0) == [1.0]
    assert (len(world.killed), executor.resent) == (1, 2)


def test_one_call_that_takes_too_long_is_a_hang(world):
    executor = pool(world, 1)
    handles = [executor.submit("w", "work", seconds)[0] for seconds in (500.0, 700.0)]
    assert executor.get(handles[0]) == 500.0
    handles[1].call.args = (50.0,)
    assert executor.get(handles[1]) == 50.0
    assert len(world.killed) == 1 and executor.resent == 1
    assert 1100.0 < world.now < 1160.0


def test_a_worker_that_is_lost_during_a_broadcast_is_told_later_and_the_others_answer(world):
    executor = pool(world, 2)
    executor._crews["w"].actors[0].call.remote = lambda *call: Ref(world.now, RayActorError())
    assert executor.broadcast("w", "load", 1.0) == [1.0]
    assert executor.resent == 1
