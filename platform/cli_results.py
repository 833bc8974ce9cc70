"""Commands on what a run made: eval, export, refine, report. They parse and print; `commands.py` does the work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from burnish.data.errors import ConfigError, Problem
from burnish.platform.cli_base import AsJson, RunArg, RunsDir, guarded, one_of, take_overrides

Checkpoint = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="best, last, base, or a name like step-000040; default: the run's result."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("eval")(evaluate)
    app.command("export")(export)
    app.command("refine")(refine)
    app.command("report")(report)


@guarded
def evaluate(
    context: typer.Context,
    run: RunArg,
    split: Annotated[str, typer.Option(help="heldout or dev.")] = "heldout",
    checkpoint: Checkpoint = None,
    runs_dir: RunsDir = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Measure a checkpoint again; the numbers equal the run's own."""
    from burnish.platform.commands import evaluate_run, evaluation_text
    from burnish.platform.runs import RunStore

    take_overrides(context, accepted=False)
    found = evaluate_run(
        RunStore(runs_dir).open(run), split=one_of("split", split, ("heldout", "dev")), name=checkpoint
    )
    typer.echo(json.dumps(found.to_json()) if as_json else evaluation_text(found))


@guarded
def export(
    context: typer.Context,
    run: RunArg,
    to: Annotated[Path, typer.Option(help="Directory to make; it must not exist.")],
    checkpoint: Checkpoint = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="diffusers (always written), comfyui, diffsynth or merged (whole weights); repeatable.",
        ),
    ] = None,
    register: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Enter it in MLflow's model registry, with its lineage.")
    ] = None,
    runs_dir: RunsDir = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Copy base, adapter and snapshot out of a run; proved by reading them back."""
    from burnish.platform import registry
    from burnish.platform.exporting import FORMATS, export_run
    from burnish.platform.runs import RunStore

    take_overrides(context, accepted=False)
    wanted = [one_of("format", kind, FORMATS) for kind in formats or ()]
    opened = RunStore(runs_dir).open(run)
    if register is not None:
        registry.check(opened, register)
    made = export_run(opened, to=to, name=checkpoint, formats=wanted)
    entered = None if register is None else registry.register(opened, made, name=register)
    if as_json:
        typer.echo(json.dumps({**made.to_json(), "registered": None if entered is None else vars(entered)}))
    else:
        typer.echo(made.text(run))
        if entered is not None:
            typer.echo(f"registered as {entered.name}, version {entered.version}")


@guarded
def refine(
    context: typer.Context,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="PNG, JPEG or WebP.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG to write.")],
    mask: Annotated[Path | None, typer.Option(help="Image of the same size, white = refine here.")] = None,
    box: Annotated[str | None, typer.Option(metavar="X1,Y1,X2,Y2", help="Box to refine, instead of a mask.")] = None,
    reference: Annotated[list[Path] | None, typer.Option(help="Reference image; repeatable, at most 8.")] = None,
    instruction: Annotated[str, typer.Option(help="What to do, in words.")] = "",
    run: Annotated[str | None, typer.Option(metavar="RUN", help="Refine with this run's result.")] = None,
    snapshot: Annotated[Path | None, typer.Option(help="Refine with an exported directory.")] = None,
    server: Annotated[str | None, typer.Option(metavar="URL", help="Refine on a server of burnish.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="The server's user.token, where it asks for one.")] = None,
    checkpoint: Checkpoint = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Keys the start noise.")] = 0,
    runs_dir: RunsDir = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Refine a region of an image; every other pixel stays as it is."""
    from burnish.data.pictures import load_picture
    from burnish.platform.promoting import read_token
    from burnish.platform.refining import exported_refiner, read_request, refine_file, refine_remote, run_refiner
    from burnish.platform.runs import RunStore

    take_overrides(context, accepted=False)
    if [run, snapshot, server].count(None) != 2:
        raise ConfigError("option refused", [Problem("--run, --snapshot, --server", "several or none", "one of them")])
    picture = load_picture(image)
    request = read_request(picture, mask=mask, box=box, references=reference or (), instruction=instruction)
    if server is not None:
        token = None if token_file is None else read_token(token_file)
        proof = refine_remote(server, request, image=image, like=picture, output=output, seed=seed, token=token)
    else:
        refiner = (
            run_refiner(RunStore(runs_dir).open(str(run)), name=checkpoint)
            if snapshot is None
            else exported_refiner(snapshot)
        )
        proof = refine_file(refiner, request, like=picture, output=output, seed=seed)
    typer.echo(json.dumps(proof.to_json()) if as_json else proof.text())


@guarded
def report(context: typer.Context, run: RunArg, runs_dir: RunsDir = Path("runs"), as_json: AsJson = False) -> None:
    """Write a run's report.html again from its files."""
    from burnish.platform.runs import RunStore
    from burnish.rollouts.report import read_report, write_report

    take_overrides(context, accepted=False)
    path = RunStore(runs_dir).open(run).path
    made = write_report(path / "report.html", read_report(path))
    typer.echo(json.dumps({"report": str(made)}) if as_json else f"report: {made}")
