"""Objects and backgrounds drawn in plain numpy: logos, textures, plates with text, scenes behind them.

Called by `synthetic.py`, which decides by key what is drawn. Every drawing is a pure function of its specification;
edges are anti-aliased by distance. Legend: h w pixels.
"""

from __future__ import annotations

import colorsys
import functools
from dataclasses import dataclass

import numpy as np

from burnish.data.glyphs import draw_text

LOGO_SHAPES = ("disc", "ring", "stripes", "star", "polygon", "cross", "letter")
TEXTURE_KINDS = ("stripes", "checker", "dots", "noise")


@dataclass(frozen=True)
class Paint:
    """Two contrasting colours, each (r, g, b) in [0,1]."""

    fore: tuple[float, float, float]
    back: tuple[float, float, float]


@dataclass(frozen=True)
class Logo:
    """A parametric logo: shape of LOGO_SHAPES, points 3..7, angle and hue in twelfths of a turn, one letter."""

    shape: str
    points: int
    angle: int
    hue: int
    letter: str


@dataclass(frozen=True)
class Texture:
    """A repeating pattern of TEXTURE_KINDS; number picks its period, angle and hue."""

    kind: str
    number: int


@functools.lru_cache(maxsize=64)
def grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(y, x) of pixel centres in [-1,1], float64 [h,w] each; read only."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    y, x = (2 * y + 1) / height - 1, (2 * x + 1) / width - 1
    y.flags.writeable = x.flags.writeable = False
    return y, x


def paint(hue: float, dark: bool, *, shift: float = 0.5) -> Paint:
    """A saturated and a pale colour of opposite hues; `dark` decides which of them is behind."""
    strong = colorsys.hsv_to_rgb(hue % 1.0, 0.9, 0.55)
    pale = colorsys.hsv_to_rgb((hue + shift) % 1.0, 0.35, 1.0)
    return Paint(pale, strong) if dark else Paint(strong, pale)


def fill(alpha: np.ndarray, colours: Paint) -> np.ndarray:
    """float32 [3,h,w]: fore where alpha [h,w] is 1, back where it is 0."""
    fore, back = (np.asarray(c)[:, None, None] for c in (colours.fore, colours.back))
    return (back + (fore - back) * alpha).astype(np.float32)


def soft(distance: np.ndarray, size: int) -> np.ndarray:
    """Anti-aliased coverage of distance < 0; distance in units of half the side, `size` pixels a side."""
    return np.clip(0.5 - distance * size / 2, 0.0, 1.0)


def _turned(size: int, angle: float) -> tuple[np.ndarray, np.ndarray]:
    y, x = grid(size, size)
    c, s = np.cos(angle), np.sin(angle)
    return c * y + s * x, c * x - s * y


def _polygon(y: np.ndarray, x: np.ndarray, points: int, waist: float) -> np.ndarray:
    """Distance-like function of a star; waist = cos(pi / points) makes it the regular polygon."""
    sector = np.pi / points
    around = np.abs(np.mod(np.arctan2(y, x), 2 * sector) - sector)
    radius = np.hypot(y, x)
    tip = radius * np.cos(around - sector), radius * np.sin(sector - around)
    inner = 0.85 * waist * np.cos(sector), 0.85 * waist * np.sin(sector)
    edge = inner[0] - 0.85, inner[1]
    return ((tip[0] - 0.85) * edge[1] - tip[1] * edge[0]) / np.hypot(*edge)


def _logo_distance(logo: Logo, size: int) -> np.ndarray:
    y, x = _turned(size, logo.angle * np.pi / 6)
    radius = np.hypot(y, x)
    match logo.shape:
        case "ring":
            return np.abs(radius - 0.6) - 0.06 * logo.points
        case "stripes":
            return np.maximum(radius - 0.9, -np.sin(y * logo.points * 2.2) / (logo.points * 2.2))
        case "star":
            return _polygon(y, x, logo.points, 0.4)
        case "polygon":
            return _polygon(y, x, logo.points, float(np.cos(np.pi / logo.points)))
        case "cross":
            arm = 0.1 + 0.05 * logo.points
            return np.maximum(np.minimum(np.abs(y), np.abs(x)) - arm, np.maximum(np.abs(y), np.abs(x)) - 0.85)
        case _:
            return radius - 0.9


def draw_logo(logo: Logo, size: int, *, font: str) -> tuple[np.ndarray, np.ndarray]:
    """A logo as (colours float32 [3,size,size], coverage float32 [size,size]); outside the shape coverage is 0."""
    colours = paint(logo.hue / 12, dark=logo.points % 2 == 0)
    body = soft(_logo_distance(logo, size), size)
    if logo.shape not in ("disc", "letter"):
        return fill(body, colours), np.ones((size, size), np.float32)
    mark = draw_text((size, size), logo.letter, font=font, margin=max(1, size // 6))
    coverage = body if logo.shape == "disc" else np.ones((size, size))
    return fill(mark, colours), coverage.astype(np.float32)


def draw_texture(texture: Texture, size: int) -> np.ndarray:
    """A texture float32 [3,size,size]; the number's digits choose period (2.5 to 6.5 px), angle and hue."""
    number = texture.number
    period, angle = 2.5 + 0.5 * (number % 9), (number // 9 % 12) * np.pi / 12
    y, x = (axis * size / 2 for axis in _turned(size, angle))
    wave = np.sin(2 * np.pi * y / period), np.sin(2 * np.pi * x / period)
    match texture.kind:
        case "stripes":
            level = wave[0]
        case "checker":
            level = wave[0] * wave[1] * 2
        case "dots":
            level = wave[0] + wave[1]
        case _:
            turn = number % 97
            level = np.sin(1.7 * y + 0.31 * turn + 2 * wave[1]) + np.sin(2.3 * x + 0.17 * turn + 2 * wave[0])
    return fill(np.clip(0.5 + level, 0.0, 1.0), paint((number // 108) / 24, dark=number % 2 == 0))


def draw_plate(text: str, size: int, *, font: str, hue: int) -> np.ndarray:
    """A plate with text, float32 [3,size,size], a thin rim around it."""
    colours = paint(hue / 24, dark=hue % 2 == 0)
    return fill(draw_text((size, size), text, font=font), colours)


def draw_background(size: int, rng: np.random.Generator) -> np.ndarray:
    """A scene behind the object: a colour gradient with two soft discs or bars, float32 [3,size,size]."""
    y, x = grid(size, size)
    colours, numbers = rng.random((4, 3)), rng.random((2, 5))
    slope = np.clip(0.5 + 0.35 * (y * (2 * numbers[0, 0] - 1) + x * (2 * numbers[1, 0] - 1)), 0.0, 1.0)
    scene = colours[0][:, None, None] * (1 - slope) + colours[1][:, None, None] * slope
    for colour, (_, top, left, extent, form) in zip(colours[2:], numbers, strict=True):
        v, u = y - (2 * top - 1), x - (2 * left - 1)
        distance = np.hypot(v, u) if form < 0.5 else np.abs(v * (form - 0.5) * 2 + u * (1 - form) * 2)
        cover = soft(distance - 0.15 - 0.4 * extent, size)
        scene = scene + (colour[:, None, None] - scene) * cover
    return scene.astype(np.float32)
