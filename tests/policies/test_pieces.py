"""Focus-and-Refine round the model: invariants of the crop, the blend and the paste for any picture and any output."""

from dataclasses import replace

import numpy as np
import pytest

from burnish.data.errors import DataError
from burnish.data.images import resize
from burnish.data.masks import blend_reach
from burnish.data.paste import alpha_uint8
from burnish.data.records import Example, SamplerSpec
from burnish.data.regions import Region
from burnish.data.seeding import generator
from burnish.policies.focus import FocusConfig
from burnish.policies.pieces import Focus, RefinerConfig
from burnish.policies.refiner import Refiner

FRAMES = [("box", 0.5), ("pixels", 3.0), ("area1024", 64.0), ("pixels", 0.0)]


def scene(seed):
    """A picture of any size and aspect, and a region anywhere in it, corners and borders included."""
    rng = generator(seed, "test-pieces")
    height, width = (int(n) for n in rng.integers(16, 140, 2))
    x1, y1 = int(rng.integers(0, width)) * (seed % 3 > 0), int(rng.integers(0, height)) * (seed % 2)
    x2, y2 = int(rng.integers(x1 + 1, width + 1)), int(rng.integers(y1 + 1, height + 1))
    image = rng.random((3, height, width), dtype=np.float32)
    mask = np.zeros((1, height, width), np.float32)
    mask[:, y1:y2, x1:x2] = rng.random((1, y2 - y1, x2 - x1)) > 0.5
    mask[:, y1, x1] = 1
    return Example("a", "x", image, mask)


@pytest.mark.parametrize("seed", range(24))
def test_noise_from_the_model_moves_no_pixel_outside_the_blended_mask(seed):
    example = scene(seed)
    frame, margin = FRAMES[seed % 4]
    focus = Focus(RefinerConfig(margin=margin, margin_frame=frame))
    pieces = focus.cut_out(example)
    garbage = [generator(seed, "garbage").normal(0, 9, p.view.image.shape).astype(np.float32) for p in pieces]
    out = focus.paste(example.image, pieces, garbage)
    still = alpha_uint8(example.mask)[0] == 0
    assert out[:, still].tobytes() == example.image[:, still].tobytes()
    assert out.shape == example.image.shape and out.min() >= 0 and out.max() <= 1


@pytest.mark.parametrize("seed", range(12))
def test_a_crop_holds_its_box_with_room_for_the_blend_and_lies_inside(seed):
    example = scene(seed)
    height, width = example.image.shape[1:]
    frame, margin = FRAMES[seed % 4]
    ((x1, y1, x2, y2),) = [p.crop for p in Focus(RefinerConfig(margin=margin, margin_frame=frame)).cut_out(example)]
    ys, xs = np.nonzero(example.mask[0])
    reach = blend_reach()
    assert max(0, xs.min() - reach) >= x1 >= 0 and min(width, xs.max() + 1 + reach) <= x2 <= width
    assert max(0, ys.min() - reach) >= y1 >= 0 and min(height, ys.max() + 1 + reach) <= y2 <= height


@pytest.mark.parametrize("seed", range(8))
def test_a_model_that_changes_nothing_changes_no_bit(seed):
    example = scene(seed)
    focus = Focus(RefinerConfig())
    pieces = focus.cut_out(example)
    same = [example.image[:, p.crop[1] : p.crop[3], p.crop[0] : p.crop[2]] for p in pieces]
    assert focus.paste(example.image, pieces, same).tobytes() == example.image.tobytes()


def test_a_full_mask_is_the_whole_image_and_so_is_none():
    example = scene(1)
    height, width = example.image.shape[1:]
    whole = replace(example, mask=np.ones_like(example.mask))
    for one in (whole, replace(example, mask=None)):
        (piece,) = Focus(RefinerConfig()).cut_out(one)
        assert piece.crop == piece.region.box == (0, 0, width, height)


def test_the_view_has_the_models_size_and_no_target():
    example = replace(scene(5), target=scene(5).image)
    (piece,) = Focus(RefinerConfig(area=576, multiple=8)).cut_out(example)
    height, width = piece.view.image.shape[1:]
    assert height % 8 == width % 8 == 0 and 300 < height * width < 1200
    assert piece.view.target is None and piece.view.mask.shape == (1, height, width) and piece.view.mask.any()


def test_pieces_of_one_picture_have_keys_of_their_own():
    example = replace(scene(3), image=np.zeros((3, 100, 160), np.float32), mask=None)
    regions = [Region((0, 0, 10, 10)), Region((60, 60, 70, 70)), Region((120, 10, 130, 20))]
    pieces = Focus(RefinerConfig()).cut_out(example, regions)
    assert [piece.view.id for piece in pieces] == ["a", "a#1", "a#2"]


def test_what_was_made_is_scaled_to_the_crop_before_it_is_pasted():
    example = replace(scene(2), image=np.zeros((3, 64, 64), np.float32), mask=None)
    focus = Focus(RefinerConfig(dilate_size=1, blur_size=1))
    (piece,) = focus.cut_out(example)
    made = generator(0, "small").random((3, 16, 16), dtype=np.float32)
    out = focus.paste(example.image, (piece,), [made])
    np.testing.assert_allclose(out, resize(made, height=64, width=64), atol=1 / 255)


def test_the_refiner_with_regions_is_the_refiner_with_each_of_them(policy, example):
    one = replace(example(size=90), mask=None, target=None)
    boxes = [Region((4, 4, 14, 14)), Region((60, 60, 75, 70))]
    refiner = Refiner(policy, SamplerSpec("ode", 2))
    both, first = refiner.refine(one, regions=boxes), refiner.refine(one, regions=boxes[:1])
    np.testing.assert_array_equal(both[:, :40, :40], first[:, :40, :40])
    np.testing.assert_array_equal(first[:, 40:], one.image[:, 40:])
    assert (both[:, 40:, 40:] != one.image[:, 40:, 40:]).any()


def test_a_generated_example_is_refused_and_the_configs_share_their_fields():
    with pytest.raises(DataError, match="no image"):
        Focus(RefinerConfig()).cut_out(replace(scene(0), image=None, mask=None))
    assert set(FocusConfig.model_fields) < set(RefinerConfig.model_fields)
