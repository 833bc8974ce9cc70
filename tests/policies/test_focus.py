"""Training sees the view that the refiner makes."""

from dataclasses import replace

import numpy as np
import pytest

from burnish.data.masks import mask_bbox
from burnish.data.records import Reference, SamplerSpec
from burnish.policies.focus import FocusConfig, FocusedSource, focus_box, focused
from burnish.policies.pieces import RefinerConfig, least_margin
from burnish.policies.refiner import Refiner


class Watched:
    """A policy that keeps the views it encodes."""

    def __init__(self, policy):
        self._policy, self.seen = policy, []

    def __getattr__(self, name):
        return getattr(self._policy, name)

    def encode(self, example):
        self.seen.append(example)
        return self._policy.encode(example)


@pytest.fixture
def wide(example):
    """An example of 60 x 90 pixels with a region in its middle and references of another size."""
    one = example(size=90)
    cut = {name: getattr(one, name)[:, :60] for name in ("image", "mask", "target")}
    mask = np.zeros_like(cut["mask"])
    mask[:, 20:41, 30:55] = 1.0
    return replace(one, **cut | {"mask": mask}, references=(Reference("detail", one.target[:, :33, :47].copy()),))


class Only:
    """A source of one example."""

    name = "only"

    def __init__(self, example):
        self._example = example

    def example(self, split, index):
        return self._example


@pytest.mark.parametrize("margin", [2.0, 0.1])
def test_the_view_is_what_the_refiner_encodes(policy, wide, margin):
    watched, config = Watched(policy), RefinerConfig(margin=margin)
    Refiner(watched, SamplerSpec("ode", 1), config).refine(wide)
    view = FocusedSource(Only(wide), config, min_margin=least_margin(config)).example("dev", 0)
    np.testing.assert_array_equal(view.image, watched.seen[0].image)
    np.testing.assert_array_equal(view.mask, watched.seen[0].mask)
    np.testing.assert_array_equal(view.references[0].image, watched.seen[0].references[0].image)


def test_target_and_box_follow_the_image(wide):
    view = focused(wide, FocusConfig())
    assert view.image.shape == view.target.shape == (3, *view.mask.shape[1:]) and view.image[0].size <= 640
    assert view.meta["box"] == ",".join(map(str, mask_bbox(view.mask)))
    same = focused(replace(wide, target=wide.image), FocusConfig())
    np.testing.assert_array_equal(same.image, same.target)


def test_a_crop_that_fits_is_cut_bit_for_bit(wide):
    config = FocusConfig(margin=2.0, margin_frame="pixels", area=25 * 29, multiple=1)
    x1, y1, x2, y2 = focus_box(mask_bbox(wide.mask), config, height=60, width=90)
    assert (x2 - x1, y2 - y1) == (29, 25)
    np.testing.assert_array_equal(focused(wide, config).image, wide.image[:, y1:y2, x1:x2])


def test_without_a_mask_the_frame_is_taken_whole(wide):
    view = focused(replace(wide, mask=None), FocusConfig(area=60 * 90, multiple=1))
    np.testing.assert_array_equal(view.image, wide.image)
    assert view.mask is None and "box" not in view.meta


def test_a_whole_frame_is_fitted_with_its_references_and_what_fits_is_left_alone(wide):
    config = FocusConfig(area=32 * 32, multiple=16, reference_area=16 * 16)
    view = FocusedSource(Only(wide), config, whole=True).example("train", 0)
    assert view.image.shape == view.target.shape == (3, 32, 32) and view.mask.shape == (1, 32, 32)
    assert view.references[0].image.shape == (3, 16, 16)
    assert view.meta["box"] == ",".join(map(str, mask_bbox(view.mask)))
    assert FocusedSource(Only(view), config, whole=True).example("train", 0) is view
