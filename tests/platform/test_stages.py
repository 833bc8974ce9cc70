"""What a stage leaves on disk, however it ends."""

import pytest

from burnish.data.errors import InfrastructureError
from burnish.platform.context import Interrupted, settled
from burnish.platform.executor import GangLost


class Slow:
    """A ledger whose commit is on disk once it is waited for."""

    def __init__(self, error=None):
        self.on_disk, self._error = False, error

    def settle(self):
        self.on_disk = True
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize("error", [None, InfrastructureError("too many calls were lost"), KeyError("a reward's bug")])
def test_what_a_stage_finished_is_on_disk_whatever_ended_it(error):
    ledger, told = Slow(), None
    try:
        with settled(ledger):
            if error is not None:
                raise error
    except Exception as raised:
        told = raised
    assert told is error and ledger.on_disk


def test_a_disk_that_refuses_when_the_user_stops_is_told():
    with pytest.raises(InfrastructureError, match="full"), settled(Slow(InfrastructureError("full"))):
        raise Interrupted


def test_a_disk_that_refuses_is_told_unless_something_else_came_first():
    with pytest.raises(InfrastructureError, match="full"), settled(Slow(InfrastructureError("full"))):
        pass
    with pytest.raises(KeyError), settled(Slow(InfrastructureError("full"))):
        raise KeyError


def test_a_lost_learner_is_not_waited_for():
    ledger = Slow()
    with pytest.raises(GangLost), settled(ledger):
        raise GangLost("a learner died")
    assert not ledger.on_disk
