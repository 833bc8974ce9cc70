"""The moving average of weights."""

import numpy as np
import pytest

from burnish.learners.ema import Ema, EmaConfig, average


def test_the_average_matches_the_worked_example(worked):
    inputs, expected = worked("ema")
    found = average({"w": np.float32(inputs["ema"])}, {"w": np.float32(inputs["theta"])}, decay=inputs["decay"])
    np.testing.assert_allclose(found["w"], expected["ema_new"], rtol=1e-4)
    assert found["w"].dtype == np.float32


def test_other_names_are_refused():
    with pytest.raises(ValueError, match="names differ"):
        average({"a": np.zeros(1)}, {"b": np.zeros(1)}, decay=0.9)


def test_it_starts_as_a_copy_and_averages_only_when_due():
    weights = {"w": np.ones(2, np.float32)}
    ema = Ema(EmaConfig(enabled=True, decay=0.5, every=2))
    ema.observe(0, lambda: weights)
    weights["w"][:] = 3.0
    ema.observe(1, lambda: weights)
    assert ema.weights["w"].tolist() == [1.0, 1.0]
    ema.observe(2, lambda: weights)
    assert ema.weights["w"].tolist() == [2.0, 2.0]


def test_switched_off_it_never_asks_for_weights():
    ema = Ema(EmaConfig())
    ema.observe(4, lambda: pytest.fail("asked for weights"))
    assert ema.weights == {}
