"""What a user is told once Ray Train gives up on the ranks, with the errors as Ray Train hands them over."""

import pickle

import pytest
from ray.train import TrainingFailedError, WorkerGroupError
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback

from burnish.data.errors import DataError, InfrastructureError, Problem, RefusedError
from burnish.platform.fine_tuning import cause_of


def failed(*causes):
    failures = {rank: UserExceptionWithTraceback(cause, "traceback") for rank, cause in enumerate(causes)}
    return pickle.loads(pickle.dumps(WorkerGroupError("two ranks", failures)))


@pytest.mark.parametrize("refusal", [RefusedError("no finite gradient"), DataError("a row", [Problem("a", "b", "c")])])
def test_what_burnish_refused_keeps_its_kind_whichever_rank_said_it(refusal):
    found = cause_of(failed(RuntimeError("connection closed by peer"), refusal))
    assert (type(found), str(found)) == (type(refusal), str(refusal))
    assert found.exit_code == refusal.exit_code


@pytest.mark.parametrize("cause", [RuntimeError("connection closed by peer"), InfrastructureError("full")])
def test_anything_else_may_be_the_machine_and_names_the_rank(cause):
    found = cause_of(failed(cause))
    assert type(found) is InfrastructureError and "rank 0" in str(found) and str(cause) in str(found)
    assert "no place" in str(cause_of(TrainingFailedError("no place")))
