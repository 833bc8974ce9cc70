"""What users say of a picture, kept as rows of a manifest that `burnish train` reads.

Off unless a directory is configured. Requests of late are remembered in memory, bounded in bytes, so that a verdict
can be joined with what it is about; only what gets a verdict is written, bounded in bytes too.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

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
        self._bytes = 0
        self._filled = sum(f.stat().st_size for f in directory.iterdir() if f.is_file())

    def remember(self, request_id: str, job: Job, done: Done, version: ServedVersion) -> None:
        """Keep an answered request for a while."""
        shape = job.picture.pixels.shape[1:]
        frame = (0, 0, shape[1], shape[0])
        mask = np.maximum.reduce([piece.region.within(frame) for piece in done.pieces])
        kept = Remembered(job.example, mask, done.pixels[0], version, job.seeds[0])
        if kept.size > REMEMBERED:
            return
        self._remembered[request_id] = kept
        self._bytes += kept.size
        while self._bytes > REMEMBERED:
            self._bytes -= self._remembered.popitem(last=False)[1].size

    def store(self, asked: FeedbackRequest) -> Remembered:
        """Write a verdict or a corrected picture.

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
        if self._filled + kept.size > self._limit:
            raise Refusal(409, "feedback_full", "no room for more feedback", [Problem("feedback", "full", "room")])
        self._write(asked, kept, target)
        return kept

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

    def _write(self, asked: FeedbackRequest, kept: Remembered, target: np.ndarray | None) -> None:
        name, example = asked.request_id, kept.example
        pictures = {"image": example.image, "mask": kept.mask, "target": target, "output": kept.output}
        pictures |= {f"reference{i}": r.image for i, r in enumerate(example.references)}
        for part, array in pictures.items():
            if array is not None:
                file = self._directory / f"{name}-{part}.png"
                save_png(file, array)
                self._filled += file.stat().st_size
        references = [{"kind": r.kind, "path": f"{name}-reference{i}.png"} for i, r in enumerate(example.references)]
        meta = {"source": "feedback", "verdict": asked.verdict or "corrected", "policy": kept.version.name}
        row = {
            "id": name,
            "image": f"{name}-image.png",
            "mask": f"{name}-mask.png",
            "references": references,
            "instruction": example.instruction or "refine",
            "meta": {**meta, "digest": kept.version.digest, "seed": kept.seed},
        }
        if target is not None:
            row["target"] = f"{name}-target.png"
        with (self._directory / MANIFEST).open("a") as stream:
            stream.write(json.dumps(row) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
