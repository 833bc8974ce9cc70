"""What every command shares: its exit code, refused overrides, common options. Imports nothing heavy."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, ParamSpec

import typer

from burnish.data.errors import BurnishError, ConfigError, InfrastructureError, Problem
from burnish.platform.console import report_error
from burnish.platform.overrides import Override

P = ParamSpec("P")
INTERRUPTED = 130

RunsDir = Annotated[Path, typer.Option("--runs-dir", envvar="BURNISH_RUNS_DIR", help="Directory of all runs.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for machines.")]
RunArg = Annotated[str, typer.Argument(metavar="RUN", help="Run id, see `burnish runs list`.")]


def guarded(command: Callable[P, int | None]) -> Callable[P, None]:
    """Turn a command's errors into text on standard error and its exit code (2, 3, 4, 5 or 130)."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = command(*args, **kwargs) or 0
        except BurnishError as error:
            code = report_error(error, json_lines=bool(kwargs.get("as_json")))
        except BrokenPipeError:  # whoever read our output has enough of it
            raise
        except OSError as error:
            wrong = InfrastructureError(f"{type(error).__name__}: {error}")
            code = report_error(wrong, json_lines=bool(kwargs.get("as_json")))
        except KeyboardInterrupt:
            code = INTERRUPTED
        raise typer.Exit(code)

    return run


def take_overrides(context: typer.Context, *, accepted: bool) -> list[Override]:
    """The dotted overrides of this call.

    Raises:
        ConfigError: the command takes none.
    """
    overrides: list[Override] = context.obj or []
    if overrides and not accepted:
        problems = [Problem(name, text, "no overrides with this command") for name, text in overrides]
        raise ConfigError("override refused", problems)
    return overrides


def one_of(field: str, got: str, allowed: Sequence[str]) -> str:
    """`got` if it is allowed.

    Raises:
        ConfigError: it is not.
    """
    if got not in allowed:
        raise ConfigError("option refused", [Problem(f"--{field}", got, " or ".join(allowed))])
    return got
