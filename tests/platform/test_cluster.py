"""The Ray executor on small fake roles: what is lost is sent again, what is wrong is said, state comes back first."""

import os
import signal
import sys
import time

import pytest

from burnish.data.errors import InfrastructureError
from burnish.platform.executor import GangLost, Role

pytestmark = pytest.mark.ray

ENVIRONMENT = {"env_vars": {"BURNISH_TEST": "yes"}}


class Worker:
    """Adds; can be told to die, hang or refuse. `folder` is where it leaves marks that outlive it."""

    def __init__(self, folder, rank, world):
        self.folder, self.rank, self.offsets = folder, rank, []

    def load(self, offset):
        self.offsets.append(offset)
        return self.rank

    def held(self):
        if not self.offsets:
            raise InfrastructureError("this worker was restarted and has no state")
        return os.getpid(), tuple(self.offsets)

    def add(self, a, b):
        return a + b + self.held()[1][-1]

    def both(self, a):
        return a, [a] * 3

    def divide(self, a, b):
        (self.folder / f"divide-{time.monotonic_ns()}").touch()
        return a / b

    def once(self, how, a):
        """Dies or hangs the first time any worker is asked, then answers."""
        mark = self.folder / how
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), {"die": signal.SIGKILL, "hang": signal.SIGSTOP}[how])
        return self.add(a, 0)

    def always_die(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def total(self, a, b):
        return a + b + self.rank

    def sleep(self, seconds):
        time.sleep(seconds)
        return self.rank

    def environment(self, name):
        return os.environ.get(name)

    def die_if(self, rank):
        if self.rank == rank:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(30)


@pytest.fixture(scope="module")
def make(cluster):
    """Maker of an executor with one role; this module's class travels by value."""
    from ray import cloudpickle

    from burnish.platform.cluster import RayExecutor

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    made = []

    def build(folder, *, count=1, gang=False, deadline=120.0, budget=50):
        made.append(RayExecutor(budget=budget))
        made[-1].start(role(folder, count, gang=gang, deadline=deadline))
        return made[-1]

    yield build
    for executor in made:
        executor.close()


def role(folder, count, *, gang=False, deadline=120.0):
    return Role("w", lambda rank, world: Worker(folder, rank, world), count, gang, deadline)


@pytest.fixture(scope="module")
def marks(tmp_path_factory):
    """Where the shared workers leave marks."""
    return tmp_path_factory.mktemp("marks")


@pytest.fixture(scope="module")
def shared(make, marks):
    """Two workers for all tests that leave them usable: starting one takes seconds."""
    return make(marks, count=2)


@pytest.fixture
def pool(shared):
    """The shared workers, loaded with 100."""
    shared.broadcast("w", "load", 100)
    return shared


def value(executor, *call):
    return executor.get(executor.submit("w", *call)[0])


def test_results_come_back_and_handles_travel_as_values(pool):
    (first,) = pool.submit("w", "add", 1, 2)
    (second,) = pool.submit("w", "add", first, 10)
    assert (pool.get(first), pool.get(second)) == (103, 213)
    small, large = pool.submit("w", "both", 7, returns=2)
    assert pool.wait([small]) is small and pool.get(large) == [7, 7, 7]


def test_calls_are_shared_out_and_the_first_to_finish_is_returned(pool):
    slow, fast = pool.submit("w", "sleep", 2.0)[0], pool.submit("w", "sleep", 0.01)[0]
    assert pool.wait([slow, fast]) is fast
    assert {pool.get(slow), pool.get(fast)} == {0, 1} and pool.resent == 0


def test_an_error_of_the_workers_own_code_reaches_the_caller_and_is_not_sent_again(pool, marks):
    with pytest.raises(ZeroDivisionError):
        value(pool, "divide", 1, 0)
    assert pool.resent == 0 and len(list(marks.glob("divide-*"))) == 1


def test_a_dead_actors_call_is_sent_again_and_answered(pool, marks):
    before, started = pool.resent, time.monotonic()
    assert value(pool, "once", "die", 1) == 101
    assert (marks / "die").exists() and pool.resent > before
    assert time.monotonic() - started < 10


def test_a_restarted_actor_gets_its_newest_state_and_works_again(pool):
    for offset in (1, 2, 3):
        pool.broadcast("w", "load", offset, keep=2)
    old = pool.pids("w")
    os.kill(old[0], signal.SIGKILL)
    deadline, pid = time.monotonic() + 60, old[0]
    while pid in old:
        assert time.monotonic() < deadline
        pid, held = value(pool, "held")
        time.sleep(0.2)
    assert held in [(2, 3), (2, 3, 2, 3)]  # the newest two in order, nothing older; telling them again is allowed
    assert value(pool, "add", 10, 20) == 33


def test_a_gang_takes_its_own_arguments_and_a_lost_member_is_said_at_once(make, tmp_path):
    executor = make(tmp_path, count=2, gang=True)
    assert executor.get(executor.gang("w", "total", 1, each=[[10], [20]])[0]) == 11
    started = time.monotonic()
    with pytest.raises(GangLost, match="was lost"):
        executor.gang("w", "die_if", 1)
    assert time.monotonic() - started < 15
    executor.close()


@pytest.mark.slow
def test_a_gang_can_be_built_again(make, tmp_path):
    executor = make(tmp_path, count=2, gang=True)
    with pytest.raises(GangLost, match="was lost"):
        executor.gang("w", "die_if", 1)
    executor.start(role(tmp_path, 2, gang=True))
    assert executor.get(executor.gang("w", "total", 1, each=[[1], [2]])[0]) == 2
    executor.close()


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_a_hung_actor_is_replaced_after_its_deadline(make, tmp_path, count):
    executor = make(tmp_path, count=count, deadline=20.0)
    executor.broadcast("w", "load", 100)
    pids, started = executor.pids("w"), time.monotonic()
    assert value(executor, "once", "hang", 1) == 101
    waited = time.monotonic() - started
    print(f"answered {waited:.1f} s after the call, deadline 20 s")
    assert 20.0 <= waited < 45
    assert set(executor.pids("w")) != set(pids) and executor.resent >= 1
    executor.close()


@pytest.mark.slow
def test_calls_that_are_lost_again_and_again_end_the_run(make, tmp_path):
    executor = make(tmp_path, budget=2)
    with pytest.raises(InfrastructureError, match="budget is 2") as caught:
        value(executor, "always_die")
    assert caught.value.exit_code == 4
    executor.close()


def test_an_attempt_is_polled_and_its_own_errors_come_as_they_were_raised(pool):
    slow = pool.attempt("w", "sleep", 1.0, worker=1)
    assert not pool.poll(slow)
    assert pool.get(slow) == 1 and pool.poll(slow)
    with pytest.raises(ZeroDivisionError):
        pool.get(pool.attempt("w", "divide", 1, 0))


def test_an_attempt_whose_worker_dies_is_not_sent_again(make, tmp_path):
    executor = make(tmp_path)
    with pytest.raises(InfrastructureError, match="the worker was lost"):
        executor.get(executor.attempt("w", "always_die"))
    assert executor.resent == 0


def test_a_role_that_is_stopped_leaves_the_others_and_can_start_again(pool, tmp_path):
    beside = Role("beside", lambda rank, world: Worker(tmp_path, rank, world), concurrency=2, runtime_env=ENVIRONMENT)
    pool.start(beside)
    assert pool.get(pool.attempt("beside", "environment", "BURNISH_TEST")) == "yes"
    first, second = (pool.attempt("beside", "sleep", 1.0) for _ in range(2))
    started = time.monotonic()
    assert (pool.get(first), pool.get(second)) == (0, 0) and time.monotonic() - started < 1.9
    pool.stop("beside")
    pool.stop("nobody")
    assert value(pool, "add", 1, 2) == 103
