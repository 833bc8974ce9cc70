"""A small reader of drawn text: which characters does the region show, by normalised cross-correlation?

Called by the evaluation as a gold metric that no reward trains on. It knows the font, the place and the number of
characters (from `Example.meta`), never the characters: up to two are read jointly, from all 36 or 1,296 strings; of
longer text each character is read with its neighbours given. Reads only text that `data/synthetic.py` drew.
Legend: L characters, P pixels of the region, S candidate strings.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import numpy as np

from burnish.data.crops import cut
from burnish.data.glyphs import CHARACTERS, draw_text
from burnish.data.records import Box, Example

_JOINT = 2
_TIE = 1e-4
"""Two glyphs can have the same pixels at 5 px; a truth that correlates this close to the best counts as read."""


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows [S,P] without their mean and of length 1; rows without contrast become 0."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.where(length > 1e-4, centred / np.maximum(length, 1e-4), 0.0)


def _templates(strings: Sequence[str], canvas: tuple[int, int], font: str) -> np.ndarray:
    """Unit templates float64 [S,P] of whole strings, drawn as the plates are."""
    drawn = [draw_text(canvas, text, font=font).reshape(-1) for text in strings]
    return _unit(np.stack(drawn).astype(np.float64))


@functools.lru_cache(maxsize=32)
def _joint_templates(length: int, canvas: tuple[int, int], font: str) -> np.ndarray:
    return _templates([*map("".join, itertools.product(CHARACTERS, repeat=length))], canvas, font)


def _coverage(region: np.ndarray, target: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Region [3,h,w] seen along the colour axis that text and plate span in the target, unit row [1,P]."""
    axis = target.reshape(3, -1).astype(np.float64) @ template
    return _unit((axis @ region.reshape(3, -1).astype(np.float64))[None])


def _read_jointly(seen: np.ndarray, text: str, canvas: tuple[int, int], font: str) -> float:
    scores = _joint_templates(len(text), canvas, font) @ seen[0]
    best = float(scores.max())
    if best <= _TIE:
        return 0.0
    base = len(CHARACTERS)
    digits = np.flatnonzero(scores >= best - _TIE)
    places = [digits // base ** (len(text) - 1 - k) % base for k in range(len(text))]
    return float(np.mean([CHARACTERS.index(c) in found.tolist() for c, found in zip(text, places, strict=True)]))


def _read_one_by_one(seen: np.ndarray, text: str, canvas: tuple[int, int], font: str) -> float:
    right = []
    for place, character in enumerate(text):
        strings = [text[:place] + other + text[place + 1 :] for other in CHARACTERS]
        scores = _templates(strings, canvas, font) @ seen[0]
        truth = scores[CHARACTERS.index(character)]
        right.append(bool(truth > _TIE and truth >= scores.max() - _TIE))
    return float(np.mean(right))


def _box(example: Example) -> Box:
    x1, y1, x2, y2 = (int(part) for part in str(example.meta["box"]).split(","))
    return x1, y1, x2, y2


def character_accuracy(image: np.ndarray, example: Example) -> float:
    """Share of the characters that read right, in [0,1]; NaN without drawn text, a target or a finite image.

    Args:
        image: float [3,H,W] in [0,1], the size of the example's target.
        example: its meta names "text", "font" and "box" (x1,y1,x2,y2).
    """
    if example.target is None or not {"text", "font", "box"} <= set(example.meta):
        return float("nan")
    if not np.isfinite(image).all():
        return float("nan")
    text, font, box = str(example.meta["text"]), str(example.meta["font"]), _box(example)
    canvas = (box[3] - box[1], box[2] - box[0])
    template = _templates([text], canvas, font)[0]
    seen = _coverage(cut(image, box), cut(example.target, box), template)
    read = _read_jointly if len(text) <= _JOINT else _read_one_by_one
    return read(seen, text, canvas, font)


def glyph_accuracy(images: np.ndarray, examples: Sequence[Example]) -> np.ndarray:
    """`character_accuracy` of a batch, float64 [B]; NaN where it does not apply.

    Args:
        images: float [B,3,H,W] in [0,1].
        examples: B entries.
    """
    return np.array([character_accuracy(i, e) for i, e in zip(images, examples, strict=True)], dtype=np.float64)
