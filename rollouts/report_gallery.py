"""The gallery of the report: input, references, every stage's output and the target, with the region enlarged.

Called by `report_page.py`. Pure; texts are escaped, pictures are data URIs at their own size and scaled by the browser.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from burnish.data.crops import cut
from burnish.rollouts.report_charts import number
from burnish.rollouts.report_pictures import Picture, data_uri


def _outline(picture: Picture) -> str:
    height, width = picture.target.shape[1:]
    x1, y1, x2, y2 = picture.box
    place = (
        f"left:{100 * x1 / width:.2f}%;top:{100 * y1 / height:.2f}%;"
        f"width:{100 * (x2 - x1) / width:.2f}%;height:{100 * (y2 - y1) / height:.2f}%"
    )
    return f'<i style="{place}"></i>'


def _shot(picture: Picture, label: str, image: np.ndarray, *, below: str, outline: bool) -> str:
    alt = f"{label} of {picture.example_id}"
    mark = _outline(picture) if outline else ""
    return (
        f'<figure><div class="frame"><img src="{data_uri(image)}" alt="{escape(alt)}">{mark}</div>'
        f'<img class="zoom" src="{data_uri(cut(image, picture.box))}" alt="{escape(alt)}, region only">'
        f"<figcaption><b>{escape(label)}</b>{below}</figcaption></figure>"
    )


def _references(picture: Picture) -> str:
    if not picture.references:
        return ""
    images = "".join(
        f'<img src="{data_uri(image)}" alt="Reference {i} of {escape(picture.example_id)}">'
        for i, image in enumerate(picture.references, start=1)
    )
    many = " many" if len(picture.references) > 1 else ""
    word = "Reference" if len(picture.references) == 1 else f"{len(picture.references)} references"
    return f'<figure><div class="ref{many}">{images}</div><figcaption><b>{word}</b></figcaption></figure>'


def _card(picture: Picture) -> str:
    errors = {k: number(picture.errors.get(k)) for k in ("input", *picture.outputs)}
    shots = []
    if picture.input is not None:
        shots.append(_shot(picture, "Input", picture.input, below=errors["input"], outline=True))
    shots.append(_references(picture))
    for label, image in picture.outputs.items():
        shots.append(_shot(picture, label, image, below=errors[label], outline=False))
    shots.append(_shot(picture, "Target", picture.target, below="&nbsp;", outline=False))
    pills = "".join(
        f'<span class="pill">{escape(t.replace("_", " "))}</span>' for t in (picture.source, picture.note) if t
    )
    return (
        f'<article class="card"><h3>{escape(picture.caption or picture.example_id)}</h3>'
        f'<div class="small">{escape(picture.example_id)}{pills}</div>'
        f'<div class="shots">{"".join(shots)}</div></article>'
    )


def gallery(pictures: Sequence[Picture]) -> str:
    """Cards of all pictures, empty text where there is none."""
    return f'<div class="gallery">{"".join(map(_card, pictures))}</div>' if pictures else ""
