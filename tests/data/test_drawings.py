import numpy as np
import pytest

from burnish.data import drawings
from burnish.data.filters import contrast
from burnish.data.seeding import generator


@pytest.mark.parametrize("shape", drawings.LOGO_SHAPES)
@pytest.mark.parametrize("points", [3, 4, 5, 6, 7])
def test_every_logo_shape_has_both_colours(shape, points):
    logo = drawings.Logo(shape, points, 1, 5, "K")
    colours, coverage = drawings.draw_logo(logo, 12, font="sans-bold")
    assert colours.shape == (3, 12, 12)
    assert coverage.shape == (12, 12)
    assert contrast(colours) > 0.01
    assert colours.min() >= 0.0
    assert colours.max() <= 1.0


@pytest.mark.parametrize("kind", drawings.TEXTURE_KINDS)
def test_textures_are_full_of_detail_at_every_number(kind):
    for number in range(0, 2592, 37):
        assert contrast(drawings.draw_texture(drawings.Texture(kind, number), 12)) > 0.02


def test_a_star_has_less_area_than_the_polygon_with_its_tips():
    star, polygon = (
        drawings.soft(drawings._logo_distance(drawings.Logo(shape, 5, 0, 0, "A"), 64), 64).sum()
        for shape in ("star", "polygon")
    )
    assert 0.2 < star / polygon < 0.8


def test_a_regular_polygon_has_its_area():
    cover = drawings.soft(drawings._logo_distance(drawings.Logo("polygon", 6, 0, 0, "A"), 256), 256)
    assert cover.sum() * (2 / 256) ** 2 == pytest.approx(0.5 * 6 * 0.85**2 * np.sin(2 * np.pi / 6), rel=0.02)


def test_plates_show_their_text():
    one, two = (drawings.draw_plate(text, 12, font="sans", hue=3) for text in ("A7", "A1"))
    assert (one != two).any()
    np.testing.assert_array_equal(one[:, 0], two[:, 0])


def test_paint_is_a_contrasting_pair():
    for hue in np.linspace(0, 1, 25):
        for dark in (False, True):
            colours = drawings.paint(float(hue), dark)
            assert np.abs(np.subtract(colours.fore, colours.back)).max() > 0.4


def test_backgrounds_are_in_range_and_keyed():
    one, again, other = (drawings.draw_background(24, generator(0, key)) for key in ("a", "a", "b"))
    assert one.tobytes() == again.tobytes() != other.tobytes()
    assert one.min() >= 0.0
    assert one.max() <= 1.0


def test_cached_grids_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        drawings.grid(4, 4)[0][0, 0] = 1
