"""Image and group metrics against worked examples and their stated properties."""

from collections.abc import Callable

import numpy as np
import pytest

from burnish.data.seeding import generator
from burnish.rollouts.metrics import (
    edge_energy_ratio,
    masked_mse,
    outside_mse,
    psnr,
    reward_statistics,
    ssim,
)


def draw(*shape: int, name: str = "image") -> np.ndarray:
    return generator(0, name).random(shape, dtype=np.float32)


def blur(images: np.ndarray) -> np.ndarray:
    return sum(np.roll(images, (dy, dx), axis=(-2, -1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)) / np.float32(9)


def test_region_metrics_match_the_worked_example(worked: Callable) -> None:
    inputs, expected = worked("region_metrics")
    target, image = (np.repeat(np.array(inputs[k])[None], 3, axis=0) for k in ("gt", "pred"))
    x1, y1, x2, y2 = inputs["fg_box"]
    mask = np.zeros((1, 9, 9))
    mask[:, y1:y2, x1:x2] = 1
    assert masked_mse(image, target, mask) == pytest.approx(expected["mse_fg"], rel=1e-6)
    assert outside_mse(image, target, mask) == expected["mse_bg"]
    assert masked_mse(image, target, np.ones((1, 9, 9))) == pytest.approx(expected["mse_full"], rel=1e-6)
    assert ssim(image, target) == pytest.approx(expected["ssim_full_win7_uniform"], rel=1e-6)
    assert ssim(target, target) == pytest.approx(expected["ssim_identity"], rel=1e-9)
    assert psnr(image, target) == pytest.approx(expected["psnr_full"], rel=1e-6)


def test_masked_error_is_the_masked_pixel_reward_negated(worked: Callable) -> None:
    inputs, expected = worked("masked_mse_reward")
    image, target = (np.array(inputs[k]).transpose(2, 0, 1) for k in ("pred", "target"))
    assert -masked_mse(image, target, np.array(inputs["omega"])[None]) == pytest.approx(
        expected["mean_over_channels"], rel=1e-6
    )


def test_leading_dimensions_are_kept() -> None:
    images, targets, masks = draw(2, 4, 3, 9, 9), draw(2, 4, 3, 9, 9, name="t"), np.ones((2, 4, 1, 9, 9), np.float32)
    masked = [metric(images, targets, masks) for metric in (masked_mse, outside_mse, edge_energy_ratio)]
    for values in (*masked, ssim(images, targets)):
        assert values.shape == (2, 4)
        assert values.dtype == np.float64


def test_an_empty_region_has_no_error() -> None:
    image = draw(3, 8, 8)
    assert np.isnan(masked_mse(image, image, np.zeros((1, 8, 8))))
    assert np.isnan(outside_mse(image, image, np.ones((1, 8, 8))))


def test_edge_ratio_is_one_when_perfect_below_when_blurred_above_when_noisy() -> None:
    target, mask = draw(3, 12, 12), np.ones((1, 12, 12))
    assert edge_energy_ratio(target, target, mask) == 1
    assert edge_energy_ratio(blur(target), target, mask) < 0.5
    assert edge_energy_ratio(target + draw(3, 12, 12, name="noise"), target, mask) > 1.2


def test_edge_ratio_reads_only_neighbours_inside_the_mask() -> None:
    target, mask = draw(3, 12, 12), np.zeros((1, 12, 12))
    mask[:, 4:8, 4:8] = 1
    changed = target.copy()
    changed[:, mask[0] == 0] = 0
    assert edge_energy_ratio(changed, target, mask) == 1
    assert np.isnan(edge_energy_ratio(target, np.full_like(target, 0.5), mask))


def test_psnr_of_equal_images_is_infinite_and_small_images_have_no_ssim() -> None:
    image = draw(3, 6, 6)
    assert psnr(image, image) == np.inf
    with pytest.raises(ValueError, match="win_size"):
        ssim(image, image)


def test_reward_statistics_count_groups_without_spread_and_missing_samples() -> None:
    values = np.array([[0.0, 1.0], [0.5, 0.5], [9.0, 0.2], [9.0, 9.0]])
    valid = np.array([[True, True], [True, True], [False, True], [False, False]])
    assert reward_statistics(values, valid) == pytest.approx(
        {"mean": 2.2 / 5, "std": 0.5 / 3, "zero_spread": 2 / 3, "missing": 3 / 8}
    )


def test_reward_statistics_of_nothing_are_nan() -> None:
    found = reward_statistics(np.zeros((2, 3)), np.zeros((2, 3), dtype=bool))
    assert found["missing"] == 1
    assert np.isnan([found["mean"], found["std"], found["zero_spread"]]).all()
