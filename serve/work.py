"""One job from pixels to bytes: cut out, make, paste, encode. It answers with the version it was given, or not at all.

Called by the service. What is large (the whole picture) stays in this process; replicas get what the model sees.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from burnish.data.pictures import LOSSLESS, Picture, write_picture
from burnish.data.records import SamplerSpec
from burnish.policies.pieces import Focus, Piece
from burnish.policies.refiner import SnapshotRecord, read_snapshot
from burnish.serve.backend import Backend
from burnish.serve.engine import Made, Unit
from burnish.serve.intake import Job
from burnish.serve.pixels import in_thread
from burnish.serve.schema import FORMATS, RefineOptions
from burnish.serve.versions import ServedVersion

DEFAULT_ETA = 0.7
"""Noise level of an SDE sampler where the snapshot's own sampler has none."""
Tell = Callable[[str, dict[str, Any]], None]
"""Hears the events of a request: name and data, see docs/serve.md."""


@dataclass(frozen=True, eq=False)
class Done:
    """A finished job: encoded pictures, one a sample, and what made them.

    `made` is what the policy gave, float32 [3,h,w] at its own size, by sample and then by piece, before paste-back.
    """

    payloads: tuple[bytes, ...]
    pixels: tuple[np.ndarray, ...]
    format: str
    exact: bool
    digest: str
    steps: int
    pieces: tuple[Piece, ...]
    made: tuple[np.ndarray, ...]

    @property
    def regions(self) -> list[dict[str, list[int]]]:
        """As `schema.RegionOut`."""
        return _regions(self.pieces)


def _regions(pieces: Sequence[Piece]) -> list[dict[str, list[int]]]:
    return [{"box": list(p.region.box), "crop": list(p.crop)} for p in pieces]


def _record(snapshot: str) -> SnapshotRecord:
    return read_snapshot(Path(snapshot))


def focus_of(version: ServedVersion, options: RefineOptions) -> Focus:
    """The crop of a version with what the request changes of it."""
    asked = {"margin": options.margin, "margin_frame": options.margin_frame}
    return Focus(_record(version.snapshot).refiner.model_copy(update={k: v for k, v in asked.items() if v is not None}))


def sampler_of(version: ServedVersion, options: RefineOptions) -> SamplerSpec:
    """The sampler of a version with what the request changes of it."""
    spec = _record(version.snapshot).sampler
    kind = options.sampler or spec.kind
    eta = 0.0 if kind == "ode" else spec.eta or DEFAULT_ETA
    return replace(spec, kind=kind, eta=eta, num_steps=options.steps or spec.num_steps)


async def carry_out(job: Job, version: ServedVersion, backend: Backend, tell: Tell | None = None) -> Done:
    """Do a job with one version.

    Args:
        job: what is asked for.
        version: chosen by the caller, once.
        backend: makes the pictures.
        tell: hears `accepted` and `progress`.

    Raises:
        DataError: the policy does not take what is asked for.
        Refusal: 503, a replica died.
        RuntimeError: a replica answered with another version than it was told to.
    """
    focus, sampler = focus_of(version, job.options), sampler_of(version, job.options)
    pieces = await in_thread(focus.cut_out, job.example, job.regions)
    units = [Unit(piece.view, seed, job.cut) for seed in job.seeds for piece in pieces]
    if tell is not None:
        tell("accepted", {"steps": sampler.num_steps, "regions": _regions(pieces)})
    on_unit = None if tell is None else _Progress(tell, pieces, len(job.seeds), sampler.num_steps, job.options.previews)
    made = await backend.generate(version, units, sampler, on_unit)
    if made.digest != version.digest:
        raise RuntimeError(f"a replica answered with {made.digest[:12]}, asked for {version.digest[:12]}")
    return await in_thread(_finish, job, focus, pieces, made, sampler.num_steps)


def _finish(job: Job, focus: Focus, pieces: tuple[Piece, ...], made: Made, steps: int) -> Done:
    """Paste every sample's pieces and encode it."""
    chosen = output_format(job.options, job.picture)
    images = []
    for sample in range(len(job.seeds)):
        own = made.images[sample * len(pieces) : (sample + 1) * len(pieces)]
        images.append(focus.paste(job.picture.pixels, pieces, own))
    encode = [write_picture(i, like=job.picture, format=chosen, quality=job.options.output_quality) for i in images]
    exact = chosen in LOSSLESS
    return Done(tuple(encode), tuple(images), chosen, exact, made.digest, steps, pieces, made.images)


def output_format(options: RefineOptions, picture: Picture) -> str:
    """PNG, WEBP or JPEG: what is asked for, else the input's format where that can be lossless, else PNG."""
    if options.output_format is not None:
        return options.output_format.upper()
    return picture.format if picture.format in LOSSLESS else "PNG"


def mime_of(format: str) -> str:
    """The media type of a format's name."""
    return FORMATS[format.lower()]


class _Progress:
    """Turns the steps of units into progress events whose fraction only grows."""

    def __init__(self, tell: Tell, pieces: Sequence[Piece], samples: int, steps: int, previews: bool) -> None:
        self._tell, self._pieces, self._samples, self._steps = tell, pieces, samples, steps
        self._previews, self._finished = previews, 0

    def __call__(self, unit: int, step: int, idea: np.ndarray | None) -> None:
        """A unit finished a step."""
        regions = len(self._pieces)
        sample, region = divmod(unit, regions)
        self._finished += 1
        preview = None
        if self._previews and idea is not None:
            like = Picture(idea, "PNG")
            payload = write_picture(idea, like=like, format="PNG")
            crop = list(self._pieces[region].crop)
            preview = {"b64": base64.b64encode(payload).decode(), "mime": "image/png", "crop": crop}
        place = {"step": step, "region": region, "regions": regions, "sample": sample, "samples": self._samples}
        fraction = self._finished / (self._steps * regions * self._samples)
        self._tell("progress", {"steps": self._steps, **place, "fraction": min(1.0, fraction), "preview": preview})
