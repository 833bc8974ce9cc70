from dataclasses import replace

import numpy as np
import pytest

from burnish.rewards.pixels import BandOptions, BoundaryBand, MaskedPixel, NoOptions, OutsidePreservation, masked_mse


def test_masked_mse_is_the_papers_with_the_mean_over_channels(worked):
    inputs, expected = worked("masked_mse_reward")
    pred, target = (np.moveaxis(np.array(inputs[k]), -1, 0) for k in ("pred", "target"))
    value = -masked_mse(pred, target, mask=np.array(inputs["omega"])[None])
    assert value == pytest.approx(expected["mean_over_channels"], rel=1e-6)
    assert 3 * value == pytest.approx(expected["sum_over_channels"], rel=1e-6)


def test_masked_pixel_is_zero_for_the_target_and_falls_with_the_error(example, outputs):
    scores = MaskedPixel(NoOptions()).score(outputs, [example] * 16)
    assert scores.dtype == np.float32 and scores[0] == 0
    assert (np.diff(scores) < 0).all() and (scores >= -1).all()


def test_masked_pixel_sees_nothing_outside_the_mask(example, outputs):
    changed = np.where(example.mask > 0, outputs, np.float32(0))
    reward = MaskedPixel(NoOptions())
    assert reward.score(changed, [example] * 16).tobytes() == reward.score(outputs, [example] * 16).tobytes()


def test_masked_pixel_takes_the_whole_frame_without_a_mask(example, outputs):
    score = MaskedPixel(NoOptions()).score(outputs[5:6], [replace(example, mask=None)])
    assert score[0] == pytest.approx(-np.square(outputs[5] - example.target).mean(), rel=1e-5)


def test_masked_pixel_is_missing_without_target_or_region(example, outputs):
    cases = [replace(example, target=None), replace(example, mask=np.zeros_like(example.mask))]
    assert np.isnan(MaskedPixel(NoOptions()).score(outputs[:2], cases)).all()


def test_outside_preservation_counts_changes_of_the_input_outside_only(example):
    kept, spoilt = example.image.copy(), example.image.copy()
    kept[:, 8:20, 4:16] = 0
    spoilt[:, :8] += 0.1
    scores = OutsidePreservation(NoOptions()).score(np.stack([kept, spoilt]), [example] * 2)
    assert scores[0] == 0 and scores[1] == pytest.approx(-0.01 * 8 * 24 / (24 * 24 - 144), rel=1e-4)


def test_outside_preservation_is_missing_without_an_outside_or_an_input(example, outputs):
    cases = [
        replace(example, image=None),
        replace(example, mask=None),
        replace(example, mask=np.ones_like(example.mask)),
    ]
    assert np.isnan(OutsidePreservation(NoOptions()).score(outputs[:3], cases)).all()


def test_boundary_band_looks_at_the_edge_only(example):
    deep, edge = example.target.copy(), example.target.copy()
    deep[:, 13:15, 9:11] += 0.5
    edge[:, 8, 4] += 0.5
    scores = BoundaryBand(BandOptions(r_out=3, r_in=3)).score(np.stack([deep, edge]), [example] * 2)
    assert scores[0] == 0 and scores[1] < 0


def test_boundary_band_compares_with_the_input_where_there_is_no_target(example):
    reward = BoundaryBand(BandOptions(r_out=3, r_in=3))
    scores = reward.score(np.stack([example.image, example.target]), [replace(example, target=None)] * 2)
    assert scores[0] == 0 and scores[1] < 0


def test_boundary_band_is_missing_without_a_band(example, outputs):
    cases = [
        replace(example, mask=None),
        replace(example, mask=np.zeros_like(example.mask)),
        replace(example, mask=np.ones_like(example.mask)),
        replace(example, image=None, target=None),
    ]
    assert np.isnan(BoundaryBand(BandOptions()).score(outputs[:4], cases)).all()
