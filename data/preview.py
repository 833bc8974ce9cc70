"""A sheet that shows made quadruples to a person: input, marked region, close-ups, reference, and what was done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from burnish.data.images import resize, to_uint8
from burnish.data.masks import dilate, mask_bbox
from burnish.data.quadruples import Quadruple
from burnish.data.records import Box

CELL, GAP, HEAD, FOOT = 256, 12, 34, 40
_PAPER, _INK, _SOFT, _FRAME = (250, 250, 248), (30, 30, 32), (120, 120, 124), (214, 214, 210)
_MARK = np.array([1.0, 0.25, 0.1], np.float32)[:, None, None]
_COLUMNS = ("input", "region", "close-up of the input", "close-up of the target", "reference")


def preview_sheet(quadruples: Sequence[Quadruple], path: Path) -> None:
    """Write a PNG with one row a quadruple.

    Args:
        quadruples: at least one, shown in this order.
        path: the file; its folder must exist.
    """
    width = GAP + len(_COLUMNS) * (CELL + GAP)
    height = HEAD + len(quadruples) * (CELL + FOOT) + GAP
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    head, small = ImageFont.load_default(size=16), ImageFont.load_default(size=13)
    for place, title in enumerate(_COLUMNS):
        draw.text((GAP + place * (CELL + GAP), 9), title, fill=_INK, font=head)
    for row, quadruple in enumerate(quadruples):
        top = HEAD + row * (CELL + FOOT)
        for place, image in enumerate(_cells(quadruple)):
            left = GAP + place * (CELL + GAP)
            if image is None:
                draw.rectangle((left, top, left + CELL - 1, top + CELL - 1), outline=_FRAME)
                draw.text((left + CELL / 2, top + CELL / 2), "none", fill=_SOFT, font=small, anchor="mm")
            else:
                sheet.paste(_fitted(image), (left, top))
        draw.text((GAP, top + CELL + 8), _caption(quadruple), fill=_SOFT, font=small)
    sheet.save(path, format="PNG", optimize=True)


def _cells(quadruple: Quadruple) -> tuple[np.ndarray | None, ...]:
    x1, y1, x2, y2 = _close_up(quadruple)
    return (
        quadruple.image,
        _marked(quadruple),
        quadruple.image[:, y1:y2, x1:x2],
        quadruple.target[:, y1:y2, x1:x2],
        quadruple.reference,
    )


def _close_up(quadruple: Quadruple) -> Box:
    """A square round the mask, with a third of its side around, moved into the frame."""
    x1, y1, x2, y2 = mask_bbox(quadruple.mask)
    frame = quadruple.target.shape[1]
    side = min(frame, max(32, max(x2 - x1, y2 - y1) * 5 // 3))
    left = min(max(0, (x1 + x2 - side) // 2), frame - side)
    top = min(max(0, (y1 + y2 - side) // 2), frame - side)
    return left, top, left + side, top + side


def _marked(quadruple: Quadruple) -> np.ndarray:
    """The input with the mask tinted and its edge drawn, paler around."""
    mask = quadruple.mask
    edge = dilate(mask, size=1 + 2 * max(1, mask.shape[-1] // 256)) - mask
    tinted = 0.45 * quadruple.image + 0.55 * _MARK
    shown = np.where(mask > 0, tinted, 0.6 * quadruple.image + 0.4)
    return np.where(edge > 0, _MARK, shown).astype(np.float32)


def _fitted(image: np.ndarray) -> Image.Image:
    method = "area" if image.shape[-1] > CELL else "bicubic" if image.shape[-1] > CELL // 4 else "nearest"
    return Image.fromarray(to_uint8(resize(image, height=CELL, width=CELL, method=method)).transpose(1, 2, 0))


def _caption(quadruple: Quadruple) -> str:
    x1, y1, x2, y2 = quadruple.box
    share = quadruple.mask.sum() / ((x2 - x1) * (y2 - y1))
    words = (
        quadruple.degradation.replace("_", " "),
        f"error in the region {quadruple.error:.4f}",
        f"{share:.0%} of a {x2 - x1} px box",
        f"“{quadruple.instruction}”",
    )
    return "  ·  ".join(words)
