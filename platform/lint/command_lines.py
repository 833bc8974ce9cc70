"""Command lines of burnish inside manifests and scripts: they are parsed by the command line itself.

A wrong option would otherwise show when the cluster is up and the job ends.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from burnish.data.errors import BurnishError, Problem
from burnish.platform.overrides import split_overrides

_END = re.compile(r"\s*(?:&&|\|\||[;&|]|$)")


def command_problems(line: str, *, again: bool) -> Iterator[Problem]:
    """Problems of the first `burnish …` in a line; other commands are not ours to judge.

    Args:
        line: a shell command; variables count as words.
        again: it is started again after a failure, so a training must go on where it was.
    """
    words = _words(line)
    if words is None:
        yield Problem("", line[:60], "a shell command with its quotes closed")
        return
    if "burnish" not in words:
        return
    words = words[words.index("burnish") + 1 :]
    ends = [i for i, word in enumerate(words) if _END.fullmatch(word)]
    words = words[: ends[0]] if ends else words
    yield from _parsed(words)
    if again and words[:1] == ["train"] and not any(word.startswith("--resume") for word in words):
        yield Problem("", "burnish train without --resume", "--resume auto", "a retry would begin anew")


def _words(line: str) -> list[str] | None:
    try:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
        lexer.whitespace_split = True
        return list(lexer)
    except ValueError:
        return None


def _parsed(words: list[str]) -> Iterator[Problem]:
    import typer
    from typer.exceptions import TyperException

    from burnish.platform.cli import app

    try:
        rest, _ = split_overrides(words)
    except BurnishError as error:
        yield from error.problems
        return
    command, path = typer.main.get_command(app), "burnish"
    while rest and rest[0] in getattr(command, "commands", {}):
        command, path, rest = command.commands[rest[0]], f"{path} {rest[0]}", rest[1:]  # pyright: ignore
    if hasattr(command, "commands"):
        yield Problem("", " ".join([path, *rest[:1]]), f"{path} {'|'.join(sorted(command.commands))}")  # pyright: ignore
        return
    try:
        command.make_context(path, list(rest))
    except TyperException as error:
        yield Problem("", f"{path} …", f"options of `{path} --help`", str(getattr(error, "message", error)))
    except typer.Exit:
        return
