import numpy as np
import pytest

from burnish.data import glyphs
from burnish.data.errors import DataError


@pytest.mark.parametrize("font", sorted(glyphs.FACES))
def test_every_glyph_is_there_and_differs_from_its_neighbours(font):
    for height in glyphs.HEIGHTS:
        shapes = {glyphs.glyph(c, font=font, height=height).tobytes() for c in glyphs.CHARACTERS}
        assert len(shapes) >= len(glyphs.CHARACTERS) - 2 * (height == 5)


def test_a_glyph_has_its_native_height_and_full_coverage_somewhere():
    found = glyphs.glyph("H", font="sans-bold", height=11)
    assert found.shape[0] == 11
    assert found.max() == 1.0
    assert found.dtype == np.float32


@pytest.mark.parametrize("text", ["A", "7Q", "MW", "R2D"])
@pytest.mark.parametrize("font", ["sans", "serif-bold", "mono-bold"])
def test_text_is_drawn_inside_its_margin(text, font):
    mask = glyphs.draw_text((12, 12), text, font=font)
    assert mask.shape == (12, 12)
    assert mask.sum() > 5
    assert not mask[0].any()
    assert not mask[:, -1].any()
    assert mask.max() <= 1.0


def test_other_text_and_other_fonts_draw_other_pixels():
    drawn = [glyphs.draw_text((12, 12), text, font=font) for text in ("A7", "B7") for font in ("sans", "serif")]
    assert len({mask.tobytes() for mask in drawn}) == 4


def test_large_canvases_enlarge_the_largest_glyphs():
    mask = glyphs.draw_text((120, 200), "OK", font="sans")
    assert (mask.any(axis=1)).sum() > 60


@pytest.mark.parametrize(
    ("text", "font", "canvas"), [("a", "sans", (12, 12)), ("A", "comic", (12, 12)), ("A", "sans", (5, 12))]
)
def test_what_the_atlas_lacks_is_refused(text, font, canvas):
    with pytest.raises(DataError):
        glyphs.draw_text(canvas, text, font=font)


def test_atlas_is_small_and_carries_its_licences():
    folder = glyphs._FOLDER
    assert sum(path.stat().st_size for path in folder.glob("atlas.*")) < 200_000
    assert {path.name for path in folder.glob("LICENSE-*.txt")} == {"LICENSE-DejaVu.txt", "LICENSE-STIX.txt"}
