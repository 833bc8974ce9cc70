"""`burnish workers`: how many rollout and reward workers a run has, and other numbers while it goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from burnish.platform.cli_base import AsJson, RunArg, RunsDir, guarded, take_overrides
from burnish.platform.console import table


def add_workers(app: typer.Typer) -> None:
    """Add the command to the root."""
    app.command()(workers)


@guarded
def workers(
    context: typer.Context,
    run: RunArg,
    rollouts: Annotated[int | None, typer.Option(min=1, max=4096, help="Rollout workers from now on.")] = None,
    rewards: Annotated[int | None, typer.Option(min=1, max=4096, help="Reward workers of the main pool.")] = None,
    runs_dir: RunsDir = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Show the workers of a run that is being driven, or change their number; no result changes."""
    from burnish.platform.control_client import ControlClient
    from burnish.platform.runs import RunStore

    take_overrides(context, accepted=False)
    asked = {"rollout": rollouts, "reward": rewards}
    with ControlClient(RunStore(runs_dir).open(run)) as client:
        found = client.workers({role: count for role, count in asked.items() if count is not None})
    if as_json:
        typer.echo(json.dumps(found))
    else:
        rows = [[role, str(sizes["working"]), str(sizes["wanted"])] for role, sizes in found.items()]
        typer.echo(table(["workers", "working", "wanted"], rows))
