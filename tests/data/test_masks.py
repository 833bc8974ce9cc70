import numpy as np
import pytest

from burnish.data import masks
from burnish.data.errors import DataError
from burnish.data.seeding import generator


def test_bounding_box_is_tight_and_half_open(worked):
    inputs, expected = worked("mask_bbox")
    assert list(masks.mask_bbox(np.array(inputs["mask"]))) == expected["bbox"]


def test_bounding_box_of_a_stack_covers_all_layers():
    mask = np.zeros((2, 5, 6), np.float32)
    mask[0, 1, 2] = mask[1, 3, 4] = 1
    assert masks.mask_bbox(mask) == (2, 1, 5, 4)


def test_empty_mask_has_no_box():
    with pytest.raises(DataError, match="empty"):
        masks.mask_bbox(np.zeros((1, 4, 4), np.float32))


@pytest.mark.parametrize("name", ["boundary_band_k3", "boundary_band_k4"])
def test_boundary_band_equals_the_worked_examples(worked, name):
    inputs, expected = worked(name)
    band = masks.boundary_band(np.array(inputs["mask"]), r_out=inputs["r_out"], r_in=inputs["r_in"])
    assert band.tolist() == expected["band"]
    assert np.flatnonzero(band[6]).tolist() == expected["row6_indices"]


def test_boundary_band_of_the_paper_has_1440_pixels(worked):
    inputs, expected = worked("boundary_band_k16_square24")
    side = inputs["canvas"]
    mask = masks.box_mask(tuple(inputs["mask_box"]), height=side, width=side)
    band = masks.boundary_band(mask)
    assert band.sum() == expected["band_pixels"]
    assert np.flatnonzero(band[0, 32]).tolist() == expected["row32_indices"]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_band_of_an_empty_and_of_a_full_mask_is_empty(value):
    assert not masks.boundary_band(np.full((1, 20, 20), value, np.float32), r_out=4, r_in=5).any()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 16])
def test_dilation_and_erosion_equal_a_plain_loop(size):
    mask = (generator(0, "test-mask", size).random((9, 11)) > 0.6).astype(np.float32)
    wide, thin = masks.dilate(mask, size=size), masks.erode(mask, size=size)
    for y in range(9):
        for x in range(11):
            low_y, low_x = max(0, y - size // 2), max(0, x - size // 2)
            window = mask[low_y : y - size // 2 + size, low_x : x - size // 2 + size]
            assert (wide[y, x], thin[y, x]) == (window.max(), window.min())


def test_kernel_of_eleven_has_sigma_two(worked):
    inputs, expected = worked("gaussian_kernel_11")
    np.testing.assert_allclose(masks.gaussian_kernel(inputs["k"]), expected["kernel"], rtol=1e-6)
    np.testing.assert_allclose(masks.gaussian_kernel(11, sigma=expected["sigma"]), expected["kernel"], rtol=1e-6)


@pytest.mark.parametrize("size", [0, 4])
def test_even_blur_kernels_are_refused(size):
    with pytest.raises(DataError, match="odd"):
        masks.gaussian_kernel(size)


def test_kernel_without_size_is_refused():
    with pytest.raises(DataError, match=">= 1"):
        masks.dilate(np.ones((3, 3)), size=0)


def test_blend_mask_is_one_deep_inside_and_zero_beyond_its_reach():
    mask = masks.box_mask((30, 30, 60, 60), height=90, width=90)
    alpha = masks.blend_mask(mask)[0]
    reach = masks.blend_reach()
    assert reach == 8
    assert alpha[45, 45] == 1.0
    assert not alpha[: 30 - reach].any()
    assert not alpha[:, 60 + reach :].any()
    assert alpha.min() >= 0.0
    assert alpha.max() <= 1.0


def test_blend_mask_rises_monotonically_across_the_edge():
    alpha = masks.blend_mask(masks.box_mask((30, 30, 60, 60), height=90, width=90))[0, 45, :46]
    assert (np.diff(alpha) >= -1e-12).all()


def test_grid_holds_the_covered_share_or_the_maximum():
    mask = masks.box_mask((2, 0, 4, 4), height=8, width=8)
    assert masks.mask_to_grid(mask, patch=4).tolist() == [[[0.5, 0.0], [0.0, 0.0]]]
    assert masks.mask_to_grid(mask, patch=4, reduce="max").tolist() == [[[1.0, 0.0], [0.0, 0.0]]]


def test_grid_refuses_what_it_cannot_divide():
    with pytest.raises(DataError, match="multiple"):
        masks.mask_to_grid(np.ones((1, 9, 8)), patch=4)
    with pytest.raises(DataError, match="mean or max"):
        masks.mask_to_grid(np.ones((1, 8, 8)), patch=4, reduce="min")


def test_the_images_edge_is_no_edge_of_the_region():
    assert (masks.blend_mask(np.ones((1, 40, 30), np.float32)) == 1.0).all()
    corner = masks.blend_mask(masks.box_mask((0, 0, 20, 20), height=60, width=60))[0]
    assert (corner[:10, :10] == 1.0).all() and corner[-1, -1] == 0.0
