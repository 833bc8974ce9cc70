"""Which run `burnish train` is about: a new one, or one to go on with, and what its recipe and seed then are.

Called by the command line before the training loop. It decides and refuses; all that it changes on disk is that a run
that is not here is brought back from the mirror that the recipe names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from burnish.data.errors import ConfigError, Problem
from burnish.platform.config import Recipe, check_resume, load_recipe
from burnish.platform.options import TrainOptions
from burnish.platform.overrides import Override
from burnish.platform.restoring import newest_unfinished, restore
from burnish.platform.runs import CONFIG, Run, RunStore, check_run_id

DEFAULT_RECIPE = "tiny"


def choose(
    recipe: str | None, overrides: Sequence[Override], options: TrainOptions, *, seed: int | None
) -> tuple[Recipe, TrainOptions]:
    """The recipe and options to train with.

    Args:
        recipe: name or path as typed; None = the resumed run's own, or "tiny".
        overrides: dotted overrides as typed; they apply to a resumed run's recipe too.
        options: as typed; `resume` may be "auto".
        seed: as typed; None = the resumed run's, or 0.

    Returns:
        The validated recipe, and options whose `seed` is set and whose `resume` is a run id or None.

    Raises:
        ConfigError: a problem with the recipe, --from with --resume, an unknown run, another seed than the run's, or
            keys that changed.
        CheckpointError: the run is in the mirror alone, and no commit of it is whole there.
        InfrastructureError: the mirror cannot be reached.
    """
    if options.resume is not None and options.start_from is not None:
        raise ConfigError("two runs to go on from", [Problem("--from", options.start_from, "no --from with --resume")])
    if options.resume is not None and options.events is not None:
        problem = Problem("--events", str(options.events), "no --events with --resume", "the run remembers its own")
        raise ConfigError("the run has its events already", [problem])
    store = RunStore(options.runs_dir)
    run = _wanted(store, options.resume, recipe, overrides, seed)
    if run is None:
        chosen = load_recipe(recipe or DEFAULT_RECIPE, overrides)
        return chosen, replace(options, seed=seed or 0, resume=None, overrides=tuple(overrides))
    info, stored = run.info, run.path / CONFIG
    if seed not in (None, info.seed):
        problem = Problem("seed", str(seed), str(info.seed), "leave --seed out, or start a new run")
        raise ConfigError(f"run {run.id} has another seed", [problem])
    old = load_recipe(str(stored))
    new = load_recipe(recipe or str(stored), overrides)
    check_resume(old, new, allow=options.allow_change)
    return new, replace(options, seed=info.seed, resume=run.id, overrides=tuple(overrides))


def _wanted(
    store: RunStore, resume: str | None, recipe: str | None, overrides: Sequence[Override], seed: int | None
) -> Run | None:
    if resume is None:
        return None
    name = load_recipe(recipe, overrides).name if recipe else None
    if resume == "auto":
        run = store.latest_unfinished(name, seed)
    else:
        run = store.open(resume) if (store.root / check_run_id(resume)).exists() else None
    if run is not None:
        return run
    typed = load_recipe(recipe or DEFAULT_RECIPE, overrides).checkpoints
    mirrored = typed if typed.mirror is not None else None
    if resume != "auto":
        return (None if mirrored is None else restore(mirrored, store, resume)) or store.open(resume)
    known = None if mirrored is None else newest_unfinished(mirrored, name, seed)
    return None if known is None or mirrored is None else restore(mirrored, store, known)
