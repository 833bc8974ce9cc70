"""Evaluations of a run: asked of the rollout workers, kept on disk, shown in pictures.

An evaluation is a pure function of (weights, data configuration), so one that is on disk is never made again: a resumed
run reads it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from burnish.data.records import Example, PolicyVersion, SamplerSpec
from burnish.data.sources import Source
from burnish.platform.config import Recipe
from burnish.platform.executor import Executor
from burnish.platform.ledger import Ledger
from burnish.platform.runs import write_json
from burnish.platform.validation import digest
from burnish.policies.digests import arrays_digest
from burnish.rollouts.eval_result import EvalResult, join, merge
from burnish.rollouts.evaluation import EvalPart, evaluation_examples, evaluation_specs
from burnish.rollouts.report_pictures import choose, collect, save

NUM_PICTURES = 12
CHUNK = 32
"""Examples one call measures: small enough to share out, large enough to be worth a call."""


@dataclass(frozen=True, eq=False)
class Assessor:
    """Evaluates the rollout workers' current policy."""

    recipe: Recipe
    executor: Executor
    source: Source

    def examples(self, split: str) -> list[Example]:
        """The examples of a split's evaluation."""
        config = self.recipe.evaluation
        count = config.count if split == "heldout" else config.dev_count
        return evaluation_examples(self.source, split, count=count, block=self.recipe.data.block, config=config)

    def assess(self, ledger: Ledger, split: str, *, label: str) -> dict[str, EvalResult]:
        """Sampler label -> result, under every sampler of the recipe; read from disk where it is there.

        Args:
            ledger: names the version and the run.
            split: "dev" or "heldout".
            label: names the files, for example "grpo-000040".
        """
        specs = evaluation_specs(self.recipe.grpo.sampler.spec, self.recipe.evaluation)
        results, asked = {}, self._asked()
        for name, sampler in specs.items():
            path = ledger.run.path / "evaluations" / f"{label}-{split}-{name}.json"
            part = stored(path, ledger.version.digest, asked=asked)
            if part is None:
                part = self.measure(split, sampler, ledger.version)
                _store(path, ledger.version.digest, asked, part)
            results[name] = merge([part])
        return results

    def _asked(self) -> str:
        """Digest of all but the weights that an evaluation depends on."""
        recipe = self.recipe
        return arrays_digest({}, prefix="|".join(map(digest, (recipe.evaluation, recipe.data, recipe.grpo.sampler))))

    def measure(self, split: str, sampler: SamplerSpec, version: PolicyVersion) -> EvalPart:
        """All rows of a split under one sampler, measured now by the rollout workers, which hold `version`."""
        examples = self.examples(split)
        keep = choose(examples, NUM_PICTURES) if split == "heldout" else ()
        count = len(examples)
        ranges = [tuple(range(i, min(i + CHUNK, count))) for i in range(0, count, CHUNK)]
        handles = [
            self.executor.submit("rollout", "evaluate", split, count, sampler, r, keep, version)[0] for r in ranges
        ]
        return join([self.executor.get(handle) for handle in handles])

    def pictures(self, ledger: Ledger, results: dict[str, EvalResult]) -> None:
        """Write the gallery: held-out examples, never chosen by result, after each stage."""
        parts = {label: result.rows for label, result in results.items()}
        save(ledger.run.path / "images", collect(self.examples("heldout"), parts))


def _store(path: Path, stamp: str, asked: str, part: EvalPart) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if part.images:
        np.savez(path.with_suffix(".npz"), allow_pickle=False, **part.images)
    write_json(path, {"policy_digest": stamp, "asked": asked, **part.to_json()})


def stored(path: Path, stamp: str, *, asked: str | None = None) -> EvalPart | None:
    """The rows of an evaluation on disk, or None.

    Args:
        path: its file.
        stamp: policy digest; rows of other weights do not count.
        asked: digest of what was to be measured; None = whatever it was.
    """
    if not path.is_file():
        return None
    tree = json.loads(path.read_text())
    measured = tree.pop("policy_digest"), tree.pop("asked")
    if measured != (stamp, measured[1] if asked is None else asked):
        return None
    part, pictures = EvalPart.from_json(tree), path.with_suffix(".npz")
    if not pictures.is_file():
        return part
    with np.load(pictures, allow_pickle=False) as stored:
        return replace(part, images={name: stored[name] for name in stored.files})


def metric_lines(results: dict[str, EvalResult], split: str, names: Sequence[str]) -> dict[str, float]:
    """Flat numbers for metrics.jsonl: "<split>/<sampler>/<metric>"."""
    return {f"{split}/{label}/{name}": result.means()[name] for label, result in results.items() for name in names}
