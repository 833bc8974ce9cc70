"""`burnish lint`: check deployment files before a cluster does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from burnish.platform.cli_base import AsJson, guarded, take_overrides
from burnish.platform.console import table


def add_lint(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("lint")(lint)


@guarded
def lint(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(exists=True, help="File or directory, for example clusters.")],
    values: Annotated[
        Path | None, typer.Option(metavar="FILE", help="NAME=VALUE lines for what only you know; see values.env.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="One such value; repeatable, wins.")
    ] = None,
    write: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to write the files with their values, if all is well.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check manifests, Slurm scripts, Dockerfiles, alert rules and dashboards; all problems at once."""
    from burnish.platform.lint.files import lint as check
    from burnish.platform.lint.files import write as write_files
    from burnish.platform.lint.values import collect

    take_overrides(context, accepted=False)
    checked = check(path, collect(values, settings or ()))
    if write is not None:
        write_files(checked, path, write)
    rows = [{"path": str(file.path), "kind": file.kind} for file in checked]
    if as_json:
        typer.echo(json.dumps({"files": rows, "problems": []}))
        return
    where = f", written to {write}" if write is not None else ""
    typer.echo(table(["file", "kind"], [[row["path"], row["kind"]] for row in rows]))
    typer.echo(f"{len(rows)} files, no problem{where}")
