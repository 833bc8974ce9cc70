from dataclasses import replace

import numpy as np
import pytest

from burnish.data.errors import ConfigError
from burnish.data.masks import box_mask
from burnish.rewards.perceptual import (
    PerceptualOptions,
    ToyPerceptual,
    centred_unit,
    omnirefiner_total_reward,
    patch_distance_reward,
    patch_tiling,
    region_patches,
)


def test_tiling_is_row_major_and_clipped(worked):
    inputs, expected = worked("patch_tiling")
    tiles = patch_tiling(tuple(inputs["omega_bbox"]), patch=inputs["patch"])
    assert [list(t) for t in tiles] == expected["patches"] and len(tiles) == expected["K"]


def test_windows_without_a_region_pixel_are_dropped(example):
    mask = np.zeros_like(example.mask)
    mask[0, 0, 0] = mask[0, 15, 15] = 1
    tiles = region_patches(replace(example, mask=mask), height=24, width=24, patch=8, min_side=4)
    assert tiles == ((0, 0, 8, 8), (8, 8, 16, 16))


def test_a_small_region_is_grown_inside_the_frame(example):
    mask = np.zeros_like(example.mask)
    mask[0, 23, 12] = 1
    tiles = region_patches(replace(example, mask=mask), height=24, width=24, patch=512, min_side=8)
    assert tiles == ((9, 16, 17, 24),)


def test_patch_distance_reward_is_the_papers_equation_7(worked):
    inputs, expected = worked("patch_dreamsim_reward")
    a, b = (np.array(inputs[k], float) for k in ("emb_pred_raw", "emb_target_raw"))
    assert centred_unit(a) == pytest.approx(np.array(expected["emb_pred"]), rel=1e-6)
    assert centred_unit(b) == pytest.approx(np.array(expected["emb_target"]), rel=1e-6)
    assert patch_distance_reward(a, b) == pytest.approx(expected["R_ds"], rel=1e-6)
    assert patch_distance_reward(a, b, form="cosine") == pytest.approx(expected["R_ds_cosine_variant"], rel=1e-6)


def test_each_patch_keeps_l2_as_the_root_of_twice_the_cosine_distance(worked):
    inputs, expected = worked("patch_dreamsim_reward")
    for k, l2 in enumerate(expected["l2_per_patch"]):
        a, b = (np.array(inputs[n][k : k + 1], float) for n in ("emb_pred_raw", "emb_target_raw"))
        assert -patch_distance_reward(a, b) == pytest.approx(l2, rel=1e-6, abs=1e-9)
        assert (-2 * patch_distance_reward(a, b, form="cosine")) ** 0.5 == pytest.approx(l2, rel=1e-6, abs=1e-7)


def test_an_unknown_distance_form_is_refused():
    with pytest.raises(ConfigError, match="l1"):
        patch_distance_reward(np.ones((1, 2)), np.ones((1, 2)), form="l1")


def test_total_reward_is_the_papers_equation_8(worked):
    inputs, expected = worked("omnirefiner_total_reward")
    totals = [omnirefiner_total_reward(inputs["R_ds"], inputs["R_mm"], lam=lam) for lam in inputs["lambdas"]]
    assert totals == pytest.approx(expected["R"], rel=1e-6)


@pytest.mark.parametrize("patch", [512, 8, 5])
def test_toy_perceptual_is_about_0_for_the_target_and_falls_with_the_error(example, outputs, patch):
    scores = ToyPerceptual(PerceptualOptions(patch=patch)).score(outputs, [example] * 16)
    assert scores[0] == pytest.approx(0, abs=1e-6)
    assert (np.diff(scores) < 0).all() and scores[-1] < -0.1


def test_toy_perceptual_sees_nothing_outside_the_region(example, outputs):
    reward, changed = ToyPerceptual(PerceptualOptions()), np.where(example.mask > 0, outputs, np.float32(0))
    assert reward.score(changed, [example] * 16).tobytes() == reward.score(outputs, [example] * 16).tobytes()


def test_toy_perceptual_is_the_mean_of_its_patches(example, outputs):
    reward = ToyPerceptual(PerceptualOptions(patch=6, min_side=4))
    quarters = [box_mask((x, y, x + 6, y + 6), height=24, width=24) for y in (8, 14) for x in (4, 10)]
    parts = [reward.score(outputs, [replace(example, mask=mask)] * 16) for mask in quarters]
    assert reward.score(outputs, [example] * 16) == pytest.approx(np.mean(parts, axis=0), abs=1e-6)


def test_toy_perceptual_is_missing_without_a_target(example, outputs):
    scores = ToyPerceptual(PerceptualOptions()).score(outputs[:2], [example, replace(example, target=None)])
    assert np.isfinite(scores).tolist() == [True, False]
