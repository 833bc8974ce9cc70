"""What is done with the checkpoints of a run: choose one, measure it again.

Called by `cli_results.py` and `exporting.py`. It reads run directories and never changes them; everything is verified
before it is parsed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from burnish.data.errors import ConfigError, Problem
from burnish.data.records import PolicyVersion
from burnish.platform.assessment import Assessor, stored
from burnish.platform.checkpoints import committed
from burnish.platform.config import Recipe, load_recipe
from burnish.platform.console import number, table
from burnish.platform.examples import recipe_source
from burnish.platform.executor import Role
from burnish.platform.local import LocalExecutor
from burnish.platform.manifest import load_verified
from burnish.platform.runs import CONFIG, Run
from burnish.platform.start_from import BASE
from burnish.platform.trainer_state import read_state
from burnish.platform.workers import RolloutWorker
from burnish.policies.digests import policy_digest
from burnish.policies.lora import export_state
from burnish.policies.snapshot import load_start
from burnish.rollouts.eval_result import EvalResult, merge
from burnish.rollouts.evaluation import EvalPart, evaluation_specs
from burnish.rollouts.intervals import Interval

SHOWN = ("input_masked_mse", "masked_mse", "error_left", "outside_mse", "edge_ratio", "glyph_accuracy")


@dataclass(frozen=True, eq=False)
class Chosen:
    """A policy of a run.

    Args:
        run, recipe: whose.
        base: the run's base, verified.
        checkpoint: the commit, verified; None = the base alone.
    """

    run: Run
    recipe: Recipe
    base: Path
    checkpoint: Path | None

    @property
    def name(self) -> str:
        """The commit's name, or "base"."""
        return BASE if self.checkpoint is None else self.checkpoint.name

    def weights(self) -> tuple[PolicyVersion, Mapping[str, np.ndarray]]:
        """Version and trained weights; for the base those of an adapter that changes nothing yet."""
        start = load_start(self.base, self.recipe.grpo.trained_adapter)
        if self.checkpoint is None:
            held = export_state(start.policy.module)
            return PolicyVersion(0, policy_digest(start.base, held)), held
        state = read_state(self.checkpoint)
        return PolicyVersion(state.counters["iterations"], policy_digest(start.base, state.weights)), state.weights


def choose_policy(run: Run, name: str | None) -> Chosen:
    """Find and verify a policy of a run.

    Args:
        run: the run.
        name: "base", "last", "best" (by gold metrics on dev), a commit's name, or None: the run's result, which is the
            last commit, or the best one where the guard rolled back.

    Raises:
        ConfigError: the run has no such commit, or no base yet.
        CheckpointError: base or commit is damaged.
    """
    base, commits = run.path / BASE, committed(run.path / "stages" / "grpo" / "checkpoints")
    if not base.is_dir():
        raise ConfigError("no policy yet", [Problem("RUN", run.id, "a run that finished its sft stage")])
    load_verified(base)
    recipe, found = load_recipe(str(run.path / CONFIG)), {path.name: path for path in commits}
    wanted = _commit_name(commits, name, recipe.guard.rollback_commit)
    if wanted != BASE and wanted not in found:
        raise ConfigError("no such checkpoint", [Problem("--checkpoint", wanted, ", ".join([BASE, *found]))])
    if wanted != BASE:
        load_verified(found[wanted])
    return Chosen(run, recipe, base, found.get(wanted))


def _commit_name(commits: list[Path], name: str | None, rollback: str) -> str:
    """What a name means; no name is the stage's result, see `Keeper.result`."""
    if name not in (None, "last", "best") or not commits:
        return name or BASE
    load_verified(commits[-1])
    state = json.loads((commits[-1] / "state.json").read_text())
    rolled_back = name is None and state["notes"].get("ended") == "rollback"
    if rolled_back and rollback in {path.name for path in commits}:
        return rollback
    return str(state["best"] or "best") if name == "best" or rolled_back else commits[-1].name


@dataclass(frozen=True, eq=False)
class Evaluated:
    """A checkpoint that was measured again.

    Args:
        chosen, split: what was measured on what.
        version: its weights.
        results: sampler label -> result.
        same: sampler label -> the run's own rows are these, bit for bit; absent where the run has none.
    """

    chosen: Chosen
    split: str
    version: PolicyVersion
    results: Mapping[str, EvalResult]
    same: Mapping[str, bool]

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "run": self.chosen.run.id,
            "checkpoint": self.chosen.name,
            "split": self.split,
            "policy_digest": self.version.digest,
            "results": {label: result.to_json() for label, result in self.results.items()},
            "equals_the_runs_own": dict(self.same),
        }


def evaluate_run(run: Run, *, split: str, name: str | None) -> Evaluated:
    """Measure a checkpoint of a run in this process, as the run does.

    Args:
        run: the run; its recipe says on how many examples and under which samplers.
        split: "heldout" or "dev".
        name: see `choose_policy`.
    """
    import torch

    torch.set_num_threads(1)
    chosen = choose_policy(run, name)
    version, state = chosen.weights()
    recipe, executor = chosen.recipe, LocalExecutor()
    executor.start(Role("rollout", partial(RolloutWorker, recipe, run.info.seed)))
    executor.broadcast("rollout", "begin", chosen.base)
    executor.broadcast("rollout", "load", version, state)
    assessor = Assessor(recipe, executor, recipe_source(recipe, thorough=True))
    specs = evaluation_specs(recipe.grpo.sampler.spec, recipe.evaluation)
    parts = {label: assessor.measure(split, sampler, version) for label, sampler in specs.items()}
    executor.close()
    same = {label: _same(run, part, split, version) for label, part in parts.items()}
    results = {label: merge([part]) for label, part in parts.items()}
    return Evaluated(chosen, split, version, results, {k: v for k, v in same.items() if v is not None})


def _same(run: Run, part: EvalPart, split: str, version: PolicyVersion) -> bool | None:
    """True if the run's own rows of these weights are these; None where it has none."""
    paths = sorted((run.path / "evaluations").glob(f"*-{split}-{part.sampler}.json"))
    owned = [own for own in (stored(path, version.digest) for path in paths) if own is not None]
    return all(own.to_json() == part.to_json() for own in owned) if owned else None


def evaluation_text(found: Evaluated) -> str:
    """A table: one line a sampler and source, means with 95 % intervals."""
    rows = []
    for label, result in found.results.items():
        groups = {"drawn, all": result.primary, **result.sources}
        rows += [[label, name, *(_cell(figures[m]) for m in SHOWN)] for name, figures in groups.items()]
    verdicts = [f"{k}: {'equal to' if same else 'NOT equal to'} the run's own rows" for k, same in found.same.items()]
    head = f"{found.chosen.run.id} {found.chosen.name} on {found.split}, policy {found.version.digest[:12]}"
    return "\n".join([head, table(["sampler", "source", *SHOWN], rows), *verdicts])


def _cell(figure: Interval) -> str:
    mean = number(float(f"{figure.mean:.4g}"))
    known = figure.low == figure.low and figure.high == figure.high
    return f"{mean} [{figure.low:.4g}, {figure.high:.4g}]" if known else mean
