"""Reference images: other renderings of what the box should hold, so that copying pixels is not always the answer.

Called by the drawn and the photographed sources. A source hands over `Views`; the kind and a keyed generator decide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from burnish.data.degrade import patch_shuffle
from burnish.data.filters import gaussian_blur, perspective, snap
from burnish.data.records import Reference


@dataclass(frozen=True)
class Views:
    """What a source can show of an example.

    Args:
        clean: float32 [3,h,w], the target's box.
        around: float32 [3,h,w], the scene without the object.
        elsewhere: draws the object in front of another background, float32 [3,h,w].
    """

    clean: np.ndarray
    around: np.ndarray
    elsewhere: Callable[[np.random.Generator], np.ndarray]


def relight(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gain 0.75 to 1.2 and an offset of at most 0.08."""
    return crop * rng.uniform(0.75, 1.2) + rng.uniform(-0.08, 0.08)


def _detail(views: Views, rng: np.random.Generator, mode: str) -> np.ndarray:
    """The clean crop, in one case of four as it is, else moved, re-lit or on another background."""
    way = 0 if mode == "copy" else int(rng.integers(4))
    if way == 0:
        return views.clean
    if way == 1:
        return relight(views.clean, rng)
    if way == 2:
        return perspective(views.clean, rng, strength=0.08)
    return views.elsewhere(rng)


def _subject(views: Views, rng: np.random.Generator, mode: str) -> np.ndarray:
    return relight(perspective(views.elsewhere(rng), rng), rng)


def _style(views: Views, rng: np.random.Generator, mode: str) -> np.ndarray:
    return patch_shuffle(views.clean, rng, 1.0)


def _lighting(views: Views, rng: np.random.Generator, mode: str) -> np.ndarray:
    return gaussian_blur(views.clean, sigma=views.clean.shape[-1] / 3)


def _background(views: Views, rng: np.random.Generator, mode: str) -> np.ndarray:
    return views.around


_MAKERS: dict[str, Callable[[Views, np.random.Generator, str], np.ndarray]] = {
    "detail": _detail,
    "subject": _subject,
    "style": _style,
    "lighting": _lighting,
    "background": _background,
}


def make_references(
    kinds: tuple[str, ...], views: Views, rng: np.random.Generator, *, mode: str
) -> tuple[Reference, ...]:
    """One reference a kind, each float32 [3,h,w] on the 8-bit grid; mode "copy" keeps the first an exact copy."""
    return tuple(Reference(kind, snap(_MAKERS[kind](views, rng, mode))) for kind in kinds)
