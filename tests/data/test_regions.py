"""Regions as boxes with small masks, and which of them are one."""

import itertools

import numpy as np
import pytest

from burnish.data.errors import DataError
from burnish.data.masks import blend_mask, blend_reach
from burnish.data.regions import Region, join_regions, region_of
from burnish.data.seeding import generator

FRAME = (0, 0, 90, 70)


def boxes(seed, count=6):
    rng = generator(seed, "test-regions")
    corners = [(int(rng.integers(0, 80)), int(rng.integers(0, 60))) for _ in range(count)]
    return [Region((x, y, x + int(rng.integers(1, 10)), y + int(rng.integers(1, 10)))) for x, y in corners]


def test_a_region_of_a_mask_paints_that_mask_again():
    mask = (generator(0, "test-regions-mask").random((1, 40, 50)) > 0.97).astype(np.float32)
    region = region_of(mask)
    np.testing.assert_array_equal(region.within((0, 0, 50, 40)), mask)
    x1, y1, x2, y2 = region.box
    np.testing.assert_array_equal(region.within(region.box), mask[:, y1:y2, x1:x2])


def test_a_box_is_painted_whole_and_an_empty_mask_is_refused():
    assert Region((3, 2, 7, 5)).within((1, 1, 9, 9)).sum() == 4 * 3
    with pytest.raises(DataError, match="empty"):
        region_of(np.zeros((1, 8, 8), np.float32))


@pytest.mark.parametrize("seed", range(40))
def test_joined_regions_cover_the_same_pixels_and_their_blend_masks_never_meet(seed):
    given, reach = boxes(seed), blend_reach()
    joined = join_regions(given, reach=reach)
    painted, again = (np.maximum.reduce([r.within(FRAME) for r in part]) for part in (given, joined))
    np.testing.assert_array_equal(painted, again)
    alphas = [blend_mask(region.within(FRAME)) > 0 for region in joined]
    assert not any((a & b).any() for a, b in itertools.combinations(alphas, 2))


@pytest.mark.parametrize("seed", range(10))
def test_the_order_of_regions_changes_only_the_order_of_what_is_joined(seed):
    given = boxes(seed)
    forth, back = (join_regions(part, reach=8) for part in (given, given[::-1]))
    assert {region.box for region in forth} == {region.box for region in back}


def test_a_chain_is_one_region_and_stands_where_its_first_stood():
    far, first, last, middle = ((70, 60, 75, 65), (0, 0, 10, 10), (40, 0, 50, 10), (20, 0, 30, 10))
    joined = join_regions([Region(box) for box in (first, far, last, middle)], reach=8)
    assert [region.box for region in joined] == [(0, 0, 50, 10), far]
