"""The command `burnish`. It parses, reports errors and sets exit codes; the work is done elsewhere.

`--help` must be fast: nothing heavy is imported at the top. Dotted options (`--grpo.iterations 4`) are taken out of the
arguments before typer sees them, so that each command declares only its own options.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from burnish.data.errors import BurnishError
from burnish.platform.cli_base import INTERRUPTED, AsJson, RunArg, RunsDir, guarded, one_of, take_overrides
from burnish.platform.cli_data import data_app
from burnish.platform.cli_lint import add_lint
from burnish.platform.cli_results import register
from burnish.platform.cli_rewards import rewards_app
from burnish.platform.cli_serve import register as register_serve
from burnish.platform.cli_workers import add_workers
from burnish.platform.console import report_error, table
from burnish.platform.options import TrainOptions
from burnish.platform.overrides import split_overrides

app = typer.Typer(
    help="Reinforcement learning for image-refinement models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
runs_app = typer.Typer(help="Look at runs and clear old ones away.", no_args_is_help=True)
app.add_typer(runs_app, name="runs")
app.add_typer(rewards_app, name="rewards")
app.add_typer(data_app, name="data")


@app.command()
@guarded
def train(
    context: typer.Context,
    recipe: Annotated[str | None, typer.Argument(help="Name of a recipe or path of a file; default: tiny.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**63 - 1, help="Seed of every random draw; default 0.")
    ] = None,
    executor: Annotated[str, typer.Option(help="ray, or local: one process.")] = "ray",
    resume: Annotated[str | None, typer.Option(help="Go on with a RUN, or `auto`: the newest unfinished one.")] = None,
    start_from: Annotated[
        str | None, typer.Option("--from", metavar="RUN", help="Start on that run's base instead of fine-tuning.")
    ] = None,
    events: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Repeat a run's reward changes; its journal.jsonl will do."),
    ] = None,
    stages: Annotated[str | None, typer.Option(help="Run only these stages, for example sft or sft,grpo.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe and its digest.")] = False,
    allow_change: Annotated[list[str] | None, typer.Option(help="Key that a resume may change; repeatable.")] = None,
    runs_dir: RunsDir = Path("runs"),
    as_json: AsJson = False,
) -> int:
    """Train a recipe: supervised fine-tuning, then GRPO. `--a.b value` changes the recipe's field a.b."""
    options = TrainOptions(
        executor=one_of("executor", executor, ("local", "ray")),
        resume=resume,
        start_from=start_from,
        events=events,
        stages=_stages(stages),
        dry_run=dry_run,
        json=as_json,
        runs_dir=runs_dir,
        allow_change=tuple(allow_change or ()),
    )
    from burnish.platform.resume import choose

    chosen, options = choose(recipe, take_overrides(context, accepted=True), options, seed=seed)
    if resume == "auto" and options.resume is None:
        typer.echo("no unfinished run to go on with: this is a new one", err=True)
    if dry_run:
        return _print_recipe(chosen, as_json=as_json)
    from burnish.platform.train import train as run_training

    return run_training(chosen, options)


@app.command("estimate")
@guarded
def estimate_recipe(
    context: typer.Context,
    recipe: Annotated[str | None, typer.Argument(help="Name of a recipe or path of a file; default: tiny.")] = None,
    references: Annotated[int, typer.Option(min=0, max=16, help="References of the example that is counted.")] = 1,
    tflops: Annotated[
        float | None, typer.Option(min=1e-3, help="Rate of a process; default: a matrix product on this machine.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Memory and time that a recipe will need, before anything is loaded. `--a.b value` changes the field a.b."""
    from burnish.platform.config import load_recipe
    from burnish.platform.estimating import estimate, estimate_text, matrix_rate

    chosen = load_recipe(recipe or "tiny", take_overrides(context, accepted=True))
    found = estimate(chosen, references=references)
    if as_json:
        typer.echo(json.dumps(asdict(found)))
    else:
        dtype = getattr(chosen.policy.config, "dtype", "float32")
        typer.echo(estimate_text(found, rate=tflops * 1e12 if tflops else matrix_rate(dtype)))


@app.command()
@guarded
def doctor(
    context: typer.Context,
    executor: Annotated[str, typer.Option(help="ray, or local: one process.")] = "ray",
    roles: Annotated[int, typer.Option(min=1, help="Processes that memory is checked for; tiny on Ray has 3.")] = 3,
    weights: Annotated[list[Path] | None, typer.Option(help="Directory to look for weights in; repeatable.")] = None,
    runs_dir: RunsDir = Path("runs"),
    as_json: AsJson = False,
) -> int:
    """Check this machine: versions, devices, memory, disk, Ray and MLflow."""
    from burnish.platform.doctor import exit_code, report

    take_overrides(context, accepted=False)
    chosen = one_of("executor", executor, ("local", "ray"))
    checks = report(runs_dir=runs_dir, roles=roles, executor=chosen, weights=tuple(weights or ()))
    if as_json:
        typer.echo(json.dumps([vars(check) for check in checks]))
    else:
        rows = [[check.status, check.name, check.detail] for check in checks]
        hints = [f"{check.name}: {check.hint}" for check in checks if check.hint]
        typer.echo("\n".join([table(["", "check", "found"], rows), *hints]))
    return exit_code(checks)


@runs_app.command("list")
@guarded
def runs_list(runs_dir: RunsDir = Path("runs"), as_json: AsJson = False) -> None:
    """All runs, oldest first."""
    from burnish.platform.runs import RunStore
    from burnish.platform.runs_view import list_text

    infos = RunStore(runs_dir).infos()
    typer.echo(json.dumps([vars(info) for info in infos]) if as_json else list_text(infos))


@runs_app.command("show")
@guarded
def runs_show(
    run: RunArg,
    rewards: Annotated[bool, typer.Option("--rewards", help="Which rubrics scored which iterations, and why.")] = False,
    runs_dir: RunsDir = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """One run: state, versions, summary, last metrics."""
    from burnish.platform.rewards_text import history_text
    from burnish.platform.rewards_view import rewards_of
    from burnish.platform.runs import RunStore
    from burnish.platform.runs_view import show, show_text

    opened = RunStore(runs_dir).open(run)
    if rewards:
        history = rewards_of(opened.path)
        typer.echo(json.dumps(history) if as_json else history_text(history))
        return
    tree = show(opened)
    typer.echo(json.dumps(tree) if as_json else show_text(tree))


@runs_app.command("compare")
@guarded
def runs_compare(first: RunArg, second: RunArg, runs_dir: RunsDir = Path("runs"), as_json: AsJson = False) -> None:
    """Two runs side by side; a star marks what differs."""
    from burnish.platform.runs import RunStore
    from burnish.platform.runs_view import compare, compare_text

    store = RunStore(runs_dir)
    rows = compare(store.open(first), store.open(second))
    tree = [{"name": name, "first": a, "second": b, "equal": a == b} for name, a, b in rows]
    typer.echo(json.dumps(tree) if as_json else compare_text(rows, (first[-24:], second[-24:])))


@runs_app.command("pin")
@guarded
def runs_pin(
    run: RunArg,
    commit: Annotated[str, typer.Argument(help="Commit of the GRPO stage, for example step-000040.")],
    remove: Annotated[bool, typer.Option("--remove", help="Let it be pruned again.")] = False,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Keep a commit whatever its age, also while the run goes on."""
    from burnish.platform.runs import RunStore

    opened = RunStore(runs_dir).open(run)
    opened.pin(commit, remove=remove)
    typer.echo(f"pinned in {opened.id}: {', '.join(sorted(opened.pins())) or 'nothing'}")


@runs_app.command("prune")
@guarded
def runs_prune(
    keep_last: Annotated[int, typer.Option(min=1, help="How many of the newest runs stay.")],
    keep: Annotated[list[str] | None, typer.Option(help="Run that stays in any case; repeatable.")] = None,
    runs_dir: RunsDir = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Delete old runs; a run that is being driven stays."""
    from burnish.platform.runs import RunStore

    removed = RunStore(runs_dir).prune(keep_last, frozenset(keep or ()))
    typer.echo(json.dumps(removed) if as_json else "\n".join([*removed, f"{len(removed)} removed"]))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(metadata.version("burnish"))
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Reinforcement learning for image-refinement models."""


def _stages(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(one_of("stages", part.strip(), ("sft", "grpo")) for part in text.split(","))


def _print_recipe(recipe: Any, *, as_json: bool) -> int:
    from burnish.platform.config import config_digest, resolved_yaml

    if as_json:
        typer.echo(json.dumps({"recipe": recipe.model_dump(mode="json"), "config_digest": config_digest(recipe)}))
    else:
        typer.echo(f"{resolved_yaml(recipe)}# config_digest: {config_digest(recipe)}")
    return 0


register(app)
register_serve(app)
add_lint(app)
add_workers(app)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point: run a command and leave with its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        rest, overrides = split_overrides(arguments)
    except BurnishError as error:
        sys.exit(report_error(error, json_lines="--json" in arguments))
    try:
        app(args=rest, obj=overrides, prog_name="burnish")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
