"""Files with all that they bring: alpha, profile, orientation."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from burnish.data import pictures
from burnish.data.errors import DataError
from burnish.data.images import from_uint8, to_uint8
from burnish.data.seeding import generator

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(*shape):
    return generator(0, "test-pictures").integers(0, 256, shape).astype(np.uint8)


def saved(planes, form="PNG", **options):
    stream = io.BytesIO()
    (planes if isinstance(planes, Image.Image) else Image.fromarray(planes)).save(stream, form, **options)
    return stream.getvalue()


def opened(payload):
    return Image.open(io.BytesIO(payload))


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
@pytest.mark.parametrize("channels", [3, 4])
def test_a_lossless_round_trip_keeps_pixels_alpha_and_profile(form, channels):
    planes = noise(20, 30, channels)
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    picture = pictures.read_picture(saved(planes, form, icc_profile=SRGB, **options), name="a")
    again = opened(pictures.write_picture(picture.pixels, like=picture, format=form))
    np.testing.assert_array_equal(np.asarray(again), planes)
    assert again.info["icc_profile"] == SRGB and picture.format == form


def test_a_jpeg_drops_alpha_and_keeps_the_profile():
    picture = pictures.read_picture(saved(noise(20, 30, 4), icc_profile=SRGB), name="a")
    again = opened(pictures.write_picture(picture.pixels, like=picture, format="JPEG"))
    assert (again.mode, again.format, again.info["icc_profile"]) == ("RGB", "JPEG", SRGB)


def test_a_profile_of_other_values_than_rgb_is_dropped():
    grey = SRGB[:16] + b"GRAY" + SRGB[20:]
    picture = pictures.read_picture(saved(noise(20, 30), icc_profile=grey), name="a")
    assert picture.profile is None and picture.pixels.shape == (3, 20, 30)


def test_palettes_with_a_transparent_entry_keep_it_as_alpha():
    image = Image.fromarray(noise(20, 30)).convert("P")
    picture = pictures.read_picture(saved(image, transparency=7), name="a")
    assert picture.alpha is not None and set(np.unique(picture.alpha)) <= {0, 255}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_and_masks_are_upright_the_same_way(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    planes = np.where(np.arange(20 * 30).reshape(20, 30, 1) < 300, 255, 0).astype(np.uint8).repeat(3, axis=2)
    payload = saved(planes, exif=exif)
    picture, mask = pictures.read_picture(payload, name="a"), pictures.read_mask(payload, name="m")
    assert picture.pixels.shape[1:] == ((30, 20) if orientation > 4 else (20, 30))
    np.testing.assert_array_equal(picture.pixels[:1] >= 0.5, mask > 0)
    written = opened(pictures.write_picture(picture.pixels, like=picture, format="PNG"))
    assert written.getexif().get(0x0112, 1) == 1


def test_masks_say_edit_by_luminance_or_by_transparency():
    grey = np.array([[0, 127, 128, 255]], np.uint8).repeat(16, axis=0).repeat(4, axis=1)
    alpha = np.dstack([np.zeros((16, 16, 3), np.uint8), grey])
    by_light = pictures.read_mask(saved(grey), name="m")
    by_alpha = pictures.read_mask(saved(alpha), name="m", channel="alpha")
    assert by_light[0, 0, ::4].tolist() == [0, 0, 1, 1] and by_alpha[0, 0, ::4].tolist() == [1, 1, 0, 0]
    with pytest.raises(DataError, match="without alpha"):
        pictures.read_mask(saved(grey), name="m", channel="alpha")


def test_a_profile_beyond_its_limit_is_refused_by_name():
    big = SRGB + bytes(pictures.MAX_PROFILE)
    with pytest.raises(DataError, match=r"photo: got a colour profile of \d+ bytes"):
        pictures.read_picture(saved(noise(20, 30, 3), "JPEG", icc_profile=big), name="photo")


def test_every_8_bit_value_is_kept_through_float_pixels():
    planes = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    picture = pictures.read_picture(saved(planes), name="a")
    np.testing.assert_array_equal(to_uint8(picture.pixels), planes.transpose(2, 0, 1))
    np.testing.assert_array_equal(from_uint8(planes).transpose(2, 0, 1), picture.pixels)
