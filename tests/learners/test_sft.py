"""Flow-matching losses and their weights."""

import numpy as np
import pytest
import torch

from burnish.learners.sft import (
    SftConfig,
    band_weight,
    bell_weight,
    bell_weights,
    flow_matching_loss,
    noised,
    region_weight,
    weighted_error,
)


def double(values):
    return torch.tensor(values, dtype=torch.float64)[None]


def test_both_conventions_of_flow_matching_give_one_loss(worked):
    inputs, expected = worked("flow_matching_two_conventions")
    clean, noise = double(inputs["x0"]), double(inputs["noise"])
    sigma = torch.tensor([inputs["sigma"]], dtype=torch.float64)
    torch.testing.assert_close(noised(clean, noise, sigma), double(expected["x_sigma"]))
    torch.testing.assert_close(noise - clean, double(expected["target_noise_minus_data"]))
    loss = flow_matching_loss(noise - clean + inputs["pred_offset"], clean, noise)
    other = weighted_error(double(expected["refineanything_target"]) - inputs["pred_offset"], clean - noise)
    assert float(loss) == pytest.approx(expected["mse_either_way"]) == float(other)


@pytest.mark.parametrize("suffix", ["", "_uniform_error_inside", "_full_mask"])
def test_the_weighted_mask_loss_matches_the_worked_examples(worked, suffix):
    inputs, expected = worked(f"weighted_mask_loss{suffix}")
    weight = region_weight(1.0 - double(inputs["mask_zero_inside"]))
    loss = weighted_error(double(inputs["pred"]), double(inputs["target"]), weight=weight)
    assert float(loss) == pytest.approx(expected["loss"])
    if "weights" in expected:
        torch.testing.assert_close(weight, double(expected["weights"]))


def test_other_inside_weights_and_the_empty_region():
    region = double([[1.0, 0.0, 0.0, 0.0]])
    assert region_weight(region, inside="log2")[0, 0].tolist() == [3.0, 1.0, 1.0, 1.0]
    assert region_weight(region, inside="constant", constant=2.5)[0, 0].tolist() == [2.5, 1.0, 1.0, 1.0]
    assert region_weight(torch.zeros(1, 2, 2)).tolist() == [[[1.0, 1.0], [1.0, 1.0]]]


def test_each_example_of_a_batch_has_its_own_weight():
    region = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    assert region_weight(region)[:, 0].tolist() == [2.0, 4.0]


def test_the_boundary_loss_matches_the_worked_example(worked):
    inputs, expected = worked("boundary_loss")
    error, weight = double(inputs["base_loss_map"]), band_weight(double(inputs["band"]), alpha=inputs["alpha"])
    assert float((error * weight).sum()) == pytest.approx(expected["sum"])
    loss = weighted_error(error.sqrt(), torch.zeros_like(error), weight=weight)
    assert float(loss) == pytest.approx(expected["mean_per_location"])


def test_the_bell_weight_matches_the_worked_example(worked):
    inputs, expected = worked("sft_bell_weight")
    found = bell_weights(torch.tensor(inputs["timesteps"], dtype=torch.float64))
    np.testing.assert_allclose(found, expected["weights"], rtol=1e-6)


def test_the_bell_over_sigma_is_highest_in_the_middle_and_has_mean_one():
    sigma = torch.arange(1, 1001, dtype=torch.float32) / 1000
    weights = bell_weight(sigma)
    assert float(weights.mean()) == pytest.approx(1.0, rel=1e-5)
    assert float(sigma[weights.argmax()]) == 0.5 and float(weights.min()) >= 0.0


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="allowed a divisor of batch"):
        SftConfig(batch=24, micro_batch=16)
