"""What the command line adds to a recipe: run options that change no number of the run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class TrainOptions:
    """Options of `burnish train`.

    Args:
        seed: the run's seed, 0 <= seed < 2**63.
        executor: "local" (one process, no Ray) or "ray".
        resume: id of the run to go on with, None = a new run; the command line has resolved "auto".
        start_from: id of a run whose base is copied, so that fine-tuning is skipped; None = fine-tune.
        events: file of rubric changes of another run, to be repeated; None = changes come from the control API.
        stages: stages to run instead of the recipe's, None = the recipe's.
        dry_run: print the resolved recipe and its digest, then stop.
        json: JSON lines instead of progress bars.
        runs_dir: directory of all runs.
        allow_change: dotted keys that a resume may change although they change the digest.
        overrides: dotted field and YAML text as given on the command line, already applied to the recipe.
    """

    seed: int = 0
    executor: str = "ray"
    resume: str | None = None
    start_from: str | None = None
    events: Path | None = None
    stages: tuple[str, ...] | None = None
    dry_run: bool = False
    json: bool = False
    runs_dir: Path = field(default_factory=lambda: Path("runs"))
    allow_change: tuple[str, ...] = ()
    overrides: tuple[tuple[str, str], ...] = ()
