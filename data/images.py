"""Images on disk and in arrays: reading with limits, writing, 8-bit conversion, resizing.

Called wherever a file becomes pixels. Limits are checked in the file's header, before a pixel is decoded. Never
follows a URL and never unpickles.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from PIL import Image, ImageOps

from burnish.data.errors import DataError

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 16_777_216
MIN_SIDE, MAX_SIDE = 16, 8192
MAX_ASPECT = 16
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_TAGS = frozenset({"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"})
"""Where a PNG's header may hold its orientation."""
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "area": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


class Blob(Protocol):
    """A file inside another one: a member of an archive, a cell of a table. `name` is what errors call it."""

    @property
    def name(self) -> str:
        """Where it is, for people."""
        ...

    def read(self) -> bytes:
        """Its bytes; raises OSError or ValueError where they cannot be had."""
        ...


Picture = Path | Blob
"""Where the bytes of a picture are."""


def to_uint8(image: np.ndarray) -> np.ndarray:
    """floor(255 x + 0.5) of values clipped to [0,1], uint8 of the same shape."""
    return np.floor(np.clip(image, 0.0, 1.0).astype(np.float64) * 255.0 + 0.5).astype(np.uint8)


def from_uint8(image: np.ndarray) -> np.ndarray:
    """x / 255 as float32 of the same shape; `to_uint8` gives x back exactly."""
    return (image.astype(np.float64) / 255.0).astype(np.float32)


def _check_header(image: Image.Image, name: str, min_side: int) -> None:
    width, height = image.size
    if not (min_side <= min(width, height) and max(width, height) <= MAX_SIDE):
        raise DataError(f"{name}: got {width}x{height} px, allowed sides {min_side}..{MAX_SIDE}")
    if width * height > MAX_PIXELS:
        raise DataError(f"{name}: got {width * height} pixels, allowed at most {MAX_PIXELS}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise DataError(f"{name}: got {width}x{height} px, allowed an aspect of at most {MAX_ASPECT}:1")
    if getattr(image, "n_frames", 1) > 1:
        raise DataError(f"{name}: got {image.n_frames} frames, allowed a still image")  # type: ignore[attr-defined]
    layouts = [str(part) for tile in getattr(image, "tile", []) for part in tile[3:]]
    deep = any("16" in layout for layout in layouts)  # such a picture's mode is RGB all the same
    if image.mode not in _MODES or deep:
        found = "16 bits a channel" if deep else f"pixel mode {image.mode}"
        raise DataError(f"{name}: got {found}, allowed 8 bits a channel")


@contextmanager
def opened(source: Picture | BinaryIO, name: str, min_side: int) -> Iterator[Image.Image]:
    """An image file whose header keeps the limits; what goes wrong while it is decoded is a DataError too."""
    try:
        stream = source if isinstance(source, Path | BytesIO) else BytesIO(source.read())
        with Image.open(stream, formats=FORMATS) as image:
            _check_header(image, name, min_side)
            yield image
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file") from error
    except (*_DECODE_ERRORS, Image.DecompressionBombWarning) as error:
        raise DataError(f"{name}: not a whole {'/'.join(FORMATS)} image ({error})") from error


def _pixels(image: Image.Image, mode: str) -> np.ndarray:
    """Upright, uint8 [H,W] or [H,W,3]; what is transparent shows white, not the colours hidden there."""
    if mode == "RGB" and image.has_transparency_data:
        clear = ImageOps.exif_transpose(image).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    return np.asarray(ImageOps.exif_transpose(image).convert(mode), np.uint8)


def load_image(path: Picture, *, min_side: int = MIN_SIDE) -> np.ndarray:
    """Read a PNG, JPEG or WebP file, upright by its EXIF orientation and on white, as float32 [3,H,W] in [0,1].

    Args:
        path: the file, or a file inside another one.
        min_side: least side in pixels; references may be smaller than images.

    Raises:
        DataError: names the file and the limit: no such file, another format, animated, truncated, more than 16.7
            million pixels, a side outside 16..8192, an aspect above 16:1, more than 8 bits a channel.
    """
    with opened(path, picture_name(path), min_side) as image:
        return from_uint8(_pixels(image, "RGB")).transpose(2, 0, 1).copy()


def picture_name(picture: Picture) -> str:
    """What errors call a picture."""
    return str(picture) if isinstance(picture, Path) else picture.name


def decode_image(payload: bytes, *, name: str, min_side: int = MIN_SIDE) -> np.ndarray:
    """As `load_image`, from bytes; `name` is what errors call it."""
    with opened(BytesIO(payload), name, min_side) as image:
        return from_uint8(_pixels(image, "RGB")).transpose(2, 0, 1).copy()


def load_mask(path: Picture, *, min_side: int = MIN_SIDE) -> np.ndarray:
    """Read a mask file as float32 [1,H,W]: 1 where luminance >= 128; errors as `load_image`."""
    with opened(path, picture_name(path), min_side) as image:
        return (_pixels(image, "L") >= 128).astype(np.float32)[None]


def image_size(path: Picture, *, min_side: int = MIN_SIDE) -> tuple[int, int]:
    """(height, width) from the header alone, as `load_image` would turn it; errors as `load_image`."""
    with opened(path, picture_name(path), min_side) as image:
        width, height = image.size
        # Asking a PNG that says nothing of it in its header would decode the whole picture.
        tagged = image.format != "PNG" or not _TAGS.isdisjoint(image.info)
        sideways = tagged and image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        return (width, height) if sideways else (height, width)


def save_png(path: Path, image: np.ndarray) -> None:
    """Write float32 [3,H,W] or [1,H,W] in [0,1] as an 8-bit PNG; its folder must exist."""
    pixels = to_uint8(image).transpose(1, 2, 0)
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path, format="PNG")


def resize(image: np.ndarray, *, height: int, width: int, method: str = "bicubic") -> np.ndarray:
    """Resize float32 [C,h,w] to [C,height,width]; method nearest, area, bilinear or bicubic; clipped to [0,1].

    Down-scaling is anti-aliased (the filter grows with the factor).

    Raises:
        DataError: unknown method.
    """
    if method not in _FILTERS:
        raise DataError(f"method: got {method!r}, allowed {', '.join(_FILTERS)}")
    if image.shape[-2:] == (height, width):
        return image.astype(np.float32)
    planes = [Image.fromarray(np.ascontiguousarray(plane, np.float32)) for plane in image]
    resized = [np.asarray(plane.resize((width, height), _FILTERS[method]), np.float32) for plane in planes]
    return np.clip(np.stack(resized), 0.0, 1.0)


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_picture(picture: Picture) -> str:
    """Hex sha256 of a picture's bytes as they are stored."""
    return sha256_file(picture) if isinstance(picture, Path) else hashlib.sha256(picture.read()).hexdigest()
