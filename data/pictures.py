"""Whole pictures: pixels with the alpha channel and colour profile that a file brought, and back to bytes.

Called where a user's file is refined and handed back: serving and `burnish refine`. Limits are those of `images.py`,
checked in the header. Pictures are upright: the EXIF orientation is applied and not written again.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from burnish.data.errors import DataError
from burnish.data.images import MIN_SIDE, from_uint8, opened, to_uint8

MAX_PROFILE = 4 << 20
"""Bytes of a colour profile."""
LOSSLESS = ("PNG", "WEBP")
Channel = Literal["luminance", "alpha"]


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded file.

    Args:
        pixels: float32 [3,H,W] in [0,1].
        format: PNG, JPEG or WEBP.
        alpha: uint8 [H,W], or None where the file is opaque.
        profile: ICC profile of RGB values, or None.
    """

    pixels: np.ndarray
    format: str
    alpha: np.ndarray | None = None
    profile: bytes | None = None


def read_picture(payload: bytes, *, name: str, min_side: int = MIN_SIDE) -> Picture:
    """Decode a file.

    Args:
        payload: its bytes.
        name: what errors call it.
        min_side: least side in pixels.

    Raises:
        DataError: as `images.load_image`, or a colour profile of more than 4 MiB.
    """
    with opened(BytesIO(payload), name, min_side) as image:
        profile = image.info.get("icc_profile") or b""
        if len(profile) > MAX_PROFILE:
            raise DataError(f"{name}: got a colour profile of {len(profile)} bytes, allowed at most {MAX_PROFILE}")
        kind, clear = str(image.format), image.has_transparency_data
        planes = np.asarray(ImageOps.exif_transpose(image).convert("RGBA" if clear else "RGB"), np.uint8)
    of_rgb = profile[16:20] == b"RGB "  # that of CMYK or grey values would be wrong for what is written
    pixels = from_uint8(planes[..., :3]).transpose(2, 0, 1).copy()
    return Picture(pixels, kind, planes[..., 3].copy() if clear else None, profile if of_rgb else None)


def load_picture(path: Path) -> Picture:
    """Decode a file on disk; errors as `read_picture`, or no such file."""
    try:
        return read_picture(path.read_bytes(), name=str(path))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or 'not readable'}") from error


def read_mask(payload: bytes, *, name: str, channel: Channel = "luminance", min_side: int = MIN_SIDE) -> np.ndarray:
    """Decode a mask as float32 [1,H,W].

    Args:
        payload: its bytes.
        name: what errors call it.
        channel: "luminance": 1 where it is >= 128; "alpha": 1 where alpha < 128, as OpenAI's masks have it.
        min_side: least side in pixels.

    Raises:
        DataError: as `images.load_image`, or no alpha channel where one is asked for.
    """
    with opened(BytesIO(payload), name, min_side) as image:
        if channel == "alpha" and not image.has_transparency_data:
            raise DataError(f"{name}: got a picture without alpha, allowed one whose transparent pixels are the region")
        upright = ImageOps.exif_transpose(image)
        if channel == "alpha":
            edit = np.asarray(upright.convert("RGBA"), np.uint8)[..., 3] < 128
        else:
            edit = np.asarray(upright.convert("L"), np.uint8) >= 128
    return edit.astype(np.float32)[None]


def write_picture(pixels: np.ndarray, *, like: Picture, format: str, quality: int = 95) -> bytes:
    """Encode pixels with the alpha channel and profile of the picture they came from.

    Args:
        pixels: float32 [3,H,W] in [0,1], the size of `like`.
        like: whose alpha and profile are kept.
        format: PNG or WEBP, both without loss, or JPEG, which drops alpha and moves pixels.
        quality: of a JPEG, 1 to 100.
    """
    planes = to_uint8(pixels).transpose(1, 2, 0)
    if like.alpha is not None and format in LOSSLESS:
        planes = np.concatenate([planes, like.alpha[..., None]], axis=2)
    image, stream = Image.fromarray(np.ascontiguousarray(planes)), BytesIO()
    kept = {"icc_profile": like.profile} if like.profile else {}
    if format == "PNG":
        image.save(stream, format="PNG", compress_level=3, **kept)
    elif format == "WEBP":
        image.save(stream, format="WEBP", lossless=True, exact=True, method=1, **kept)
    else:
        image.save(stream, format="JPEG", quality=quality, **kept)
    return stream.getvalue()
