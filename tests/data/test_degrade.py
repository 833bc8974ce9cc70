import numpy as np
import pytest

from burnish.data.crops import cut
from burnish.data.degrade import DEGRADATIONS, degrade, degrade_crop, visible
from burnish.data.errors import DataError
from burnish.data.filters import snap
from burnish.data.layout import DataConfig
from burnish.data.masks import box_mask
from burnish.data.seeding import generator
from burnish.data.synthetic import DrawnSource

BOX = (4, 4, 16, 16)


def clean(index=0):
    return DrawnSource("logo", DataConfig()).example("train", index).target


@pytest.mark.parametrize("name", sorted(DEGRADATIONS))
def test_nothing_outside_the_box_changes_and_the_inside_does(name):
    outside = box_mask(BOX, height=24, width=24)[0] == 0
    for index in range(20):
        target = clean(index)
        image = degrade(target, BOX, name, generator(0, "t", index))
        assert image[:, outside].tobytes() == target[:, outside].tobytes()
        assert visible(cut(target, BOX), cut(image, BOX), 0.002)


@pytest.mark.parametrize("name", sorted(DEGRADATIONS))
def test_defects_are_deterministic_bounded_and_on_the_8_bit_grid(name):
    first, again = (degrade(clean(), BOX, name, generator(3, "t")) for _ in range(2))
    assert first.tobytes() == again.tobytes()
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, snap(first))


@pytest.mark.parametrize("name", sorted(DEGRADATIONS))
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_even_a_flat_crop_ends_up_visibly_damaged(name, level):
    crop = np.full((3, 12, 12), level, np.float32)
    assert visible(crop, degrade_crop(crop, name, generator(0, "flat")), 0.002)


@pytest.mark.parametrize("name", sorted(DEGRADATIONS))
@pytest.mark.parametrize("shape", [(8, 8), (40, 24), (64, 64)])
def test_every_defect_takes_other_sizes(name, shape):
    crop = generator(0, "size").random((3, *shape), dtype=np.float32)
    assert degrade_crop(crop, name, generator(0, "t")).shape == crop.shape


def test_another_key_draws_another_defect():
    assert (
        degrade(clean(), BOX, "warp", generator(0, "a")).tobytes()
        != degrade(clean(), BOX, "warp", generator(0, "b")).tobytes()
    )


def test_unknown_defects_and_unreachable_floors_are_refused():
    with pytest.raises(DataError, match="degradation"):
        degrade(clean(), BOX, "melt", generator(0, "t"))
    with pytest.raises(DataError, match="floor"):
        degrade(clean(), BOX, "blur", generator(0, "t"), floor=2.0)
