"""Canary examples: what a version must not get worse at before and while it takes requests.

Examples with targets, scored by the run's gold rewards; written by the command that starts the server. A score is the
mean over rewards and examples of direction x value: larger is better. Files are safetensors and JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from burnish.data.pictures import Picture
from burnish.data.records import Box, Example, Reference
from burnish.policies.focus import FocusConfig, focused
from burnish.rewards.batches import score_batches
from burnish.rewards.protocol import Reward
from burnish.rewards.rubric import RewardSpec
from burnish.rewards.table import make_reward
from burnish.serve.intake import Job
from burnish.serve.schema import RefineOptions

ARRAYS, INDEX = "probe.safetensors", "probe.json"


def write_probe(directory: Path, examples: Sequence[Example], rewards: Sequence[Mapping[str, Any]]) -> None:
    """Write canary examples and the specs of what scores them."""
    arrays: dict[str, np.ndarray] = {}
    rows = []
    for number, example in enumerate(examples):
        named = {"image": example.image, "mask": example.mask, "target": example.target}
        arrays |= {f"{number}.{k}": np.ascontiguousarray(v) for k, v in named.items() if v is not None}
        arrays |= {f"{number}.reference.{i}": np.ascontiguousarray(r.image) for i, r in enumerate(example.references)}
        kinds = [r.kind for r in example.references]
        rows.append({"id": example.id, "instruction": example.instruction, "kinds": kinds, "meta": dict(example.meta)})
    save_file(arrays, directory / ARRAYS)
    (directory / INDEX).write_text(json.dumps({"examples": rows, "rewards": [dict(r) for r in rewards]}))


@dataclass(frozen=True, eq=False)
class Probe:
    """Canary examples and the rewards that score them."""

    examples: tuple[Example, ...]
    rewards: tuple[tuple[RewardSpec, Reward], ...]

    @classmethod
    def read(cls, directory: Path) -> Probe:
        """What `write_probe` wrote; nothing where there is none."""
        if not (directory / INDEX).exists():
            return cls((), ())
        tree, arrays = json.loads((directory / INDEX).read_text()), load_file(directory / ARRAYS)
        specs = [RewardSpec.model_validate_json(json.dumps(spec)) for spec in tree["rewards"]]
        examples = tuple(_example(number, row, arrays) for number, row in enumerate(tree["examples"]))
        return cls(examples, tuple((spec, make_reward(spec)) for spec in specs))

    def job(self, index: int) -> Job:
        """The request that an example stands for."""
        example = self.examples[index]
        assert example.image is not None
        options = RefineOptions(instruction=example.instruction)
        return Job(options, Picture(example.image, "PNG"), example, cut=True)

    def score(self, index: int, made: Sequence[np.ndarray], *, crops: Sequence[Box], focus: FocusConfig) -> float:
        """Score of what a policy made of an example; NaN where no reward applies or the output is not finite.

        Rewards see it as in training: before paste-back, beside the view of the example that the policy saw.

        Args:
            index: of the example.
            made: float32 [3,h,w] of each crop, at the policy's size.
            crops: boxes of the example's image.
            focus: the policy's sizes.
        """
        values = []
        for image, crop in zip(made, crops, strict=True):
            view = focused(self.examples[index], focus, box=crop)
            for spec, reward in self.rewards:
                (raw,) = score_batches(reward, image[None], example=view, name=spec.name, batch=1)
                values.append(reward.direction * float(raw))
        finite = [value for value in values if np.isfinite(value)]
        return float(np.mean(finite)) if finite else float("nan")


def _example(number: int, row: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Example:
    kinds = row["kinds"]
    references = tuple(Reference(kind, arrays[f"{number}.reference.{i}"]) for i, kind in enumerate(kinds))
    image, mask, target = (arrays.get(f"{number}.{name}") for name in ("image", "mask", "target"))
    return Example(row["id"], row["instruction"], image, mask, references, target, row["meta"])
