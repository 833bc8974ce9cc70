import hashlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from burnish.data import images
from burnish.data.errors import DataError
from burnish.data.seeding import generator


def picture(height=20, width=30):
    return images.from_uint8(generator(0, "test-images").integers(0, 256, (3, height, width)).astype(np.uint8))


def test_every_8_bit_value_survives_the_round_trip():
    values = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(images.to_uint8(images.from_uint8(values)), values)


def test_rounding_is_half_up_and_clipped():
    assert images.to_uint8(np.array([-1.0, 0.5 / 255, 0.49 / 255, 2.0])).tolist() == [0, 1, 0, 255]


def test_png_round_trip_is_exact(tmp_path):
    images.save_png(tmp_path / "a.png", picture())
    np.testing.assert_array_equal(images.load_image(tmp_path / "a.png"), picture())
    assert images.image_size(tmp_path / "a.png") == (20, 30)


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_jpeg_and_webp_are_read(tmp_path, suffix):
    Image.new("RGB", (20, 18), (255, 0, 0)).save(tmp_path / f"a.{suffix}")
    loaded = images.load_image(tmp_path / f"a.{suffix}")
    assert loaded.shape == (3, 18, 20)
    assert loaded.dtype == np.float32
    assert loaded[0].mean() > 0.9


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert images.load_image(tmp_path / "a.jpg").shape == (3, 40, 20)
    assert images.image_size(tmp_path / "a.jpg") == (40, 20)


@pytest.mark.parametrize(("width", "height", "what"), [(15, 20, "sides"), (8200, 600, "sides"), (400, 20, "aspect")])
def test_sizes_outside_the_limits_are_refused(tmp_path, width, height, what):
    Image.new("L", (width, height)).save(tmp_path / "bad.png")
    with pytest.raises(DataError, match=rf"bad\.png.*{what}"):
        images.load_image(tmp_path / "bad.png")


@pytest.mark.parametrize("side", [5000, 8192])
def test_too_many_pixels_are_refused_before_decoding(tmp_path, side):
    Image.new("1", (side, side)).save(tmp_path / "big.png")
    with pytest.raises(DataError, match="pixels"):
        images.load_image(tmp_path / "big.png")


def test_a_decompression_bomb_is_refused(tmp_path):
    Image.new("1", (15000, 15000)).save(tmp_path / "bomb.png")
    with pytest.raises(DataError, match=r"bomb\.png"):
        images.load_image(tmp_path / "bomb.png")


def test_animation_is_refused(tmp_path):
    frames = [Image.new("RGB", (20, 20), (shade, 0, 0)) for shade in (0, 255)]
    frames[0].save(tmp_path / "moving.webp", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="still image"):
        images.load_image(tmp_path / "moving.webp")


def test_other_formats_are_refused_whatever_their_suffix(tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png", format="GIF")
    with pytest.raises(DataError, match=r"a\.png.*not a whole PNG"):
        images.load_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_truncated_files_are_refused(tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(images.to_uint8(picture(64, 64)).transpose(1, 2, 0)).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"cut\."):
        images.load_image(path)


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        images.load_image(tmp_path / "none.png")
    with pytest.raises(DataError, match="not a whole"):
        images.load_image(tmp_path)


def test_sixteen_bits_a_channel_are_refused(tmp_path):
    Image.fromarray(np.zeros((20, 20), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match="8 bits"):
        images.load_image(tmp_path / "deep.png")


@pytest.mark.parametrize("channels", [2, 6])
def test_sixteen_bits_of_colour_are_refused_though_pillow_calls_them_rgb(tmp_path, channels):
    count = {2: 3, 6: 4}[channels]
    header = struct.pack(">IIBBBBB", 20, 20, 16, channels, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(20 * 2 * count)) * 20)
    chunks = [(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")]
    packed = [struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks]
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    with pytest.raises(DataError, match="16 bits a channel, allowed 8 bits"):
        images.load_image(tmp_path / "deep.png")


def test_what_is_transparent_shows_white_and_not_its_hidden_colour(tmp_path):
    logo = np.zeros((20, 20, 4), np.uint8)
    logo[5:10, 5:10, 3] = 255
    Image.fromarray(logo).save(tmp_path / "logo.png")
    found = images.load_image(tmp_path / "logo.png")
    assert (found[:, 5:10, 5:10] == 0.0).all() and (found[:, :5] == 1.0).all()


@pytest.mark.parametrize("where", ["exif", "xmp"])
def test_the_header_says_the_size_that_the_pixels_have(tmp_path, where):
    image, info = Image.fromarray(np.zeros((40, 64, 3), np.uint8)), PngInfo()
    if where == "xmp":
        info.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
        image.save(tmp_path / "turned.png", pnginfo=info)
    else:
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(tmp_path / "turned.png", exif=exif)
    assert (
        images.image_size(tmp_path / "turned.png") == images.load_image(tmp_path / "turned.png").shape[1:] == (64, 40)
    )


def test_bytes_are_decoded_under_the_same_limits(tmp_path):
    images.save_png(tmp_path / "a.png", picture())
    payload = (tmp_path / "a.png").read_bytes()
    np.testing.assert_array_equal(images.decode_image(payload, name="upload"), picture())
    with pytest.raises(DataError, match="upload"):
        images.decode_image(payload[:50], name="upload")


def test_masks_are_thresholded_at_128(tmp_path):
    Image.fromarray(np.full((16, 16), 127, np.uint8)).save(tmp_path / "low.png")
    Image.fromarray(np.full((16, 16), 128, np.uint8)).save(tmp_path / "high.png")
    assert images.load_mask(tmp_path / "low.png").max() == 0
    assert images.load_mask(tmp_path / "high.png").min() == 1


@pytest.mark.parametrize("method", ["nearest", "area", "bilinear", "bicubic"])
def test_resizing_keeps_a_flat_image_flat(method):
    resized = images.resize(np.full((3, 9, 7), 0.25, np.float32), height=4, width=20, method=method)
    np.testing.assert_allclose(resized, np.full((3, 4, 20), 0.25), atol=1e-6)


def test_area_resizing_is_the_mean_of_the_cells():
    image = picture(8, 8)
    small = images.resize(image, height=2, width=2, method="area")
    np.testing.assert_allclose(small, image.reshape(3, 2, 4, 2, 4).mean(axis=(2, 4)), atol=1e-6)


def test_unknown_resize_method_is_refused():
    with pytest.raises(DataError, match="method"):
        images.resize(picture(), height=4, width=4, method="lanczos9")


def test_checksum_equals_hashlib(tmp_path):
    (tmp_path / "a").write_bytes(b"burnish")
    assert images.sha256_file(tmp_path / "a") == hashlib.sha256(b"burnish").hexdigest()
