import numpy as np
import pytest

from burnish.data.filters import snap
from burnish.data.references import Views, make_references, relight
from burnish.data.seeding import generator

KINDS = ("detail", "subject", "style", "lighting", "background")


def views():
    clean, around = (snap(generator(0, "ref", name).random((3, 12, 12))) for name in ("clean", "around"))
    return Views(clean, around, lambda rng: snap(1.0 - clean))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["copy", "varied"])
def test_every_kind_gives_a_crop_of_the_same_size_on_the_8_bit_grid(kind, mode):
    (reference,) = make_references((kind,), views(), generator(0, "r"), mode=mode)
    assert reference.kind == kind
    assert reference.image.shape == (3, 12, 12)
    np.testing.assert_array_equal(reference.image, snap(reference.image))


def test_order_follows_the_kinds_and_draws_are_keyed():
    one, two = (make_references(KINDS, views(), generator(0, "r"), mode="varied") for _ in range(2))
    assert tuple(r.kind for r in one) == KINDS
    assert [r.image.tobytes() for r in one] == [r.image.tobytes() for r in two]


def test_style_keeps_the_colours_and_loses_the_layout():
    (style,) = make_references(("style",), views(), generator(0, "r"), mode="copy")
    np.testing.assert_array_equal(np.sort(style.image.ravel()), np.sort(views().clean.ravel()))
    assert (style.image != views().clean).any()


def test_lighting_is_smooth_and_background_shows_the_scene_without_the_object():
    lighting, background = make_references(("lighting", "background"), views(), generator(0, "r"), mode="copy")
    assert lighting.image.std() < 0.3 * views().clean.std()
    np.testing.assert_array_equal(background.image, views().around)


def test_relighting_changes_brightness_only_linearly():
    crop = views().clean
    slope = np.polyfit(crop.ravel(), relight(crop, generator(0, "l")).ravel(), 1)
    assert 0.75 <= slope[0] <= 1.2
    assert abs(slope[1]) <= 0.08
