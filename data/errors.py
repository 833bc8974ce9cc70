"""Errors a user can meet. Every room raises these; the command line turns them into text and an exit code.

A `BurnishError` also inherits the fitting built-in, survives pickling (Ray sends it between processes) and may carry
several `Problem`s, so that all that is wrong is reported at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with an input.

    Args:
        field: dotted path of the field, or the file and row.
        got: what was given, as text.
        allowed: what would have been accepted.
        hint: one sentence that says what to do, may be empty.
    """

    field: str
    got: str
    allowed: str
    hint: str = ""

    def __str__(self) -> str:
        text = f"{self.field}: got {self.got}, allowed {self.allowed}"
        return f"{text} ({self.hint})" if self.hint else text


class BurnishError(Exception):
    """Base of all errors that burnish raises for a user's mistake or a run that cannot go on."""

    exit_code = 1

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n  ".join([self.message, *map(str, self.problems)])

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.message, self.problems)


class ConfigError(BurnishError, ValueError):
    """The recipe, an override or a combination of them is refused before anything starts."""

    exit_code = 2


class DataError(BurnishError, ValueError):
    """A file or a row of the user's data cannot be used."""

    exit_code = 3


class CheckpointError(DataError):
    """A checkpoint is missing, damaged or does not belong to this run."""


class InfrastructureError(BurnishError, RuntimeError):
    """Actors, nodes or disks failed more often than the run's budget allows; `--resume` continues."""

    exit_code = 4


class RefusedError(BurnishError, RuntimeError):
    """The run refused to go on: importance ratio off, no learning signal, divergence, or a guard's stop."""

    exit_code = 5
