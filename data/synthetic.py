"""Drawn examples: text on a plate, logos and textures in front of a drawn scene, with an exact clean target.

Called through `sources.make_source`. The splits are disjoint: text strings, logo parameters and texture numbers are
dealt to train, dev and heldout by a hash, fonts by a list. Content is a pure function of (data seed, split, index).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from burnish.data.crops import cut, put
from burnish.data.degrade import degrade, visible
from burnish.data.drawings import (
    LOGO_SHAPES,
    TEXTURE_KINDS,
    Logo,
    Texture,
    draw_background,
    draw_logo,
    draw_plate,
    draw_texture,
)
from burnish.data.filters import snap
from burnish.data.glyphs import CHARACTERS
from burnish.data.layout import TEXT_CHANGE, DataConfig, block_geometry, check_split
from burnish.data.records import Box, Example
from burnish.data.references import Views, make_references
from burnish.data.scribbles import region_mask
from burnish.data.seeding import generator, key_bytes

FONTS = {
    "train": ("sans", "sans-oblique", "sans-bold-oblique", "serif-bold", "serif-italic", "mono", "roman-bold"),
    "dev": ("serif", "roman-bold-italic"),
    "heldout": ("sans-bold", "mono-bold", "roman"),
}
_BUCKETS = {"train": range(0, 179), "dev": range(179, 205), "heldout": range(205, 256)}
Render = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Drawing:
    """One drawn object.

    Args:
        render: box of a background, float32 [3,h,w] -> the object in front of it.
        key: what makes the object itself; intervals cluster by it.
        instruction: what the user would ask for.
        meta: text and font where there are any.
        change: generator -> a render of the object with other characters; drawn text only.
    """

    render: Render
    key: str
    instruction: str
    meta: dict[str, str]
    change: Callable[[np.random.Generator], Render] | None = None


def split_of(kind: str, key: str) -> str:
    """The split that a string, a logo or a texture belongs to: 70 % train, 10 % dev, 20 % heldout, by hash."""
    bucket = key_bytes(("split", kind, key))[0]
    return next(split for split, buckets in _BUCKETS.items() if bucket in buckets)


def _text(rng: np.random.Generator, length: int) -> str:
    return "".join(CHARACTERS[i] for i in rng.integers(len(CHARACTERS), size=length))


def change_text(text: str, rng: np.random.Generator, count: int) -> str:
    """The text with `count` of its characters replaced by others."""
    letters = list(text)
    for place in rng.permutation(len(text))[:count]:
        step = int(rng.integers(1, len(CHARACTERS)))
        letters[place] = CHARACTERS[(CHARACTERS.index(text[place]) + step) % len(CHARACTERS)]
    return "".join(letters)


def _draw_text(rng: np.random.Generator, split: str, config: DataConfig) -> Drawing:
    low, high = config.text_length
    length = int(rng.integers(low, high + 1))
    text = _text(rng, length)
    while split_of("text", text) != split:
        text = _text(rng, length)
    font = FONTS[split][int(rng.integers(len(FONTS[split])))]
    hue = int(rng.integers(24))

    def plate(characters: str) -> Render:
        return lambda scene: draw_plate(characters, config.box_size, font=font, hue=hue)

    def change(other: np.random.Generator) -> Render:
        return plate(change_text(text, other, int(other.integers(1, length + 1))))

    meta = {"text": text, "font": font}
    return Drawing(plate(text), text, f"Restore the sign so that it reads {text}.", meta, change)


def _draw_logo(rng: np.random.Generator, split: str, config: DataConfig) -> Drawing:
    while True:
        shape, points, angle, hue, letter = (int(n) for n in rng.integers(0, (len(LOGO_SHAPES), 5, 12, 12, 36)))
        logo = Logo(LOGO_SHAPES[shape], points + 3, angle, hue, CHARACTERS[letter])
        key = f"{logo.shape}-{logo.points}-{logo.angle}-{logo.hue}-{logo.letter}"
        if split_of("logo", key) == split:
            break
    font = FONTS[split][points % len(FONTS[split])]
    colours, coverage = draw_logo(logo, config.box_size, font=font)

    def render(scene: np.ndarray) -> np.ndarray:
        return scene + (colours - scene) * coverage

    return Drawing(render, key, "Restore the logo so that it matches the reference.", {})


def _draw_texture(rng: np.random.Generator, split: str, config: DataConfig) -> Drawing:
    while True:
        texture = Texture(TEXTURE_KINDS[int(rng.integers(len(TEXTURE_KINDS)))], int(rng.integers(2592)))
        key = f"{texture.kind}-{texture.number}"
        if split_of("texture", key) == split:
            break
    pattern = draw_texture(texture, config.box_size)
    return Drawing(lambda scene: pattern, key, "Restore the fabric's texture.", {})


DRAWERS: dict[str, Callable[[np.random.Generator, str, DataConfig], Drawing]] = {
    "text": _draw_text,
    "logo": _draw_logo,
    "texture": _draw_texture,
}


class DrawnSource:
    """Unbounded source of drawn examples of one kind.

    Args:
        kind: a key of DRAWERS.
        config: sizes, defects, references and the data seed.
    """

    def __init__(self, kind: str, config: DataConfig) -> None:
        self.name = f"drawn_{kind}"
        self._config = config
        self._draw = DRAWERS[kind]
        self._defects = tuple(d for d in config.degradations if d != TEXT_CHANGE or kind == "text")

    def count(self, split: str) -> int | None:
        """None: unbounded."""
        check_split(split)
        return None

    def repeats(self, split: str) -> frozenset[int]:
        """No index repeats another one."""
        return frozenset()

    def example(self, split: str, index: int) -> Example:
        """Example number `index` of a split; a pure function of (data seed, split, index)."""
        check_split(split)
        config = self._config
        geometry = block_geometry(config, name=self.name, split=split, index=index)
        rng = generator(config.seed, "data-drawn", self.name, split, index)
        drawing = self._draw(rng, split, config)
        scene = draw_background(config.image_size, rng)
        target = snap(put(scene, drawing.render(cut(scene, geometry.box)), geometry.box))
        defect = self._defects[int(rng.integers(len(self._defects)))]
        strokes = generator(config.seed, "data-scribble", self.name, split, index)
        mask = region_mask(config.masks, geometry.box, cut(target, geometry.box), strokes, side=config.image_size)
        image = self._damage(target, mask, cut(scene, geometry.box), geometry.box, drawing, defect, rng)

        def elsewhere(other: np.random.Generator) -> np.ndarray:
            return drawing.render(draw_background(config.box_size, other))

        views = Views(cut(target, geometry.box), cut(scene, geometry.box), elsewhere)
        return Example(
            id=f"{self.name}-{split}-{index}",
            instruction=drawing.instruction,
            image=image,
            mask=mask,
            references=make_references(geometry.kinds, views, rng, mode=config.reference_mode),
            target=target,
            meta=self._meta(split, geometry.box, drawing, defect),
        )

    def _meta(self, split: str, box: Box, drawing: Drawing, defect: str) -> dict[str, str]:
        where = ",".join(map(str, box))
        cluster = f"{self.name}:{drawing.key}"
        return {
            "source": self.name,
            "cluster": cluster,
            "split": split,
            "box": where,
            "degradation": defect,
        } | drawing.meta

    def _damage(
        self,
        target: np.ndarray,
        mask: np.ndarray,
        behind: np.ndarray,
        box: Box,
        drawing: Drawing,
        defect: str,
        rng: np.random.Generator,
    ) -> np.ndarray:
        floor, strokes = self._config.min_defect, mask if self._config.masks == "scribble" else None
        if defect != TEXT_CHANGE or drawing.change is None:
            return degrade(target, box, defect, rng, floor=floor, mask=strokes)
        clean, inside = cut(target, box), cut(mask, box)
        for _ in range(8):
            other = np.where(inside > 0, snap(drawing.change(rng)(behind)), clean)
            if visible(clean, other, floor, inside):
                return put(target, other, box)
        return degrade(target, box, "removal", rng, floor=floor, mask=strokes)
