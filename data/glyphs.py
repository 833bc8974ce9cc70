"""Bitmap glyphs A-Z and 0-9 that ship with burnish, so that drawn text has the same bytes everywhere.

Nothing here needs a font engine at run time: `fonts/atlas.png` holds 8-bit coverage, `fonts/atlas.json` says where
each glyph lies. `python -m burnish.data.glyphs FONT_FOLDER` rebuilds both from TrueType files (DejaVu and STIX, whose
licences stand beside the atlas). Called by the drawn scenes.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from burnish.data.errors import DataError
from burnish.data.images import resize

CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
HEIGHTS = (5, 7, 9, 11, 24)
FACES = {
    "sans": "DejaVuSans",
    "sans-bold": "DejaVuSans-Bold",
    "sans-oblique": "DejaVuSans-Oblique",
    "sans-bold-oblique": "DejaVuSans-BoldOblique",
    "serif": "DejaVuSerif",
    "serif-bold": "DejaVuSerif-Bold",
    "serif-italic": "DejaVuSerif-Italic",
    "mono": "DejaVuSansMono",
    "mono-bold": "DejaVuSansMono-Bold",
    "roman": "STIXGeneral",
    "roman-bold": "STIXGeneralBol",
    "roman-bold-italic": "STIXGeneralBolIta",
}
_FOLDER = Path(__file__).parent / "fonts"


@functools.cache
def _atlas() -> dict[tuple[str, int, str], np.ndarray]:
    """(face, height, character) -> coverage float32 [height,width] in [0,1]."""
    index = json.loads((_FOLDER / "atlas.json").read_text(encoding="utf-8"))
    with Image.open(_FOLDER / "atlas.png", formats=("PNG",)) as image:
        pixels = np.asarray(image, np.uint8).astype(np.float32) / np.float32(255)
    glyphs: dict[tuple[str, int, str], np.ndarray] = {}
    for face, height, top, edges in index["rows"]:
        for character, left, right in zip(CHARACTERS, edges[:-1], edges[1:], strict=True):
            glyphs[face, height, character] = pixels[top : top + height, left:right]
    return glyphs


def glyph(character: str, *, font: str, height: int) -> np.ndarray:
    """Coverage float32 [height,width] in [0,1] of one character.

    Raises:
        DataError: the atlas holds no such character, font or height.
    """
    try:
        return _atlas()[font, height, character]
    except KeyError:
        raise DataError(
            f"glyph: got {character!r} in {font!r} at {height} px, allowed {CHARACTERS} in {', '.join(FACES)}"
            f" at {', '.join(map(str, HEIGHTS))} px"
        ) from None


def text_line(text: str, *, font: str, height: int, spacing: int = 1) -> np.ndarray:
    """Coverage float32 [height,width] of a string, `spacing` empty columns between characters."""
    gap = np.zeros((height, spacing), np.float32)
    parts: list[np.ndarray] = []
    for character in text:
        parts += [glyph(character, font=font, height=height), gap]
    return np.concatenate(parts[:-1], axis=1)


def fit_line(text: str, *, font: str, height: int, width: int) -> np.ndarray:
    """The largest line [h<=height,w<=width] that a native raster height allows; squeezed where none is narrow enough,
    and enlarged by a whole factor where there is room for more than twice the largest height.

    Raises:
        DataError: empty text, or less than 5 px of height.
    """
    scale = height // HEIGHTS[-1]
    if scale > 1:
        line = fit_line(text, font=font, height=HEIGHTS[-1], width=width // scale)
        return resize(line[None], height=scale * line.shape[0], width=scale * line.shape[1], method="bilinear")[0]
    heights = [native for native in HEIGHTS if native <= height]
    if not text or not heights:
        raise DataError(f"text {text!r} does not fit into {height} px, at least {HEIGHTS[0]} px are needed")
    lines = [text_line(text, font=font, height=native) for native in reversed(heights)]
    narrow = [line for line in lines if line.shape[1] <= width]
    if narrow and narrow[0].shape[0] * 2 > heights[-1]:
        return narrow[0]
    best = min(lines, key=lambda line: abs(line.shape[1] - 1.3 * width))
    return resize(best[None], height=best.shape[0], width=min(width, best.shape[1]), method="area")[0]


def draw_text(canvas: tuple[int, int], text: str, *, font: str, margin: int = 1) -> np.ndarray:
    """Alpha mask float32 [h,w] in [0,1] with the text centred.

    Args:
        canvas: (h, w) in pixels.
        text: characters of CHARACTERS.
        font: a key of FACES.
        margin: pixels kept free on each side.

    Raises:
        DataError: unknown character or font, or the canvas is too small.
    """
    height, width = canvas
    line = fit_line(text, font=font, height=height - 2 * margin, width=width - 2 * margin)
    top, left = (height - line.shape[0]) // 2, (width - line.shape[1]) // 2
    mask = np.zeros((height, width), np.float32)
    mask[top : top + line.shape[0], left : left + line.shape[1]] = line
    return mask


def _font_of_height(path: Path, height: int) -> ImageFont.FreeTypeFont:
    """The font at the size whose H is `height` px tall."""
    for size in range(height, 3 * height):
        font = ImageFont.truetype(str(path), size)
        _, top, _, bottom = font.getbbox("H", anchor="ls")
        if bottom - top >= height:
            return font
    raise DataError(f"{path}: no size gives capitals of {height} px")


def _draw_glyph(font: ImageFont.FreeTypeFont, character: str, height: int) -> np.ndarray:
    """Coverage uint8 [height,width] between the cap line and the base line, empty columns cut away."""
    image = Image.new("L", (4 * height, 2 * height), 0)
    ImageDraw.Draw(image).text((height, height + height // 2), character, fill=255, font=font, anchor="ls")
    pixels = np.asarray(image)[height // 2 : height // 2 + height]
    columns = np.flatnonzero((pixels > 24).any(axis=0))
    return pixels[:, columns[0] : columns[-1] + 1]


def build_atlas(fonts: Path, target: Path) -> None:
    """Write `atlas.png` and `atlas.json` into `target` from the TrueType files in `fonts`."""
    rows: list[tuple[str, int, int, list[int]]] = []
    strips: list[np.ndarray] = []
    top = 0
    for face, stem in FACES.items():
        for height in HEIGHTS:
            font = _font_of_height(fonts / f"{stem}.ttf", height)
            glyphs = [_draw_glyph(font, character, height) for character in CHARACTERS]
            edges = [0, *np.cumsum([g.shape[1] for g in glyphs]).tolist()]
            rows.append((face, height, top, edges))
            strips.append(np.concatenate(glyphs, axis=1))
            top += height
    width = max(strip.shape[1] for strip in strips)
    sheet = np.concatenate([np.pad(strip, ((0, 0), (0, width - strip.shape[1]))) for strip in strips])
    Image.fromarray(sheet).save(target / "atlas.png", optimize=True)
    (target / "atlas.json").write_text(json.dumps({"rows": rows}, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    build_atlas(Path(sys.argv[1]), _FOLDER)
