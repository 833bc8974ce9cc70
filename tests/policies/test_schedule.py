"""Sigma schedules."""

import numpy as np
import pytest

from burnish.policies.schedule import dynamic_shift, shifted_sigmas, sigmas


def test_flux_dynamic_shift_matches_the_published_numbers(worked):
    inputs, expected = worked("flux_dynamic_shift")
    assert [dynamic_shift(n) for n in inputs["image_seq_len"]] == pytest.approx(expected["mu"])
    levels = shifted_sigmas(inputs["num_steps"], mu=dynamic_shift(1024))
    np.testing.assert_allclose(levels, expected["sigmas_at_1024"], rtol=1e-6)


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
def test_a_schedule_falls_from_one_to_zero(shift):
    levels = sigmas(7, shift=shift)
    assert levels.dtype == np.float32
    assert (levels[0], levels[-1], len(levels)) == (1.0, 0.0, 8)
    assert (np.diff(levels) < 0).all()


def test_a_shift_above_one_spends_more_steps_in_the_noise():
    assert (sigmas(8, shift=3.0)[1:-1] > sigmas(8)[1:-1]).all()
