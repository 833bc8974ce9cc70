"""Pictures and names that a server must refuse: made here, by name."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *, depth: int = 8, colour: int = 2, data: bytes = b"") -> bytes:
    """A PNG whose header says what it likes."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def webp(width: int, height: int) -> bytes:
    """A WebP whose extended header says what it likes."""
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + sizes
    return b"RIFF" + struct.pack("<I", len(body)) + body


def text_bomb() -> bytes:
    """A small PNG with a text chunk that grows to 64 MiB."""
    info = PngImagePlugin.PngInfo()
    info.add_text("a", "x" * (64 << 20), zip=True)
    return saved(Image.new("RGB", (32, 32)), "PNG", pnginfo=info)


def pictures() -> dict[str, bytes]:
    """Twenty-five of them, by name."""
    small, frames = Image.new("RGB", (32, 32)), [Image.new("RGB", (32, 32), c) for c in ("red", "blue")]
    whole = saved(Image.effect_noise((64, 64), 50.0).convert("RGB"), "PNG")
    jpeg = saved(Image.effect_noise((64, 64), 50.0).convert("RGB"), "JPEG")
    flat = zlib.compress(bytes(3 * 8001 * 8000 + 8000), 9)
    return {
        "bomb of 64 million pixels": png(8001, 8000, data=flat),
        "header of 4 billion pixels": png(65535, 65535),
        "header of 2^31 pixels a side": png(2**31 - 1, 1),
        "one by a million": png(1, 1_000_000),
        "a million by one": png(1_000_000, 1),
        "no width": png(0, 32),
        "aspect of 20": saved(Image.new("RGB", (400, 20)), "PNG"),
        "side of 8": saved(Image.new("RGB", (8, 8)), "PNG"),
        "webp of 268 million pixels": webp(16384, 16384),
        "text that grows to 64 MiB": text_bomb(),
        "profile of 10 MB": saved(small, "PNG", icc_profile=bytes(10_000_000)),
        "truncated png": whole[: len(whole) // 2],
        "truncated jpeg": jpeg[: len(jpeg) // 2],
        "png with a wrong checksum": whole[:29] + bytes(4) + whole[33:],
        "16 bits a channel": saved(Image.fromarray(np.zeros((32, 32), np.uint16)), "PNG"),
        "animated png": saved(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "animated webp": saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "gif": saved(small, "GIF"),
        "tiff": saved(small, "TIFF"),
        "bmp": saved(small, "BMP"),
        "ico": saved(small, "ICO"),
        "eps": saved(small, "EPS"),
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="32" height="32"><image href="file:///etc/passwd"/></svg>',
        "zip behind a png's first bytes": b"\x89PNG\r\n\x1a\nPK\x03\x04" + bytes(64),
        "nothing at all": b"\x00",
    }


NAMES = (
    "../tuned",
    "..",
    ".",
    "/etc/passwd",
    "//host/share",
    "C:\\models",
    "\\\\host\\share",
    "tuned/../base",
    "tuned/1",
    "tuned%2f1",
    "%2e%2e%2ftuned",
    "tuned\x00",
    "tuned\n",
    "tuned ",
    " tuned",
    "Tuned",
    "TUNED",
    "tüned",
    "tuned\u2024",
    "\uff0e\uff0e/tuned",
    "tuned\u202e",
    "-tuned",
    "_tuned",
    ".tuned",
    "t" * 65,
    "tuned@",
    "tuned@0",
    "tuned@-1",
    "tuned@1.0",
    "tuned@01",
    "tuned@1@2",
    "tuned@latest",
    "tuned@99",
    "@1",
    "",
    "other",
    "http://127.0.0.1/model",
    "file:///etc/passwd",
    "hf://org/model",
    "tuned#fragment",
)

URLS = (
    "http://127.0.0.1/x.png",
    "http://127.0.0.1:22/",
    "http://localhost/x.png",
    "http://[::1]/x.png",
    "http://[::ffff:127.0.0.1]/x.png",
    "http://[::ffff:7f00:1]/x.png",
    "http://0/x.png",
    "http://0.0.0.0/x.png",
    "http://0x7f.1/x.png",
    "http://0x7f000001/x.png",
    "http://2130706433/x.png",
    "http://017700000001/x.png",
    "http://127.1/x.png",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "http://10.0.0.1/x.png",
    "http://192.168.0.1/x.png",
    "http://127.0.0.1.nip.io/x.png",
    "http://user@127.0.0.1/x.png",
    "http://example.com@127.0.0.1/x.png",
    "http://127.0.0.1#@example.com/x.png",
    "https://example.com/x.png",
    "//127.0.0.1/x.png",
    "HTTP://127.0.0.1/x.png",
    "file:///etc/passwd",
    "file://localhost/etc/passwd",
    "gopher://127.0.0.1:6379/_INFO",
    "ftp://127.0.0.1/x.png",
    "s3://bucket/x.png",
)
