"""Evaluation on dev or held-out examples: one row of numbers an example, under one sampler.

The training loop and `burnish eval` call it, also in several actors, each with a share of the examples;
`eval_result.py` merges the parts. It measures the policy's output before paste-back and after it. Noise is keyed by
example without the run's seed (see `rollouter.sample_examples`), so before and after are paired. It never trains,
and settings are chosen on dev only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from burnish.data.errors import DataError, RefusedError
from burnish.data.paste import paste_back
from burnish.data.records import Example, SamplerSpec
from burnish.data.sources import Source, eval_indices
from burnish.rollouts.metrics import edge_energy_ratio, masked_mse, outside_mse, ssim
from burnish.rollouts.recogniser import glyph_accuracy

METRICS = (
    "input_masked_mse",
    "masked_mse",
    "masked_mse_pasted",
    "outside_mse",
    "outside_mse_pasted",
    "edge_ratio",
    "ssim_pasted",
    "glyph_accuracy",
    "input_glyph_accuracy",
)
"""Columns of a part. `input_*` measures the degraded input, `*_pasted` the output after paste-back, the others the
policy's output itself. Errors are in [0,1]; an edge ratio of 1 is perfect; NaN = does not apply."""

LABELS = ("source", "cluster", "degradation", "references")


class EvaluationConfig(BaseModel):
    """How much is evaluated, how often, and under which samplers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    count: int = Field(
        default=256, description="held-out examples, evaluated at the start and the end of a stage", ge=1
    )
    dev_count: int = Field(default=64, description="dev examples, evaluated every few iterations", ge=1)
    every: int = Field(default=5, description="iterations between evaluations on dev, 0 = never", ge=0)
    batch: int = Field(
        default=4,
        description="rows of every evaluation forward, from one block of examples; short ones are padded",
        ge=1,
    )
    num_steps: int | None = Field(
        default=None, description="denoising steps as deployed (ode), null = the training sampler's", ge=1, le=100
    )
    samplers: tuple[Literal["ode", "sde"], ...] = Field(
        default=("ode", "sde"), description="ode: as deployed; sde: as trained", min_length=1
    )


class SampleFn(Protocol):
    """Images float32 [B,3,H,W] in [0,1] of B examples of one geometry; a row must not depend on the other rows."""

    def __call__(self, examples: Sequence[Example], sampler: SamplerSpec, /) -> np.ndarray:
        """Sample one image for each example."""
        ...


class PasteFn(Protocol):
    """Pastes an output [3,H,W] into its input by mask [1,H,W]."""

    def __call__(self, original: np.ndarray, generated: np.ndarray, mask: np.ndarray, /) -> np.ndarray:
        """The input with the region replaced."""
        ...


@dataclass(frozen=True, eq=False)
class EvalPart:
    """Rows of some evaluated examples.

    Args:
        sampler: "ode" or "sde".
        positions: int64 [n], place of each row in the whole evaluation; rows are merged by it.
        ids: n example ids.
        labels: name of LABELS -> n strings.
        values: name of METRICS -> float64 [n].
        images: example id -> output float32 [3,H,W] before paste-back, for the ids that were asked for.
    """

    sampler: str
    positions: np.ndarray
    ids: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]]
    values: Mapping[str, np.ndarray]
    images: Mapping[str, np.ndarray] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Rows as plain lists, NaN as None; images are left out."""
        values = {k: [float(x) if np.isfinite(x) else None for x in column] for k, column in self.values.items()}
        return {
            "sampler": self.sampler,
            "positions": self.positions.tolist(),
            "ids": list(self.ids),
            "labels": {k: list(v) for k, v in self.labels.items()},
            "values": values,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EvalPart:
        """The part that `to_json` wrote."""
        return cls(
            sampler=data["sampler"],
            positions=np.array(data["positions"], dtype=np.int64),
            ids=tuple(data["ids"]),
            labels={k: tuple(v) for k, v in data["labels"].items()},
            values={k: np.array(v, dtype=np.float64) for k, v in data["values"].items()},
        )


def deployed(training: SamplerSpec, config: EvaluationConfig) -> SamplerSpec:
    """The sampler that a policy is evaluated, refined and served with: the ODE, on a schedule of its own length."""
    return replace(training, kind="ode", eta=0.0, num_steps=config.num_steps or training.num_steps)


def evaluation_specs(training: SamplerSpec, config: EvaluationConfig) -> dict[str, SamplerSpec]:
    """Label -> sampler: the training sampler itself ("sde"), and the deployed one ("ode")."""
    specs = {"ode": deployed(training, config), "sde": training}
    return {label: specs[label] for label in config.samplers}


def evaluation_examples(
    source: Source, split: str, *, count: int, block: int, config: EvaluationConfig
) -> list[Example]:
    """The examples of an evaluation, the same for every run of one data configuration."""
    indices = eval_indices(source, split, count, block=block, per_block=config.batch)
    return [source.example(split, index) for index in indices]


def geometry_key(example: Example) -> tuple[Any, ...]:
    """All that decides whether two examples can share a batch: image size, reference sizes, box."""
    frame = next((a.shape[1:] for a in (example.image, example.target, example.mask) if a is not None), ())
    return frame, tuple(r.image.shape[1:] for r in example.references), example.meta.get("box")


def batches(examples: Sequence[Example], size: int) -> Iterator[list[int]]:
    """Indices of examples of one geometry, at most `size` at a time, in order of first appearance."""
    buckets: dict[tuple[Any, ...], list[int]] = {}
    for index, example in enumerate(examples):
        buckets.setdefault(geometry_key(example), []).append(index)
    for bucket in buckets.values():
        for first in range(0, len(bucket), size):
            yield bucket[first : first + size]


def _mask(example: Example) -> np.ndarray:
    shape = next(a.shape[1:] for a in (example.target, example.image) if a is not None)
    return np.ones((1, *shape), np.float32) if example.mask is None else example.mask


def _input(example: Example) -> np.ndarray:
    assert example.target is not None
    return np.full_like(example.target, np.nan) if example.image is None else example.image


def _measure(outputs: np.ndarray, examples: Sequence[Example], paste: PasteFn) -> dict[str, np.ndarray]:
    """METRICS of a batch [B,3,H,W]; an example without an input image is judged without paste-back."""
    targets = np.stack([e.target for e in examples if e.target is not None])
    inputs, masks = np.stack([_input(e) for e in examples]), np.stack([_mask(e) for e in examples])
    pairs = zip(outputs, examples, masks, strict=True)
    pasted = np.stack([o if e.image is None else paste(e.image, o, m) for o, e, m in pairs])
    small = min(targets.shape[-2:]) < 7
    return {
        "input_masked_mse": masked_mse(inputs, targets, masks),
        "masked_mse": masked_mse(outputs, targets, masks),
        "masked_mse_pasted": masked_mse(pasted, targets, masks),
        "outside_mse": outside_mse(outputs, inputs, masks),
        "outside_mse_pasted": outside_mse(pasted, inputs, masks),
        "edge_ratio": edge_energy_ratio(outputs, targets, masks),
        "ssim_pasted": np.full(len(examples), np.nan) if small else ssim(pasted, targets),
        "glyph_accuracy": glyph_accuracy(outputs, examples),
        "input_glyph_accuracy": glyph_accuracy(inputs, examples),
    }


def _label(example: Example, name: str) -> str:
    if name == "references":
        return str(example.num_references)
    return str(example.meta.get(name, example.id if name == "cluster" else "unknown"))


class Evaluator:
    """Measures a sampling function on examples at one fixed batch shape.

    Args:
        config: batch size.
        sample: makes one image an example.
        paste: as the refiner pastes; the default is RefineAnything's blend over the whole image.
    """

    def __init__(self, config: EvaluationConfig, *, sample: SampleFn, paste: PasteFn = paste_back) -> None:
        self.config = config
        self.sample = sample
        self.paste = paste

    def evaluate(
        self,
        examples: Sequence[Example],
        *,
        sampler: SamplerSpec,
        positions: Sequence[int] | None = None,
        keep: Collection[str] = (),
    ) -> EvalPart:
        """Rows of `examples`, in their order.

        Args:
            examples: at least one, each with a target.
            sampler: how to sample; kind "ode" is labelled "ode", any other "sde".
            positions: their places in the whole evaluation; None = 0, 1, 2, ...
            keep: ids whose output is returned too.

        Raises:
            DataError: no example, or one without a target.
            RefusedError: the policy's output is not finite or has the wrong shape.
        """
        if not examples:
            raise DataError("evaluation needs at least one example")
        untargeted = [e.id for e in examples if e.target is None]
        if untargeted:
            raise DataError(f"evaluation needs targets; {', '.join(untargeted[:5])} has none")
        values = {name: np.full(len(examples), np.nan) for name in METRICS}
        images: dict[str, np.ndarray] = {}
        for rows in batches(examples, self.config.batch):
            chosen = [examples[i] for i in rows]
            outputs = self._outputs(chosen, sampler)
            for name, column in _measure(outputs, chosen, self.paste).items():
                values[name][rows] = column
            images.update({e.id: o for e, o in zip(chosen, outputs, strict=True) if e.id in keep})
        return EvalPart(
            sampler="ode" if sampler.kind == "ode" else "sde",
            positions=np.arange(len(examples)) if positions is None else np.array(positions, dtype=np.int64),
            ids=tuple(e.id for e in examples),
            labels={name: tuple(_label(e, name) for e in examples) for name in LABELS},
            values=values,
            images=images,
        )

    def _outputs(self, examples: Sequence[Example], sampler: SamplerSpec) -> np.ndarray:
        """Outputs of a batch, sampled at the fixed shape; padding repeats the last example."""
        padded = [*examples, *[examples[-1]] * (self.config.batch - len(examples))]
        images = self.sample(padded, sampler)[: len(examples)]
        for example, image in zip(examples, images, strict=True):
            if example.target is None or image.shape != example.target.shape or not np.isfinite(image).all():
                raise RefusedError(f"the policy's output for {example.id!r} is not finite or has the wrong shape")
        return np.clip(images, 0.0, 1.0)
