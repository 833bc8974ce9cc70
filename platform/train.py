"""`burnish train`: one run from its recipe to its report, or on from where it was left."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from functools import partial
from types import FrameType

from burnish.data.errors import BurnishError
from burnish.platform.config import Recipe, config_digest, resolved_yaml
from burnish.platform.console import Console
from burnish.platform.context import Context, Interrupted, StageResult
from burnish.platform.desk import RewardDesk
from burnish.platform.environment import environment_versions, version_changes
from burnish.platform.examples import check_splits, recipe_source
from burnish.platform.executor import Executor, GangLost
from burnish.platform.guarding import Paused
from burnish.platform.mirror import open_mirror
from burnish.platform.mlflow_sink import MAX_PARAM
from burnish.platform.options import TrainOptions
from burnish.platform.placement import executor
from burnish.platform.pools import Pools
from burnish.platform.roles import learner_role, reward_role, reward_roles, roles
from burnish.platform.rubric_log import read_events
from burnish.platform.rubric_start import EVENTS, keep_events
from burnish.platform.runs import CONFIG, Run, RunStore, write_text
from burnish.platform.stages import STAGES
from burnish.platform.start_from import check_base, check_fine_tuned, copy_base
from burnish.platform.summary import closing_lines, write_summary
from burnish.platform.tracking import open_tracker
from burnish.platform.validation import flatten
from burnish.platform.workforce import Workforce

INTERRUPTED = 130


def train(recipe: Recipe, options: TrainOptions) -> int:
    """Train; returns the exit code.

    Raises:
        BurnishError: the run cannot start or go on; its `exit_code` says which kind.
    """
    import torch

    torch.set_num_threads(1)
    console, started = Console(json_lines=options.json), time.monotonic()
    source = recipe_source(recipe, thorough=True)
    check_splits(source, recipe)
    run = _open(recipe, options, console)
    mirrored = partial(open_mirror, recipe.checkpoints, run, console.line)
    with run.lock(), _interrupts() as interrupted, closing(mirrored()) as mirror:
        if options.resume is not None:
            _note_changes(run, recipe, options, console)
        run.start()
        tracker = open_tracker(recipe.tracking, run, params=_params(recipe, options))
        status, report = "failed", run.path / "report.html"
        try:
            wanted, desk = roles(recipe, options.seed, run.path, options.executor), _desk(run)
            workforce = Workforce(console.line)
            with _control(recipe, run, desk, workforce), executor(options.executor, wanted, recipe.cluster) as chosen:
                pools = _pools(recipe, options.executor, chosen)
                outside = (console, interrupted, pools, desk, workforce, mirror)
                context = Context(run, recipe, chosen, source, tracker, *outside)
                results = {name: _stage(context, name, options.seed) for name in run.info.stages or recipe.stages}
                report = write_summary(context, results, seconds=time.monotonic() - started, command=_command())
            status = "done"
        except Interrupted:
            status = "interrupted"
        except Paused as error:
            status = "paused"
            raise Paused(f"{error.message}; to go on: burnish train --resume {run.id}") from None
        finally:
            run.update(status=status, error=_error_line())
            tracker.finish(status)
    if status == "interrupted":
        console.line(f"stopped; go on with: burnish train --resume {run.id}")
        return INTERRUPTED
    for line in closing_lines(json.loads((run.path / "summary.json").read_text()), report):
        console.line(line)
    console.closing(
        run_id=run.id, status=status, seconds=time.monotonic() - started, next_step=f"burnish runs show {run.id}"
    )
    return 0


def _desk(run: Run) -> RewardDesk:
    """Where changes of the rubric are handed in; a run that repeats recorded ones takes no others."""
    return RewardDesk(run.id, closed="nothing: it repeats recorded events" if (run.path / EVENTS).is_file() else "")


def _control(recipe: Recipe, run: Run, desk: RewardDesk, workforce: Workforce) -> AbstractContextManager[object]:
    """The run's control API, where the recipe wants one."""
    if not recipe.rewards.control:
        return nullcontext()
    from burnish.platform.control import control_server

    return control_server(run.path, desk, workforce)


def _pools(recipe: Recipe, kind: str, chosen: Executor) -> Pools:
    started = [role.name for role in reward_roles(recipe, kind)]
    return Pools(chosen, recipe.rewards.pools, partial(reward_role, recipe, kind), started=started)


def _stage(context: Context, name: str, seed: int) -> StageResult:
    """Run a stage; a learner that is lost is rebuilt, and the stage goes on from its last commit."""
    for _ in range(context.recipe.cluster.restarts):
        try:
            return STAGES[name](context)
        except GangLost as error:
            context.console.line(f"{error.message}; going on from the last commit")
            context.executor.start(learner_role(context.recipe, seed, context.run.path))
    return STAGES[name](context)


def _open(recipe: Recipe, options: TrainOptions, console: Console) -> Run:
    """The run to go on with, or a new one with its recipe written down."""
    store = RunStore(options.runs_dir)
    if options.resume is not None:
        return store.open(options.resume)
    if options.events is not None:
        read_events(options.events)
    origin = None if options.start_from is None else store.open(options.start_from)
    if origin is not None:
        check_base(origin, recipe)
    run = store.create(recipe.name, options.seed, config_digest=config_digest(recipe), versions=environment_versions())
    run.update(stages=list(options.stages or recipe.stages))
    if origin is not None:
        copy_base(origin, run)
    if options.events is not None:
        keep_events(options.events, run.path)
    # Last: without its recipe a run cannot be resumed, so a kill before the copy leaves nothing that would fine-tune.
    write_text(run.path / CONFIG, resolved_yaml(recipe))
    console.line(f"run {run.id} on {options.executor}")
    return run


def _note_changes(run: Run, recipe: Recipe, options: TrainOptions, console: Console) -> None:
    """Write down what differs from the run's start: machine, recipe, stages. Its lock is held: nobody else drives it.

    Raises:
        ConfigError: stages that cannot go on from what the run has.
    """
    if options.stages is not None and "sft" not in options.stages:
        check_fine_tuned(run)
    changes = version_changes(run.info.versions, environment_versions())
    for change in changes:
        console.line(f"this machine differs from the run's, so its bytes may: {change}")
    digest = config_digest(recipe)
    if changes or digest != run.info.config_digest:
        run.update(reproducible=False, config_digest=digest)
    write_text(run.path / CONFIG, resolved_yaml(recipe))
    if options.stages is not None:
        run.update(stages=list(options.stages))


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """First Ctrl-C or SIGTERM: finish the step, commit, leave. Second: leave at once."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        if len(asked) > 1:
            os._exit(INTERRUPTED)

    old = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _params(recipe: Recipe, options: TrainOptions) -> dict[str, str]:
    flat = {name: str(value)[:MAX_PARAM] for name, value in flatten(recipe.model_dump(mode="json")).items()}
    return {"seed": str(options.seed), "executor": options.executor, **flat}


def _command() -> str:
    return shlex.join(["burnish", *sys.argv[1:]])


def _error_line() -> str | None:
    error = sys.exc_info()[1]
    if error is None or isinstance(error, Interrupted):
        return None
    return (error.message if isinstance(error, BurnishError) else repr(error)).splitlines()[0]
