"""`burnish serve`, `burnish promote` and `burnish rollback`: they parse and print; `serving.py` does the work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from burnish.platform.cli_base import AsJson, RunsDir, guarded, one_of, take_overrides
from burnish.platform.promoting import admin_token

HOST = "127.0.0.1"
Source = Annotated[
    str, typer.Argument(metavar="RUN|SNAPSHOT", help="Run id, or a directory that `burnish export` made.")
]
To = Annotated[str, typer.Option(metavar="URL", help="Where the server listens.")]
Policy = Annotated[str, typer.Option(help="Name of the policy on the server.")]
TokenFile = Annotated[
    Path | None, typer.Option(help="The server's admin.token; default: the variable BURNISH_ADMIN_TOKEN.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("serve")(serve)
    app.command("promote")(promote)
    app.command("rollback")(rollback)


@guarded
def serve(
    context: typer.Context,
    source: Source,
    directory: Annotated[Path, typer.Option(help="The server's directory; one that is there goes on.")] = Path("serve"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on loopback.")] = 8000,
    replicas: Annotated[int, typer.Option(min=1, max=256, help="Processes that hold the policies.")] = 1,
    batch: Annotated[int, typer.Option(min=1, max=64, help="Rows of every forward.")] = 1,
    queue: Annotated[int, typer.Option(min=1, max=1024, help="Requests in work or waiting; more get 429.")] = 16,
    feedback: Annotated[Path | None, typer.Option(help="Directory for feedback; off without it.")] = None,
    executor: Annotated[str, typer.Option(help="ray, or local: one process.")] = "ray",
    checkpoint: Annotated[str | None, typer.Option(metavar="NAME", help="best, last, or a commit's name.")] = None,
    policy: Policy = "tuned",
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Serve a policy over HTTP on loopback."""
    from burnish.platform.serving import keep_up, prepare

    take_overrides(context, accepted=False)
    chosen = one_of("executor", executor, ("local", "ray"))
    place = directory.resolve()
    run = prepare(place, source=source, runs_dir=runs_dir, checkpoint=checkpoint, name=policy)
    from burnish.serve.store import ServeConfig, Store

    kept = None if feedback is None else str(feedback.resolve())
    config = ServeConfig(directory=str(place), replicas=replicas, batch=batch, queue=queue, feedback=kept)
    Store(place).token("admin")
    text = f"http://{HOST}:{port}  admin token: {place / 'admin.token'}"
    if chosen == "local":
        from burnish.serve.local import local_server

        stop = local_server(config, host=HOST, port=port)
        typer.echo(text)
        keep_up(place, run, stop=stop)
        return
    from burnish.platform.executor import Role
    from burnish.platform.placement import local_ray

    role = Role("serve", lambda *_: None, count=replicas + 2)
    with local_ray([role]):
        from burnish.serve import deploy

        deploy.start(config, host=HOST, port=port)
        typer.echo(text)
        keep_up(place, run, stop=deploy.stop)


@guarded
def promote(
    context: typer.Context,
    source: Source,
    to: To,
    policy: Policy = "tuned",
    canary: Annotated[float, typer.Option(min=0.0, max=0.99, help="Share of requests to try it on; 0: at once.")] = 0.0,
    checkpoint: Annotated[str | None, typer.Option(metavar="NAME", help="best, last, or a commit's name.")] = None,
    token_file: TokenFile = None,
    runs_dir: RunsDir = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Take a run's weights live on a server."""
    from burnish.platform.serving import source_of
    from burnish.serve.client import Client

    take_overrides(context, accepted=False)
    snapshot, _, lineage, _ = source_of(source, runs_dir, checkpoint)
    found = Client(to, token=admin_token(token_file)).promote(snapshot, policy=policy, canary=canary, lineage=lineage)
    typer.echo(json.dumps(found) if as_json else f"{found['model']} is {found['state']}, digest {found['digest'][:12]}")


@guarded
def rollback(
    context: typer.Context,
    to: To,
    policy: Policy = "tuned",
    reason: Annotated[str, typer.Option(help="Goes to the log.")] = "asked for",
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Give up a server's canary, or go back to the version before."""
    from burnish.serve.client import Client

    take_overrides(context, accepted=False)
    found = Client(to, token=admin_token(token_file)).rollback(policy=policy, reason=reason)
    text = f"{found['rolled_back']} is given up, {found['model']} serves"
    typer.echo(json.dumps(found) if as_json else text)
