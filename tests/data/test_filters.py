import numpy as np
import pytest

from burnish.data import filters
from burnish.data.seeding import generator


def picture():
    return generator(0, "test-filters").random((3, 12, 15), dtype=np.float32)


def test_snap_is_idempotent_and_bounded():
    once = filters.snap(3 * picture() - 1)
    np.testing.assert_array_equal(filters.snap(once), once)
    assert once.dtype == np.float32
    assert (once.min(), once.max()) == (0.0, 1.0)


def test_blur_keeps_a_flat_image_and_lowers_contrast():
    np.testing.assert_allclose(filters.gaussian_blur(np.full((3, 9, 9), 0.3, np.float32), sigma=2.0), 0.3, atol=1e-6)
    assert filters.contrast(filters.gaussian_blur(picture(), sigma=1.5)) < 0.5 * filters.contrast(picture())


def test_luminance_weights_sum_to_one():
    np.testing.assert_allclose(filters.luminance(np.full((3, 2, 2), 0.7, np.float32)), 0.7, rtol=1e-6)


def test_sampling_at_pixel_centres_gives_the_image():
    rows, columns = np.mgrid[0.0:12, 0.0:15]
    np.testing.assert_array_equal(filters.sample(picture(), rows=rows, columns=columns), picture())


def test_sampling_between_pixels_is_bilinear_and_repeats_edges():
    image = np.arange(4, dtype=np.float32).reshape(1, 2, 2)
    found = filters.sample(image, rows=np.array([[0.5, -3.0]]), columns=np.array([[0.5, 9.0]]))
    assert found.tolist() == [[[1.5, 1.0]]]


@pytest.mark.parametrize("strength", [0.0, 0.12])
def test_perspective_moves_only_with_strength(strength):
    moved = filters.perspective(picture(), generator(0, "p"), strength=strength)
    assert moved.shape == picture().shape
    assert np.allclose(moved, picture(), atol=1e-6) == (strength == 0.0)
