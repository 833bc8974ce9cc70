import pickle

import pytest

from burnish.data import errors

ALL = [
    errors.BurnishError,
    errors.ConfigError,
    errors.DataError,
    errors.CheckpointError,
    errors.InfrastructureError,
    errors.RefusedError,
]


@pytest.mark.parametrize("kind", ALL)
def test_errors_survive_pickling_with_their_problems(kind):
    error = kind("two things", [errors.Problem("a.b", "1", ">= 2", "raise it"), errors.Problem("c", "x", "y")])
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert again.problems == error.problems


def test_the_text_lists_every_problem_with_its_hint():
    error = errors.ConfigError("bad recipe", [errors.Problem("lr", "-1", "> 0", "try 1e-4")])
    assert str(error) == "bad recipe\n  lr: got -1, allowed > 0 (try 1e-4)"


def test_exit_codes_and_built_in_parents_are_the_documented_ones():
    assert [kind.exit_code for kind in ALL] == [1, 2, 3, 3, 4, 5]
    assert issubclass(errors.DataError, ValueError)
    assert issubclass(errors.InfrastructureError, RuntimeError)
