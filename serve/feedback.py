"""What users say of a picture, kept as rows of a manifest that `burnish train` reads.

Off unless a directory is configured. Requests of late are remembered in memory, bounded in bytes, so that a verdict
can be joined with what it is about; only what gets a verdict is written, bounded in bytes too.
"""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from burnish.data.errors import DataError, Problem
from burnish.data.images import save_png
from burnish.data.pictures import read_picture
from burnish.data.records import Example
from burnish.serve.intake import Job, Upload, json_upload
from burnish.serve.refusal import Refusal, invalid
from burnish.serve.schema import FeedbackRequest
from burnish.serve.versions import ServedVersion
from burnish.serve.work import Done

MANIFEST = "manifest.jsonl"
REMEMBERED = 256 << 20
"""Bytes of remembered requests."""


@dataclass(frozen=True, eq=False)
class Remembered:
    """A request that was answered."""

    example: Example
    mask: np.ndarray
    output: np.ndarray
    version: ServedVersion
    seed: int

    @property
    def size(self) -> int:
        """Bytes of its arrays."""
        return 4 * (self.output.size * 2 + self.mask.size + sum(r.image.size for r in self.example.references))


class Feedback:
    """Remembers requests and writes verdicts.

    Args:
        directory: where rows and pictures go; it is made.
        limit: bytes that it may fill.
    """

    def __init__(self, directory: Path, *, limit: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory, self._limit = directory, limit
        self._remembered: OrderedDict[str, Remembered] = OrderedDict()
        self._bytes, self._turn = 0, threading.Lock()

    def remember(self, request_id: str, job: Job, done: Done, version: ServedVersion) -> None:
        """Keep an answered request for a while."""
        shape = job.picture.pixels.shape[1:]
        frame = (0, 0, shape[1], shape[0])
        mask = np.maximum.reduce([piece.region.within(frame) for piece in done.pieces])
        kept = Remembered(job.example, mask, done.pixels[0], version, job.seeds[0])
        if kept.size > REMEMBERED:
            return
        earlier = self._remembered.pop(request_id, None)
        self._bytes += kept.size - (0 if earlier is None else earlier.size)
        self._remembered[request_id] = kept
        while self._bytes > REMEMBERED:
            self._bytes -= self._remembered.popitem(last=False)[1].size

    def store(self, asked: FeedbackRequest) -> tuple[Remembered, bool]:
        """Write a verdict or a corrected picture; (what it is about, whether it is the first word on it).

        A later word on the same request takes the place of the earlier one.

        Raises:
            Refusal: 404 the request is not remembered; 422 neither verdict nor picture, or one of another size; 409
                the directory is full.
        """
        kept = self._remembered.get(asked.request_id)
        if kept is None:
            problem = Problem("request_id", asked.request_id, "the id of a request that was answered lately")
            raise Refusal(404, "not_found", "no such request", [problem])
        if asked.verdict is None and asked.corrected is None:
            raise invalid(Problem("verdict, corrected", "neither", "one of them, or both"))
        target = self._target(asked, kept)
        with self._turn:
            if self._filled() + kept.size > self._limit:
                raise Refusal(409, "feedback_full", "no room for more feedback", [Problem("feedback", "full", "room")])
            self._pictures(asked.request_id, kept, target)
            return kept, self._enter(_row(asked, kept, target is not None))

    def _filled(self) -> int:
        return sum(file.stat().st_size for file in self._directory.iterdir() if file.is_file())

    def _target(self, asked: FeedbackRequest, kept: Remembered) -> np.ndarray | None:
        if asked.corrected is None:
            return kept.output if asked.verdict == "better" else None
        upload: Upload = json_upload({"image": asked.corrected})
        try:
            pixels = read_picture(upload.image, name="corrected").pixels
        except DataError as error:
            raise invalid(Problem("corrected", error.message, "a picture that keeps the limits")) from None
        if pixels.shape != kept.output.shape:
            got = "x".join(map(str, pixels.shape[:0:-1]))
            raise invalid(Problem("corrected", got, "x".join(map(str, kept.output.shape[:0:-1]))))
        return pixels

    def _pictures(self, name: str, kept: Remembered, target: np.ndarray | None) -> None:
        pictures = {"image": kept.example.image, "mask": kept.mask, "target": target, "output": kept.output}
        pictures |= {f"reference{i}": r.image for i, r in enumerate(kept.example.references)}
        for part, array in pictures.items():
            if array is not None:
                save_png(self._directory / f"{name}-{part}.png", array)

    def _enter(self, row: dict[str, Any]) -> bool:
        """Put a row into the manifest, in place of an earlier one of its id; whether there was none."""
        file = self._directory / MANIFEST
        lines = file.read_text().splitlines() if file.exists() else []
        others = [line for line in lines if json.loads(line)["id"] != row["id"]]
        aside = file.with_suffix(".aside")
        with aside.open("w") as stream:
            stream.writelines(f"{line}\n" for line in [*others, json.dumps(row)])
            stream.flush()
            os.fsync(stream.fileno())
        aside.rename(file)
        return len(others) == len(lines)


def _row(asked: FeedbackRequest, kept: Remembered, targeted: bool) -> dict[str, Any]:
    """The manifest's row of a verdict."""
    name, meta = asked.request_id, {"source": "feedback", "verdict": asked.verdict or "corrected"}
    row = {
        "id": name,
        "image": f"{name}-image.png",
        "mask": f"{name}-mask.png",
        "references": [
            {"kind": r.kind, "path": f"{name}-reference{i}.png"} for i, r in enumerate(kept.example.references)
        ],
        "instruction": _printable(kept.example.instruction) or "refine",
        "meta": {**meta, "policy": kept.version.name, "digest": kept.version.digest, "seed": kept.seed},
    }
    return row | {"target": f"{name}-target.png"} if targeted else row


def _printable(text: str) -> str:
    """The text on one line, as a manifest takes it."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
