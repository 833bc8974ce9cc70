"""`burnish data …`: check a manifest, write the tiny pipelines. It parses and prints; the work is done elsewhere."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from burnish.data.errors import DataError
from burnish.platform.cli_base import AsJson, guarded, one_of
from burnish.platform.console import table

data_app = typer.Typer(help="Check data sets and make what runs need.", no_args_is_help=True)


@data_app.command("check")
@guarded
def check(
    manifest: Annotated[Path, typer.Argument(metavar="FILE", help="JSONL manifest, see docs/data.md.")],
    on_bad_row: Annotated[
        str, typer.Option(metavar="ACTION", help="stop: bad rows are an error; skip: say what would be left out.")
    ] = "stop",
    as_json: AsJson = False,
) -> None:
    """Read every row and decode every file of a manifest; list all that is wrong."""
    from burnish.data.readers import scan_rows

    action = one_of("on-bad-row", on_bad_row, ("stop", "skip"))
    scan = scan_rows("manifest", manifest)
    if scan.problems and action == "stop":
        raise DataError(f"{manifest}: {scan.num_bad} of {scan.num_rows} rows cannot be used", list(scan.problems))
    splits = Counter(row.split or "dealt by id" for row in scan.rows)
    shapes = Counter((row.geometry[:2], len(row.references)) for row in scan.rows)
    if as_json:
        found: dict[str, Any] = {"rows": scan.num_rows, "bad": scan.num_bad, "splits": dict(splits)}
        typer.echo(json.dumps(found | {"problems": [vars(problem) for problem in scan.problems]}))
        return
    rows = [[f"{h} x {w}", str(count), str(number)] for ((h, w), count), number in sorted(shapes.items())]
    typer.echo(table(["size", "references", "rows"], rows))
    typer.echo(", ".join(f"{name}: {number}" for name, number in sorted(splits.items())))
    for problem in scan.problems:
        typer.echo(f"left out: {problem.field}: got {problem.got}, allowed {problem.allowed}")
    typer.echo(f"{len(scan.rows)} of {scan.num_rows} rows can be used")


@data_app.command("make-tiny-models")
@guarded
def make_tiny_models(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to; one folder a model, 10 MB in all.")],
) -> None:
    """Write tiny pipelines of the real families, with random weights, for the recipes named *-tiny."""
    from burnish.policies.tiny_models import make_tiny_models as make

    typer.echo("\n".join(str(path) for path in make(folder)))
