"""What `burnish data make` is asked for, and what it says at its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from burnish.data.errors import ConfigError
from burnish.data.making import MANIFEST, PREVIEW, Made
from burnish.data.quadruples import MakeConfig
from burnish.platform.validation import validate

_SNIPPET = """to train on it:
  data:
    sources: [{{kind: manifest, path: {path}}}]
    group_by_box: false
    crop: focus"""


def make_config(options: Mapping[str, Any]) -> MakeConfig:
    """The configuration that options say; other options are not its.

    Raises:
        ConfigError: all that is out of bounds at once.
    """
    try:
        tree = {name: value for name, value in options.items() if name in MakeConfig.model_fields}
        return validate(MakeConfig, tree, source="burnish data make")
    except ConfigError as error:
        raise ConfigError("options refused", error.problems) from None


def closing_lines(out: Path, made: Made) -> list[str]:
    """What was made, what could not be, where to look, and how a recipe names it."""
    lines = [
        f"{made.rows} quadruples: " + ", ".join(f"{name} {n}" for name, n in sorted(made.splits.items())),
        "defects: " + ", ".join(f"{name} {n}" for name, n in sorted(made.degradations.items())),
    ]
    if made.flat:
        lines.append(f"no region with detail in: {', '.join(made.flat)}")
    if made.skipped:
        lines.append(f"left out: {made.skipped} files that cannot be used")
    lines.append(f"look at: {out / PREVIEW}")
    return [*lines, *_SNIPPET.format(path=out / MANIFEST).splitlines()]
