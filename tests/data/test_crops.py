import numpy as np
import pytest

from burnish.data.crops import check_box, cut, focus_crop, focus_scale, model_size, put
from burnish.data.errors import DataError
from burnish.data.seeding import generator

NAMES = ["focus_crop_2048x1536", "focus_crop_1024x1024", "focus_crop_640x480", "focus_crop_1920x1080"]


@pytest.mark.parametrize("name", NAMES)
def test_focus_crop_equals_the_worked_examples(worked, name):
    inputs, expected = worked(name)
    width, height = inputs["image_wh"]
    crop = focus_crop(tuple(inputs["bbox"]), height=height, width=width, margin=inputs["margin"])
    assert list(crop) == expected["crop"]
    assert focus_scale(height=height, width=width) == pytest.approx(expected["scale"], rel=1e-6)


def test_pixel_margin_counts_source_pixels():
    assert focus_crop((100, 100, 120, 130), height=400, width=300, margin=10, margin_frame="pixels") == (
        90,
        90,
        130,
        140,
    )


def test_least_margin_widens_a_crop_of_a_small_image():
    narrow = focus_crop((8, 8, 16, 16), height=24, width=24)
    assert narrow == (6, 6, 18, 18)
    assert focus_crop((8, 8, 16, 16), height=24, width=24, min_margin=5) == (3, 3, 21, 21)


def test_crop_holds_the_box_and_stays_inside_for_random_boxes():
    rng = generator(0, "test-crops")
    for _ in range(300):
        height, width = (int(n) for n in rng.integers(16, 3000, size=2))
        x1, y1 = int(rng.integers(width)), int(rng.integers(height))
        x2, y2 = int(rng.integers(x1 + 1, width + 1)), int(rng.integers(y1 + 1, height + 1))
        a, b, c, d = focus_crop((x1, y1, x2, y2), height=height, width=width)
        assert 0 <= a <= x1 < x2 <= c <= width
        assert 0 <= b <= y1 < y2 <= d <= height


def test_full_mask_gives_the_whole_image():
    assert focus_crop((0, 0, 50, 40), height=40, width=50) == (0, 0, 50, 40)


@pytest.mark.parametrize("box", [(0, 0, 0, 4), (3, 0, 2, 4), (-1, 0, 4, 4), (0, 0, 11, 4), (0, 0, 4, 9)])
def test_boxes_that_are_empty_or_leave_the_image_are_refused(box):
    with pytest.raises(DataError, match="box: got"):
        check_box(box, height=8, width=10)


def test_cut_and_put_are_inverse_and_touch_nothing_else():
    image = generator(0, "test-cut").random((3, 10, 12), dtype=np.float32)
    box = (2, 3, 7, 9)
    np.testing.assert_array_equal(put(image, cut(image, box), box), image)
    changed = put(image, np.zeros((3, 6, 5), np.float32), box) != image
    assert changed.sum() == 3 * 6 * 5
    assert changed[:, 3:9, 2:7].all()


def test_model_size_keeps_the_area_and_the_multiple():
    assert model_size(height=500, width=500, area=1024 * 1024, multiple=32) == (1024, 1024)
    height, width = model_size(height=300, width=900, area=1024 * 1024, multiple=32)
    assert height % 32 == width % 32 == 0
    assert height * width == pytest.approx(1024 * 1024, rel=0.05)
