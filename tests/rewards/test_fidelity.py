from dataclasses import replace

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from burnish.data.records import Example
from burnish.rewards.fidelity import FidelityOptions, Psnr, PsnrOptions, Ssim, psnr, ssim

REGION, AROUND = (
    [Ssim(FidelityOptions()), Psnr(PsnrOptions())],
    [
        Ssim(FidelityOptions(background=True)),
        Psnr(PsnrOptions(background=True)),
    ],
)


def by_name(reward):
    return reward.name


def test_ssim_and_psnr_are_the_worked_example(worked):
    inputs, expected = worked("region_metrics")
    gt, pred = (np.array(inputs[key])[None] for key in ("gt", "pred"))
    assert ssim(pred, gt) == pytest.approx(expected["ssim_full_win7_uniform"], rel=1e-6)
    assert psnr(pred, gt) == pytest.approx(expected["psnr_full"], rel=1e-6)
    assert ssim(gt, gt) == expected["ssim_identity"] and psnr(gt, gt) == np.inf


def test_ssim_is_torchmetrics_with_sample_covariance_and_without_its_border(outputs):
    first, second = (torch.from_numpy(image[None]).double() for image in outputs[[2, 9]])
    k2 = 0.03 * (48 / 49) ** 0.5  # 49/48 of all covariances is the same as 48/49 of their constant
    found = structural_similarity_index_measure(
        first, second, gaussian_kernel=False, kernel_size=7, data_range=1.0, k2=k2, return_full_image=True
    )
    assert ssim(outputs[2], outputs[9]) == pytest.approx(found[1][..., 3:-3, 3:-3].mean().item(), rel=1e-9)


@pytest.mark.parametrize("reward", REGION, ids=by_name)
def test_the_target_scores_best_and_scores_fall_with_the_error(reward, example, outputs):
    scores = reward.score(outputs, [example] * 16)
    assert scores.dtype == np.float32 and scores[0] == reward.range[1]
    assert (np.diff(scores) < 0).all() and scores[-1] >= reward.range[0]


@pytest.mark.parametrize("reward", REGION, ids=by_name)
def test_nothing_outside_the_regions_box_is_seen(reward, example, outputs):
    changed = np.where(example.mask > 0, outputs, np.float32(0))
    assert reward.score(changed, [example] * 16).tobytes() == reward.score(outputs, [example] * 16).tobytes()


@pytest.mark.parametrize("reward", AROUND, ids=by_name)
def test_the_background_is_compared_with_the_input_outside_the_box(reward, example, outputs):
    inside = np.where(example.mask > 0, outputs[9], example.image)
    spoilt, more = (np.clip(inside + (1 - example.mask) * np.float32(d), 0, 1) for d in (0.1, 0.3))
    scores = reward.score(np.stack([inside, spoilt, more]), [example] * 3)
    assert scores[0] == reward.range[1] and (np.diff(scores) < 0).all()


def test_the_background_psnr_counts_pixels_outside_the_box_only(example):
    spoilt = example.image * np.float32(0.5)
    outside = (example.mask[0] == 0)[None].repeat(3, axis=0)
    squared = np.square(spoilt[outside] - example.image[outside], dtype=np.float64).mean()
    assert AROUND[1].score(spoilt[None], [example])[0] == pytest.approx(-10 * np.log10(squared), rel=1e-6)


@pytest.mark.parametrize("reward", REGION, ids=by_name)
def test_the_region_is_missing_without_target_or_mask_pixels(reward, example, outputs):
    cases = [replace(example, target=None), replace(example, mask=np.zeros_like(example.mask))]
    assert np.isnan(reward.score(outputs[:2], cases)).all()
    assert np.isfinite(reward.score(outputs[:1], [replace(example, mask=None)])).all()


@pytest.mark.parametrize("reward", AROUND, ids=by_name)
def test_the_background_is_missing_without_input_mask_or_outside(reward, example, outputs):
    masks = [None, np.zeros_like(example.mask), np.ones_like(example.mask)]
    cases = [replace(example, image=None), *(replace(example, mask=mask) for mask in masks)]
    assert np.isnan(reward.score(outputs[:4], cases)).all()
    assert np.isfinite(reward.score(outputs[:1], [replace(example, target=None)])).all()


def test_a_region_of_one_pixel_is_grown_to_ssims_window(example, outputs):
    mask = np.zeros_like(example.mask)
    mask[0, 0, 23] = 1
    score = REGION[0].score(outputs[5:6], [replace(example, mask=mask)])[0]
    assert score == pytest.approx(ssim(outputs[5][:, :7, 17:], example.target[:, :7, 17:]), rel=1e-6)


def test_an_image_of_one_pixel_has_a_psnr_and_no_ssim():
    grey, mask = np.full((3, 1, 1), 0.5, np.float32), np.ones((1, 1, 1), np.float32)
    dots = [Example("dot", "", grey, mask, (), grey), Example("dot", "", grey, None, (), grey)]
    images = np.stack([grey, grey + np.float32(0.1)])
    assert np.isnan(REGION[0].score(images, dots)).all()
    assert REGION[1].score(images, dots) == pytest.approx([60, 20], rel=1e-5)
    assert all(np.isnan(reward.score(images, dots)).all() for reward in AROUND)


def test_the_options_say_where_psnr_ends(example, outputs):
    reward = Psnr(PsnrOptions(max_db=12.5))
    scores = reward.score(outputs, [example] * 16)
    assert reward.range == (0.0, 12.5) and scores[:2].tolist() == [12.5, 12.5] and scores[-1] < 12.5


@pytest.mark.parametrize("reward", REGION + AROUND, ids=by_name)
def test_a_row_depends_on_no_other_and_is_missing_where_it_is_not_finite(reward, example, outputs):
    broken = outputs[:4].copy()
    broken[1, 0, 10, 10], broken[2, 2, 0, 0] = np.inf, np.nan
    scores = reward.score(broken, [example] * 4)
    assert np.isnan(scores).tolist() == [False, True, True, False]
    assert scores[3:].tobytes() == reward.score(outputs[3:4], [example]).tobytes()
