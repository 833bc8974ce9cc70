"""Strokes stay in the object, within their bounds, and say the same for the same key."""

import numpy as np
import pytest

from burnish.data.degrade import DEGRADATIONS, bounded, defect
from burnish.data.layout import DataConfig, SourceConfig
from burnish.data.masks import mask_bbox
from burnish.data.scribbles import AREA, object_mask, otsu_threshold, scribble_mask
from burnish.data.seeding import generator
from burnish.data.sources import make_source


def disc(side, radius):
    rows, columns = np.mgrid[0:side, 0:side] - side / 2 + 0.5
    return (rows**2 + columns**2 <= radius**2).astype(np.float32)[None]


@pytest.mark.parametrize("side", [12, 24, 64])
def test_strokes_cover_2_to_40_percent_of_the_object_and_nothing_beside_it(side):
    thing = disc(side, side * 0.4)
    for number in range(40):
        mask = scribble_mask(thing, generator(0, "test-scribble", side, number))
        assert set(np.unique(mask)) == {0.0, 1.0} and not (mask > thing).any()
        assert AREA[0] * thing.sum() <= mask.sum() <= AREA[1] * thing.sum()


def test_strokes_are_a_function_of_their_key_and_differ_between_keys():
    thing = np.ones((1, 32, 32), np.float32)
    drawn = [scribble_mask(thing, generator(0, "test", n)).tobytes() for n in (1, 1, 2, 3)]
    assert drawn[0] == drawn[1] and len(set(drawn)) == 3


def test_a_single_pixel_can_be_painted_over():
    thing = np.zeros((1, 16, 16), np.float32)
    thing[0, 3, 5] = 1
    assert np.array_equal(scribble_mask(thing, generator(0, "test", 0)), thing)


@pytest.mark.parametrize("bright", [True, False])
def test_the_object_is_the_part_that_touches_the_border_less(bright):
    inside = disc(32, 9)
    crop = np.repeat(0.2 + 0.6 * (inside if bright else 1 - inside), 3, axis=0).astype(np.float32)
    found = object_mask(crop)
    assert found[inside > 0].mean() > 0.95 and found[disc(32, 13) == 0].sum() == 0


def test_a_flat_crop_is_all_object_and_the_threshold_parts_two_levels():
    assert object_mask(np.full((3, 16, 16), 0.5, np.float32)).all()
    assert 0.2 < otsu_threshold(np.array([0.2] * 50 + [0.8] * 50)) < 0.8


@pytest.mark.parametrize("kind", ["text", "logo", "texture", "photo"])
def test_sources_damage_the_strokes_visibly_and_nothing_else(kind):
    config = DataConfig(sources=(SourceConfig(kind=kind),), masks="scribble", image_size=32, box_size=16, box="free")
    source = make_source(config)
    for index in range(0, 24):
        example = source.example("train", index)
        x1, y1, x2, y2 = map(int, example.meta["box"].split(","))
        left, top, right, bottom = mask_bbox(example.mask)
        assert x1 <= left and y1 <= top and right <= x2 and bottom <= y2
        assert np.array_equal(example.image * (1 - example.mask), example.target * (1 - example.mask))
        assert defect(example.target, example.image, example.mask) >= config.min_defect
        assert example.mask.sum() <= AREA[1] * (x2 - x1) * (y2 - y1)


def test_scribbles_change_the_mask_and_the_defect_but_no_target_and_no_reference():
    config = DataConfig(sources=(SourceConfig(kind="logo"),))
    plain, strokes = (
        make_source(config.model_copy(update={"masks": m})).example("dev", 3) for m in ("box", "scribble")
    )
    assert np.array_equal(plain.target, strokes.target) and plain.id == strokes.id
    assert plain.mask.sum() > strokes.mask.sum() > 0


@pytest.mark.parametrize("name", sorted(DEGRADATIONS))
def test_a_defect_beyond_the_ceiling_is_faded_until_it_is_within(name):
    clean = np.clip(generator(0, "test", name).random((3, 24, 24), dtype=np.float32), 0, 1)
    inside = disc(24, 8)
    faded = bounded(clean, np.where(inside > 0, 1 - clean, clean), inside, ceiling=0.01)
    assert 0.005 < defect(clean, faded, inside) <= 0.01
    assert bounded(clean, faded, inside, ceiling=0.01) is faded
