"""A reward as people write it on the command line: the name of a kind, a file, or a mapping.

Called by `burnish rewards …`. It gives plain values; whether they describe a reward is judged by `RewardSpec`, for a
run that goes on by the run itself. Imports nothing heavy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from burnish.data.errors import ConfigError, Problem
from burnish.platform.lookup import read_recipe, read_yaml
from burnish.platform.rewards_view import shadow_spec

_INHERITED: dict[str, Any] = {"weight": 1.0, "weight_schedule": [], "gold": False}
"""Fields that a swap takes over from the old reward unless the spec says them."""


def spec_tree(text: str) -> dict[str, Any]:
    """The fields of a reward's spec.

    Args:
        text: `{kind: masked_pixel, …}`, a path that ends in .yaml, .yml or .json, or the name of a kind. The reward's
            name is its kind unless the mapping says another one.

    Raises:
        ConfigError: unreadable, or no mapping.
    """
    try:
        if text.lstrip().startswith("{"):
            tree = read_yaml(text, source="SPEC")
        elif text.endswith((".yaml", ".yml", ".json")):
            tree = read_recipe(Path(text))
        else:
            tree = {"kind": text}
    except ConfigError as error:
        raise ConfigError("the reward is not readable", error.problems) from None
    return {"name": tree.get("kind"), **tree} if "kind" in tree else tree


def spec_for(run_path: Path, text: str) -> dict[str, Any]:
    """`spec_tree`, or the spec of the reward of that name that the run is shadowing.

    Raises:
        ConfigError: unreadable, or no mapping.
    """
    shadow = shadow_spec(run_path, text)
    if shadow is None:
        return spec_tree(text)
    return {key: value for key, value in shadow.items() if key not in _INHERITED or value != _INHERITED[key]}


def with_weight(tree: dict[str, Any], weight: float | None) -> dict[str, Any]:
    """The spec with the weight of the command line.

    Raises:
        ConfigError: the spec has a schedule, which a weight would contradict.
    """
    if weight is None:
        return tree
    if tree.get("weight_schedule"):
        raise ConfigError(
            "option refused", [Problem("--weight", str(weight), "nothing: the spec has a weight_schedule")]
        )
    return {**tree, "weight": weight}


def schedule_points(text: str) -> list[dict[str, Any]]:
    """Points of a schedule written as `0:1.0,20:0.3`: iteration and weight.

    Raises:
        ConfigError: another form, naming every part that is wrong.
    """
    points, problems = [], []
    for part in text.split(","):
        iteration, colon, weight = part.partition(":")
        try:
            if not colon:
                raise ValueError
            points.append({"iteration": int(iteration), "weight": float(weight)})
        except ValueError:
            problems.append(Problem("--schedule", repr(part), "ITERATION:WEIGHT, for example 0:1.0,20:0.3"))
    if problems:
        raise ConfigError("option refused", problems)
    return points
