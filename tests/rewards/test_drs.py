import numpy as np
import pytest
from pydantic import ValidationError

from burnish.data.errors import DataError
from burnish.rewards.drs import DrsConfig, drs_f1, drs_f2, drs_k, drs_multi_target, drs_scale

GRID = np.linspace(-0.5, 1.0, 301)


def _config(inputs):
    return DrsConfig(tau=inputs["tau"], k0=inputs["k0"], slope=inputs["slope"], n_min=inputs["n_min"])


@pytest.mark.parametrize("n", [2, 3, 4, 6, 7])
def test_f2_is_the_papers_equation_10(worked, n):
    inputs, expected = worked(f"drs_f2_n{n}")
    config = _config(inputs)
    scaled = drs_f2(np.array(inputs["raw"]), inputs["n_refs"], config)
    assert drs_k(n, config) == expected["k"]
    assert scaled == pytest.approx(np.array(expected["scaled"]), rel=1e-6)
    step = 1e-5
    slope = (drs_f2(np.array([0.65 + step]), n, config) - drs_f2(np.array([0.65 - step]), n, config)) / (2 * step)
    assert slope[0] == pytest.approx(expected["slope_at_tau"], rel=1e-6)


@pytest.mark.parametrize("mode", ["increase", "decrease", "constant"])
def test_steepness_follows_the_mode(worked, mode):
    inputs, expected = worked("drs_k_modes")
    assert [drs_k(n, DrsConfig(mode=mode)) for n in inputs["n_refs"]] == expected[mode]


@pytest.mark.parametrize("name", ["drs_f1_power_n2_INFERRED", "drs_f1_power_n5_INFERRED"])
def test_f1_is_the_inferred_power(worked, name):
    inputs, expected = worked(name)
    config = DrsConfig(kind="f1", power=inputs["p0"], power_slope=inputs["slope"], n_min=inputs["n_min"])
    scaled = drs_scale(np.array(inputs["raw"]), inputs["n_refs"], config)
    assert scaled == pytest.approx(np.array(expected["scaled"]), rel=1e-6)


@pytest.mark.parametrize(
    ("reduce", "key"), [("mean", "reduce_mean_after_sigmoid"), ("max", "reduce_max_after_sigmoid")]
)
def test_several_targets_are_scaled_before_they_are_reduced(worked, reduce, key):
    inputs, expected = worked("drs_multi_target_reduce")
    config = DrsConfig(tau=inputs["tau"], reduce=reduce)
    scaled = drs_multi_target(np.array(inputs["sims_per_target"]), inputs["n_refs"], config)
    assert scaled == pytest.approx(np.array(expected[key]), rel=1e-6)


def test_group_means_of_scaled_rewards_are_the_worked_ones(worked):
    inputs, expected = worked("dar_on_drs_scaled_rewards")
    rows = zip(inputs["raw_by_group"], inputs["n_refs"], strict=True)
    means = [drs_f2(np.array(raw), n, DrsConfig(tau=inputs["tau"])).mean() for raw, n in rows]
    assert means == pytest.approx(expected["scaled_group_means"], rel=1e-6)


@pytest.mark.parametrize("n", [0, 2, 5, 8])
def test_f2_keeps_the_order_and_stays_between_0_and_1(n):
    scaled = drs_f2(GRID, n, DrsConfig())
    assert (np.diff(scaled) > 0).all() and scaled.min() > 0 and scaled.max() < 1
    assert drs_f2(np.array([0.65]), n, DrsConfig())[0] == 0.5


def test_f2_grows_with_references_above_tau_and_shrinks_below():
    by_n = np.stack([drs_f2(np.array([0.5, 0.8]), n, DrsConfig()) for n in range(2, 9)])
    assert (np.diff(by_n[:, 0]) < 0).all() and (np.diff(by_n[:, 1]) > 0).all()


def test_fewer_references_than_n_min_count_as_n_min():
    assert drs_k(0, DrsConfig()) == drs_k(2, DrsConfig()) == 10
    assert drs_f1(np.array([0.5]), 0, DrsConfig(kind="f1"))[0] == 0.25


def test_f1_floors_negative_values_at_zero():
    assert drs_f1(np.array([-0.5]), 3, DrsConfig(kind="f1"))[0] == 0


@pytest.mark.parametrize("n", [None, -1])
@pytest.mark.parametrize("kind", ["f1", "f2"])
def test_a_missing_number_of_references_is_an_error(kind, n):
    with pytest.raises(DataError, match="number of references"):
        drs_scale(GRID, n, DrsConfig(kind=kind))


def test_extreme_values_neither_overflow_nor_warn():
    assert drs_f2(np.array([-1e30, 1e30]), 8, DrsConfig()).tolist() == [0.0, 1.0]


def test_n_max_below_n_min_is_refused():
    with pytest.raises(ValidationError, match="n_max: got 1"):
        DrsConfig(n_max=1)
