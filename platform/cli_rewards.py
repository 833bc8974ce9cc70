"""`burnish rewards …`: look at the rewards of a run, and change them while it goes on.

A change goes to the run's control API and is judged there; the command waits until it is active or refused. Nothing
heavy is imported unless rewards themselves are looked at.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from burnish.data.errors import ConfigError, InfrastructureError, Problem
from burnish.platform.cli_base import AsJson, RunArg, RunsDir, guarded, take_overrides
from burnish.platform.console import note

rewards_app = typer.Typer(
    help="Look at rewards; add, swap, weigh and shadow them while a run goes on.", no_args_is_help=True
)
SpecArg = Annotated[
    str, typer.Argument(metavar="SPEC", help="Kind of reward, YAML or JSON file, or a mapping: '{kind: …}'.")
]
Why = Annotated[str, typer.Option(help="The reason, in a line; it stands in the run's history.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Print the change's id and leave.")]
Shadow = Annotated[int, typer.Option(min=0, metavar="N", help="Score it beside the rubric for N iterations first.")]


@rewards_app.command("list")
@guarded
def list_rewards(
    context: typer.Context,
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="A run; none: the kinds there are.")] = None,
    runs_dir: RunsDir = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """The kinds of reward, or the rewards of a run."""
    from burnish.platform.rewards_text import kinds_text, status_text

    take_overrides(context, accepted=False)
    if run is None:
        kinds = _kinds()
        typer.echo(json.dumps(list(map(_finite, kinds))) if as_json else kinds_text(kinds))
        return
    status = _status(run, runs_dir)
    typer.echo(json.dumps(status) if as_json else status_text(status))


@rewards_app.command("check")
@guarded
def check(context: typer.Context, spec: SpecArg, as_json: AsJson = False) -> None:
    """Load a reward here and score a sample pair with it."""
    from burnish.platform.reward_check import check_reward
    from burnish.platform.reward_spec import spec_tree

    take_overrides(context, accepted=False)
    found = check_reward(spec_tree(spec))
    typer.echo(json.dumps(found.to_json()) if as_json else "\n".join(found.lines()))


@rewards_app.command("add")
@guarded
def add(
    context: typer.Context,
    run: RunArg,
    spec: SpecArg,
    weight: Annotated[float | None, typer.Option(min=0, help="Weight in the rubric, instead of the spec's.")] = None,
    shadow: Shadow = 0,
    why: Why = "",
    no_wait: NoWait = False,
    runs_dir: RunsDir = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Add a reward to the rubric."""
    from burnish.platform.reward_spec import spec_for, with_weight

    take_overrides(context, accepted=False)
    tree = with_weight(spec_for(_path(run, runs_dir), spec), weight)
    _hand_in(
        run, runs_dir, {"action": "add", "spec": tree, "shadow": shadow, "why": why}, no_wait=no_wait, as_json=as_json
    )


@rewards_app.command("remove")
@guarded
def remove(
    context: typer.Context,
    run: RunArg,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Reward of the rubric.")],
    why: Why = "",
    no_wait: NoWait = False,
    runs_dir: RunsDir = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Take a reward out of the rubric."""
    take_overrides(context, accepted=False)
    _hand_in(run, runs_dir, {"action": "remove", "name": name, "why": why}, no_wait=no_wait, as_json=as_json)


@rewards_app.command("swap")
@guarded
def swap(
    context: typer.Context,
    run: RunArg,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Reward of the rubric that goes.")],
    spec: SpecArg,
    shadow: Shadow = 0,
    why: Why = "",
    no_wait: NoWait = False,
    runs_dir: RunsDir = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Put another reward in the place of one; it takes over the weight unless SPEC says one."""
    from burnish.platform.reward_spec import spec_for

    take_overrides(context, accepted=False)
    tree = spec_for(_path(run, runs_dir), spec)
    change = {"action": "swap", "name": name, "spec": tree, "shadow": shadow, "why": why}
    _hand_in(run, runs_dir, change, no_wait=no_wait, as_json=as_json)


@rewards_app.command("weight")
@guarded
def weight(
    context: typer.Context,
    run: RunArg,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Reward of the rubric.")],
    value: Annotated[float | None, typer.Argument(metavar="VALUE", min=0, help="The new weight.")] = None,
    schedule: Annotated[str | None, typer.Option(help="Weights by iteration instead, as 0:1.0,20:0.3.")] = None,
    why: Why = "",
    no_wait: NoWait = False,
    runs_dir: RunsDir = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Change a reward's weight."""
    from burnish.platform.reward_spec import schedule_points

    take_overrides(context, accepted=False)
    if (value is None) == (schedule is None):
        raise ConfigError("option refused", [Problem("VALUE, --schedule", "both or none", "one of the two")])
    given = {"weight": value} if schedule is None else {"schedule": schedule_points(schedule)}
    _hand_in(run, runs_dir, {"action": "weight", "name": name, "why": why, **given}, no_wait=no_wait, as_json=as_json)


@rewards_app.command("shadow")
@guarded
def shadow(
    context: typer.Context,
    run: RunArg,
    spec: Annotated[str | None, typer.Argument(metavar="SPEC", help="As for `add`.")] = None,
    iterations: Annotated[int, typer.Option(min=0, metavar="N", help="How long; 0: until --stop.")] = 0,
    stop: Annotated[str | None, typer.Option(metavar="NAME", help="End this shadow instead.")] = None,
    why: Why = "",
    no_wait: NoWait = False,
    runs_dir: RunsDir = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Score a reward beside the rubric, without effect, and log how far it agrees."""
    from burnish.platform.reward_spec import spec_tree

    take_overrides(context, accepted=False)
    if (spec is None) == (stop is None):
        raise ConfigError("option refused", [Problem("SPEC, --stop", "both or none", "one of the two")])
    change: dict[str, Any] = {"action": "unshadow", "name": stop, "why": why}
    if spec is not None:
        change = {"action": "shadow", "spec": spec_tree(spec), "shadow": iterations, "why": why}
    _hand_in(run, runs_dir, change, no_wait=no_wait, as_json=as_json)


@rewards_app.command("rollback")
@guarded
def rollback(
    context: typer.Context,
    run: RunArg,
    to: Annotated[int | None, typer.Option(min=1, metavar="VERSION", help="Rubric; default: the one before.")] = None,
    why: Why = "",
    no_wait: NoWait = False,
    runs_dir: RunsDir = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Go back to an earlier rubric of the run."""
    take_overrides(context, accepted=False)
    change = {"action": "rollback", "to_version": to, "why": why}
    _hand_in(run, runs_dir, change, no_wait=no_wait, as_json=as_json)


def _path(run: str, runs_dir: Path) -> Path:
    from burnish.platform.runs import RunStore

    return RunStore(runs_dir).open(run).path


def _hand_in(run: str, runs_dir: Path, change: Mapping[str, Any], *, no_wait: bool, as_json: bool) -> None:
    """Send a change and, unless told otherwise, wait until it is active.

    Raises:
        ConfigError: refused, at once or later.
        InfrastructureError: the run cannot be reached.
    """
    from burnish.platform.control_client import ControlClient, NotDriven
    from burnish.platform.rewards_text import change_text
    from burnish.platform.rewards_view import decided
    from burnish.platform.runs import RunStore

    opened = RunStore(runs_dir).open(run)
    with ControlClient(opened) as client:
        change_id = client.submit(change)
        if no_wait:
            typer.echo(json.dumps({"id": change_id}) if as_json else change_id)
            return
        try:
            found = client.wait(change_id, _tell)
        except NotDriven:
            ended = decided(opened.path, change_id)  # the run may have ended just after the change was made
            if ended is None:
                note(f"the run left before the change {change_id} was decided; a resumed run does not know it")
                raise
            found = ended
        except KeyboardInterrupt:
            note(f"the change {change_id} goes on: burnish rewards list {run}")
            raise
    if found["state"] == "refused":
        raise ConfigError(f"the run refused the change: {found['reason']}")
    typer.echo(json.dumps(found) if as_json else change_text(found))


def _tell(change: Mapping[str, Any]) -> None:
    """A line of progress; how it ends is the command's own output."""
    from burnish.platform.rewards_text import change_text
    from burnish.platform.rewards_view import FINAL

    if change["state"] not in FINAL:
        note(f"{change_text(change)} …")


def _status(run: str, runs_dir: Path) -> dict[str, Any]:
    """What the run says itself, else what its journal says."""
    from burnish.platform.control_client import ControlClient
    from burnish.platform.rewards_view import status_of
    from burnish.platform.runs import RunStore

    opened = RunStore(runs_dir).open(run)
    try:
        with ControlClient(opened) as client:
            return {"driven": True, **client.status()}
    except InfrastructureError as error:
        note(f"from the journal: {error.message}")
        return {"driven": False, **status_of(opened.path)}


def _kinds() -> list[dict[str, Any]]:
    from burnish.rewards.protocol import is_remote
    from burnish.rewards.table import TABLE

    return [
        {
            "kind": kind,
            "direction": cls.direction,
            "range": list(cls.range),
            "needs_weights": cls.needs_weights,
            "remote": is_remote(cls),
        }
        for kind, cls in TABLE.items()
    ]


def _finite(kind: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: an open end is null."""
    return {**kind, "range": [end if math.isfinite(end) else None for end in kind["range"]]}
