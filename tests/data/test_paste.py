import numpy as np
import pytest

from burnish.data.errors import DataError
from burnish.data.images import from_uint8, to_uint8
from burnish.data.masks import blend_mask, box_mask
from burnish.data.paste import alpha_uint8, paste_back
from burnish.data.seeding import generator


def picture(*parts, size=(3, 40, 48)):
    return generator(0, "test-paste", *parts).random(size, dtype=np.float32)


def test_composite_equals_the_worked_example(worked):
    inputs, expected = worked("blended_mask_paste_back_1d")
    low, high = inputs["mask_range"]
    mask = box_mask((low, 0, high, 60), height=60, width=inputs["length"])
    np.testing.assert_allclose(blend_mask(mask)[0, 30], expected["alpha"], atol=1e-9)
    before, after = (from_uint8(np.full((3, 60, 40), inputs[name], np.uint8)) for name in ("original", "generated"))
    result = paste_back(before, after, mask)
    assert to_uint8(result)[0, 30].tolist() == expected["composite_uint8"]
    unchanged = (result == before)[0, 30]
    assert unchanged[: expected["identical_below"]].all()
    assert unchanged[expected["identical_from"] :].all()


@pytest.mark.parametrize("scale", [1.0, 50.0, 1e30])
@pytest.mark.parametrize("box", [(12, 10, 20, 18), (0, 0, 6, 6), (42, 33, 48, 40), (0, 0, 48, 40), (23, 19, 24, 20)])
def test_nothing_moves_where_alpha_is_zero_whatever_was_generated(box, scale):
    original, mask = picture("in"), box_mask(box, height=40, width=48)
    garbage = (picture("garbage", *box) - 0.5) * np.float32(scale)
    result = paste_back(original, garbage, mask)
    still = np.broadcast_to(alpha_uint8(mask) == 0, result.shape)
    assert result[still].tobytes() == original[still].tobytes()
    assert result.min() >= 0.0
    assert result.max() <= 1.0


def test_identity_model_changes_no_bit_even_off_the_8_bit_grid():
    original, mask = picture("in"), box_mask((10, 10, 20, 20), height=40, width=48)
    assert paste_back(original, original.copy(), mask).tobytes() == original.tobytes()
    assert paste_back(original, from_uint8(to_uint8(original)), mask).tobytes() == original.tobytes()


def test_pasting_a_crop_leaves_everything_outside_the_crop():
    original, mask, crop = picture("in"), box_mask((20, 18, 26, 24), height=40, width=48), (8, 6, 40, 36)
    result = paste_back(original, picture("gen", size=(3, 30, 32)), mask, box=crop)
    outside = box_mask(crop, height=40, width=48)[0] == 0
    assert (result[:, outside] == original[:, outside]).all()
    assert (result[:, 18:24, 20:26] != original[:, 18:24, 20:26]).any()


def test_crop_with_too_little_margin_is_refused():
    mask = box_mask((20, 18, 26, 24), height=40, width=48)
    with pytest.raises(DataError, match="larger crop margin"):
        paste_back(picture("in"), picture("gen", size=(3, 14, 14)), mask, box=(16, 14, 30, 28))


def test_crop_border_on_the_image_border_may_blend():
    mask = box_mask((0, 0, 6, 6), height=40, width=48)
    result = paste_back(picture("in"), picture("gen", size=(3, 20, 20)), mask, box=(0, 0, 20, 20))
    assert (result != picture("in"))[:, :3, :3].any()


def test_hard_paste_replaces_exactly_the_mask():
    original, mask = np.zeros((3, 16, 16), np.float32), box_mask((4, 4, 8, 8), height=16, width=16)
    result = paste_back(original, np.ones((3, 16, 16), np.float32), mask, dilate_size=1, blur_size=1)
    np.testing.assert_array_equal(result, np.broadcast_to(mask, (3, 16, 16)))


def test_wrong_sizes_and_nan_are_refused():
    original, mask = picture("in"), box_mask((10, 10, 20, 20), height=40, width=48)
    with pytest.raises(DataError, match="shape"):
        paste_back(original, original[:, 1:], mask)
    with pytest.raises(DataError, match="NaN"):
        paste_back(original, np.full_like(original, np.nan), mask)
