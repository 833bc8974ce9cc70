"""Whether a reward does what a reward should, on an example drawn in code.

A run's own trial (`loaded.py`) asks whether a reward can be used; this also asks whether the target itself scores
best, and how long a call takes. Called by `burnish rewards check`; reads no file but the reward's own.
"""

from __future__ import annotations

import math
import statistics
import textwrap
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from burnish.data.degrade import degrade_crop
from burnish.data.layout import DataConfig
from burnish.data.records import Example
from burnish.data.seeding import generator
from burnish.data.synthetic import DrawnSource
from burnish.rewards.batches import call_reward, score_batches
from burnish.rewards.canary import RANGE_SLACK
from burnish.rewards.loaded import LoadedReward, load_reward
from burnish.rewards.protocol import is_remote
from burnish.rewards.rubric import RewardSpec

OUTPUTS = ("identical", "light", "heavy")
"""What is scored: the target itself; JPEG artefacts all over it; its mean colour and noise."""
TIMED_CALLS = 3
WIDTH = 80


@dataclass(frozen=True)
class Check:
    """What was found out about a reward.

    Args:
        spec: what was asked for.
        digest: which reward it is, see `rubric.reward_version`.
        weights_digest: of its weight files, '' where it has none.
        direction: +1 if larger is better, -1 if smaller is.
        values: output -> raw score; NaN = missing.
        load_seconds: wall seconds that loading and the run's own trial took.
        call_seconds: wall seconds of a call of `spec.batch` rows, the median of three after a first one; of a remote
            reward, of the one call that it got.
        problems: what is odd, a sentence each.
    """

    spec: RewardSpec
    digest: str
    weights_digest: str
    direction: int
    values: Mapping[str, float]
    load_seconds: float
    call_seconds: float
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values; a missing score is null."""
        return {
            "name": self.spec.name,
            "kind": self.spec.kind,
            "better": "larger" if self.direction > 0 else "smaller",
            "digest": self.digest,
            "weights_sha256": self.weights_digest,
            "scores": {name: value if math.isfinite(value) else None for name, value in self.values.items()},
            "load_seconds": round(self.load_seconds, 3),
            "batch": self.spec.batch,
            "call_seconds": round(self.call_seconds, 6),
            "problems": list(self.problems),
        }

    def lines(self) -> list[str]:
        """The same for people, in lines of at most 80 columns."""
        scores = [f"{name} {f'{v:.6g}' if math.isfinite(v) else 'missing'}" for name, v in self.values.items()]
        rows = {
            "name": self.spec.name,
            "kind": self.spec.kind,
            "digest": self.digest,
            "weights_sha256": self.weights_digest or "no weight files",
            "scores": f"{', '.join(scores)} ({'larger' if self.direction > 0 else 'smaller'} is better)",
            "time": f"{self.load_seconds:.3g} s to load, {self.call_seconds:.3g} s a call of {self.spec.batch} rows",
        }
        found = [(f"{key:14}  ", text) for key, text in rows.items()]
        found += [("problem: ", text) for text in self.problems]
        return [line for head, text in found for line in _wrapped(head, text)]


def check_reward(spec: RewardSpec) -> Check:
    """Load a reward, try it as a run does, then score three outputs whose order is known.

    Raises:
        ConfigError: it cannot be built, or its weight files are not those that the spec names.
        RewardError: it fails the run's own trial, or on the sample. OSError: a file or a connection failed.
    """
    loaded = load_reward(spec)
    example, images = sample()
    started = time.perf_counter()
    scores = score_batches(loaded.reward, images, example=example, name=spec.name, batch=spec.batch)
    seconds = (time.perf_counter() - started) / math.ceil(len(images) / spec.batch)
    return Check(
        spec,
        loaded.prepared.digest,
        loaded.weights_digest,
        loaded.reward.direction,
        dict(zip(OUTPUTS, (scores + 0.0).tolist(), strict=True)),
        loaded.prepared.seconds,
        seconds if is_remote(loaded.reward) else _call_seconds(loaded, spec.name),
        tuple(judge(scores, direction=loaded.reward.direction, bounds=loaded.reward.range)),
    )


@lru_cache(maxsize=1)
def sample() -> tuple[Example, np.ndarray]:
    """A drawn sign of 64 px with five references, and outputs float32 [3,3,64,64] in [0,1], see `OUTPUTS`."""
    config = DataConfig(image_size=64, box_size=32, text_length=(2, 4), reference_weights=(0, 0, 0, 0, 0, 1))
    example = DrawnSource("text", config).example("dev", 0)
    assert example.target is not None
    defects = {"light": "jpeg", "heavy": "removal"}
    damaged = [degrade_crop(example.target, how, generator(0, "reward-check", name)) for name, how in defects.items()]
    return example, np.stack([example.target, *damaged])


def judge(scores: np.ndarray, *, direction: int, bounds: tuple[float, float]) -> list[str]:
    """What is odd about the scores of `OUTPUTS`, a sentence each.

    Args:
        scores: float32 [3], NaN = missing.
        direction: +1 if larger is better, -1 if smaller is.
        bounds: lowest and highest value that the reward declares.
    """
    found = dict(zip(OUTPUTS, scores.tolist(), strict=True))
    missing = [name for name, value in found.items() if not math.isfinite(value)]
    known = {name: value for name, value in found.items() if name not in missing}
    low, high = bounds
    outside = [name for name, value in known.items() if not low - RANGE_SLACK <= value <= high + RANGE_SLACK]
    best = known.get("identical", math.nan)
    better = [name for name, value in known.items() if direction * (value - best) > RANGE_SLACK]
    texts = []
    if missing:
        kinds = "a target, a mask and references of all kinds but pose"
        texts.append(f"no score for {', '.join(missing)}: does it apply to an example with {kinds}?")
    if outside:
        texts.append(f"{', '.join(outside)} outside the declared range [{low:g}, {high:g}]")
    if better:
        texts.append(
            f"{', '.join(better)} scored better than the target itself: right only if it compares with a reference"
        )
    if len(known) > 1 and len(set(known.values())) == 1:
        texts.append("all outputs score the same: it tells nothing here")
    return texts


def _call_seconds(loaded: LoadedReward, name: str) -> float:
    example, images = sample()
    rows = images[np.arange(loaded.batch) % len(images)]
    seconds = []
    for _ in range(TIMED_CALLS):
        started = time.perf_counter()
        call_reward(loaded.reward, rows.copy(), [example] * loaded.batch, name=name)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _wrapped(head: str, text: str) -> list[str]:
    """The text behind its head, wrapped and indented; what has no blank is not cut."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_long_words=False
    ) or [head.rstrip()]
