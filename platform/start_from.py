"""Start a new run on another run's base: `burnish train --from RUN`, so that several runs share one fine-tuning.

Called by the training loop before anything runs. The base is copied, never linked: a run directory is whole.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from burnish.data.errors import ConfigError, Problem
from burnish.platform.checkpoints import commit
from burnish.platform.config import Recipe
from burnish.platform.manifest import load_verified
from burnish.platform.runs import Run
from burnish.platform.validation import significant

BASE = "base"


def check_base(origin: Run, recipe: Recipe) -> Path:
    """The verified base of a run, for a run of `recipe` to start on.

    Raises:
        ConfigError: `origin` has no base yet, or it is of another shape than the recipe's policy.
        CheckpointError: the base is damaged.
    """
    base = origin.path / BASE
    if not base.is_dir():
        raise ConfigError("no base to start from", [Problem("--from", origin.id, "a run that finished its sft stage")])
    load_verified(base)
    _check_shape(base, recipe)
    return base


def copy_base(origin: Run, run: Run) -> None:
    """Copy the base of `origin` into `run` and write its id into run.json; fine-tuning is skipped then."""
    source = origin.path / BASE

    def write(path: Path) -> None:
        for name in load_verified(source).files:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, path / name)

    commit(run.path, BASE, write)
    run.update(start_from=origin.id)


def _check_shape(base: Path, recipe: Recipe) -> None:
    """The workers build what the base says, so the recipe must say the same."""
    described = json.loads((base / "policy.json").read_text())
    wanted = significant(recipe.policy.config)
    got = {"family": recipe.policy.family, **wanted}
    has = {"family": described["family"], **{name: described["config"].get(name) for name in wanted}}
    names = sorted(n for n in got.keys() | has.keys() if got.get(n) != has.get(n))
    if names:
        problems = [Problem(f"policy: {n}", str(got.get(n)), str(has.get(n)), "as the base has it") for n in names]
        raise ConfigError("the recipe's policy is not the base's", problems)


def check_fine_tuned(run: Run) -> None:
    """GRPO alone goes on from a base, or from the start where the run never fine-tuned.

    Raises:
        ConfigError: the run's fine-tuning is unfinished.
    """
    if not (run.path / BASE).is_dir() and (run.path / "stages" / "sft" / "checkpoints").is_dir():
        problem = Problem("--stages", "grpo", "sft,grpo", "this run's fine-tuning is not finished")
        raise ConfigError("there is no base to improve", [problem])
