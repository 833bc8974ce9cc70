"""The local executor: calls run as they are submitted, on workers in this process."""

import subprocess
import sys

import pytest

from burnish.data.errors import InfrastructureError
from burnish.platform.executor import Role
from burnish.platform.local import LocalExecutor


class Adder:
    def __init__(self, rank, world):
        self.rank, self.world, self.offset, self.closed = rank, world, 0, False

    def set(self, offset):
        self.offset = offset
        return self.rank

    def add(self, a, b):
        return a + b + self.offset

    def both(self, a):
        return a, [a] * 3

    def who(self):
        return self.rank, self.world

    def close(self):
        self.closed = True


@pytest.fixture
def pool():
    executor = LocalExecutor()
    executor.start(Role("adder", Adder, count=3))
    yield executor
    executor.close()


def test_a_handle_holds_the_value_and_can_be_an_argument(pool):
    (first,) = pool.submit("adder", "add", 1, 2)
    (second,) = pool.submit("adder", "add", first, 10)
    assert pool.wait([second, first]) is second
    assert (pool.get(first), pool.get(second)) == (3, 13)


def test_each_part_of_a_result_has_its_own_handle(pool):
    small, large = pool.submit("adder", "both", 7, returns=2)
    assert pool.get(small) == 7 and pool.get(large) == [7, 7, 7]


def test_a_pool_takes_turns_and_a_broadcast_reaches_every_worker(pool):
    assert {pool.get(pool.submit("adder", "who")[0]) for _ in range(3)} == {(0, 3), (1, 3), (2, 3)}
    assert pool.broadcast("adder", "set", 5) == [0, 1, 2]
    assert [pool.get(pool.submit("adder", "add", 0, 0)[0]) for _ in range(3)] == [5, 5, 5]


def test_a_gangs_own_arguments_come_after_the_shared_ones():
    executor = LocalExecutor()
    executor.start(Role("learner", Adder, gang=True))
    (value,) = executor.gang("learner", "add", 1, each=[[20]])
    assert executor.get(value) == 21
    with pytest.raises(InfrastructureError, match="one process"):
        executor.start(Role("learner", Adder, count=2, gang=True))


def test_an_error_of_the_workers_own_code_reaches_the_caller(pool):
    with pytest.raises(TypeError):
        pool.submit("adder", "add", 1, "2")
    assert pool.resent == 0


def test_closing_closes_the_workers():
    made = []
    executor = LocalExecutor()
    executor.start(Role("adder", lambda rank, world: made.append(Adder(rank, world)) or made[-1], count=2))
    executor.close()
    assert [worker.closed for worker in made] == [True, True]


def test_the_local_executor_and_the_loop_do_not_import_ray():
    code = "import sys, burnish.platform.local, burnish.platform.train; print('ray' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
