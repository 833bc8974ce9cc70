"""`burnish data …`: check a data set, make one, write the tiny pipelines.

It parses and prints; the work is done elsewhere.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from burnish.platform.cli_base import AsJson, guarded, one_of
from burnish.platform.console import Console

data_app = typer.Typer(help="Check data sets and make what runs need.", no_args_is_help=True)


@data_app.command("check")
@guarded
def check(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="File or folder of a data set, see docs/data.md.")],
    layout: Annotated[
        str, typer.Option(help="auto: by the path; else manifest, parquet, webdataset, dyref, cases or folder.")
    ] = "auto",
    field: Annotated[
        list[str] | None, typer.Option(metavar="FIELD=NAME", help="The data set's name of a field; repeatable.")
    ] = None,
    on_bad_row: Annotated[
        str, typer.Option(metavar="ACTION", help="stop: bad rows are an error; skip: say what would be left out.")
    ] = "stop",
    as_json: AsJson = False,
) -> None:
    """Read every row and decode every picture of a data set; list all that is wrong."""
    from burnish.platform.data_check import LAYOUTS, check_data, parse_fields

    action = one_of("on-bad-row", on_bad_row, ("stop", "skip"))
    found = check_data(path, layout=one_of("layout", layout, LAYOUTS), fields=parse_fields(field or ()))
    if action == "stop":
        found.refuse()
    typer.echo(json.dumps(found.to_json()) if as_json else found.text())


@data_app.command("make")
@guarded
def make(
    context: typer.Context,
    images: Annotated[Path, typer.Option(metavar="DIR", help="Folder of photographs, searched recursively.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="Folder of the data set; new or empty.")],
    on_bad_row: Annotated[
        str, typer.Option(metavar="ACTION", help="stop: files that cannot be used are an error; skip: leave them out.")
    ] = "stop",
    count: Annotated[int, typer.Option(help="Quadruples in all.")] = 64,
    size: Annotated[int, typer.Option(help="Side of the frame in pixels.")] = 512,
    reference_size: Annotated[int, typer.Option(help="Side of the references in pixels.")] = 256,
    without_reference: Annotated[float, typer.Option(help="Share without a reference.")] = 1 / 3,
    masks: Annotated[str, typer.Option(help="scribble or box.")] = "scribble",
    degradation: Annotated[list[str] | None, typer.Option(help="Defect to draw from; repeatable; all.")] = None,
    min_defect: Annotated[float, typer.Option(help="Least mean squared error inside the mask.")] = 0.002,
    max_defect: Annotated[float, typer.Option(help="Most mean squared error inside the mask.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Make quadruples (input, reference, target, instruction) of photographs: a manifest and a preview sheet."""
    from burnish.data.making import make_data
    from burnish.platform.data_make import closing_lines, make_config

    skip = one_of("on-bad-row", on_bad_row, ("stop", "skip")) == "skip"
    config = make_config(context.params | ({"degradations": degradation} if degradation else {}))
    console = Console(json_lines=as_json)
    with console.progress("making quadruples", config.count) as advance:
        made = make_data(images, out, config, skip_bad=skip, advance=advance)
    if as_json:
        typer.echo(json.dumps({"event": "end", "out": str(out), **vars(made)}))
    else:
        typer.echo("\n".join(closing_lines(out, made)))


@data_app.command("make-tiny-models")
@guarded
def make_tiny_models(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to; one folder a model, 10 MB in all.")],
) -> None:
    """Write tiny pipelines of the real families, with random weights, for the recipes named *-tiny."""
    from burnish.policies.tiny_models import make_tiny_models as make

    typer.echo("\n".join(str(path) for path in make(folder)))
