from dataclasses import replace

import numpy as np
import pytest

from burnish.data.images import from_uint8
from burnish.data.records import Example, Reference
from burnish.rewards.colour import (
    WEIGHTS,
    ColourLight,
    ColourLightOptions,
    grid_similarity,
    histogram_similarity,
    lab8,
    light_of,
    lighting_consistency,
    lighting_parts,
    make_light,
)
from burnish.rewards.vision import to_pil


@pytest.fixture(scope="module")
def reward():
    return ColourLight(ColourLightOptions(side=48))


def test_lighting_consistency_is_the_worked_example(worked):
    inputs, expected = worked("lighting_consistency")
    first, second = (make_light(np.array(inputs[f"gray_{x}"]), np.array(inputs[f"lab_mean_{x}"])) for x in "ab")
    parts = lighting_parts(first, second)
    assert parts == pytest.approx({name: expected[name] for name in WEIGHTS}, rel=1e-6)
    assert 100 * lighting_consistency(first, second) == pytest.approx(expected["total_0_100"], rel=1e-6)


def test_an_even_light_equals_an_even_one_only():
    even, black, ramp = np.full(9, 1 / 9), np.zeros(9), np.arange(9) / 36
    assert [grid_similarity(even, even), grid_similarity(even, black), grid_similarity(even, ramp)] == [1, 1, 0]
    assert grid_similarity(ramp, ramp) == 1 and grid_similarity(ramp, ramp[::-1]) == pytest.approx(0)


def test_histograms_without_a_common_bin_share_nothing():
    first, second = np.eye(64)[[0, 63]]
    assert histogram_similarity(first, second) == 0 and histogram_similarity(first, first) == 1


def test_pixels_that_the_grids_cells_leave_over_are_not_in_it():
    grey = np.ones((8, 7))
    grey[6:], grey[:, 6:] = 200, 200
    assert make_light(grey, np.zeros(3)).grid == pytest.approx(1 / 9)


def test_lab_has_opencvs_8_bit_values():
    known = {(0, 0, 0): (0, 128, 128), (255, 255, 255): (255, 128, 128), (255, 0, 0): (136, 208, 195)}
    known |= {(0, 255, 0): (224, 42, 211), (0, 0, 255): (82, 207, 20), (128, 128, 128): (137, 128, 128)}
    assert lab8(np.array([list(known)], np.uint8))[0].tolist() == [list(values) for values in known.values()]


def test_colour_light_is_1_for_the_target_and_falls_with_the_change(reward, example, outputs):
    scores = reward.score(outputs, [example] * 16)
    darker = reward.score(outputs[:1] * np.float32(0.5), [example])
    assert scores.dtype == np.float32 and scores[0] == 1 and (scores[1:] < 1).all() and (scores >= 0).all()
    assert scores[-1] < scores[1] and darker[0] < scores[-1]


def test_colour_light_is_the_consistency_of_the_two_boxes(reward, example, outputs):
    ours, theirs = (light_of(to_pil(image[:, 8:20, 4:16]), side=48) for image in (outputs[9], example.target))
    found = reward.score(outputs[9:10], [example])[0]
    assert found == pytest.approx(lighting_consistency(ours, theirs), rel=1e-6)


def test_colour_light_sees_nothing_outside_the_region(reward, example, outputs):
    changed = np.where(example.mask > 0, outputs, np.float32(0))
    assert reward.score(changed, [example] * 16).tobytes() == reward.score(outputs, [example] * 16).tobytes()


def test_colour_light_compares_with_a_lighting_reference_if_told_so(example, outputs):
    reward = ColourLight(ColourLightOptions(against="reference", side=48))
    lit = replace(example, references=(Reference("lighting", outputs[7][:, 8:20, 4:16]),), target=None)
    scores = reward.score(outputs[5:10], [lit] * 5)
    assert scores[2] == scores.max() == 1
    assert np.isnan(reward.score(outputs[:1], [example])).all()


def test_colour_light_is_missing_without_target_region_or_finite_pixels(reward, example, outputs):
    broken = outputs[:4].copy()
    broken[2] = np.nan
    cases = [replace(example, target=None), replace(example, mask=np.zeros_like(example.mask)), example, example]
    assert np.isnan(reward.score(broken, cases)).tolist() == [True, True, True, False]


def test_colour_light_takes_regions_and_images_of_one_pixel_and_none_at_all(reward, example, outputs):
    mask = np.zeros_like(example.mask)
    mask[0, 23, 0] = 1
    for changed in (mask, None):
        assert reward.score(outputs[:2], [replace(example, mask=changed)] * 2)[0] == 1
    red, grey = (from_uint8(np.array(c, np.uint8)[:, None, None]) for c in ((255, 0, 0), (128, 128, 128)))
    dot = Example("dot", "", None, None, (), grey)
    assert reward.score(np.stack([grey, red]), [dot] * 2) == pytest.approx([1, 0.2 * (1 - 1 / 50) + 0.15 + 0.25])


def test_a_target_is_looked_at_once(example, outputs):
    reward = ColourLight(ColourLightOptions(side=48))
    for _ in range(2):
        reward.score(outputs, [replace(example, target=example.target.copy())] * 16)
    assert reward.take_counters() == {"embedded": 1, "cache_hits": 1}
