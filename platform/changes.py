"""One change of a run's rubric, as people ask for it: what the control API takes and the journal keeps.

Made by `burnish rewards …` and by `change_from`, which judges what came over the wire or from a file. Whether a change
fits the rubric of a run is not decided here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from burnish.data.errors import ConfigError, Problem
from burnish.platform.validation import validate
from burnish.rewards.rubric import RewardSpec, WeightPoint

Action = Literal["add", "remove", "swap", "weight", "shadow", "unshadow", "rollback"]
ACTIONS: tuple[Action, ...] = get_args(Action)
NEEDS: dict[str, tuple[str, ...]] = {
    "add": (),
    "remove": ("name",),
    "swap": ("name",),
    "weight": ("name",),
    "shadow": ("spec",),
    "unshadow": ("name",),
    "rollback": (),
}
"""Action -> fields that it cannot do without."""
TAKES: dict[str, tuple[str, ...]] = {
    "add": ("spec", "name", "shadow"),
    "remove": (),
    "swap": ("spec", "shadow"),
    "weight": ("weight", "schedule"),
    "shadow": ("name", "shadow"),
    "unshadow": (),
    "rollback": ("to_version",),
}
"""Action -> fields that it may have besides; `why` goes with all."""
MAX_WHY = 500
"""Characters of `why`: it stands in every table of the run."""


@dataclass(frozen=True)
class Change:
    """A change of a rubric.

    Args:
        action: what to do.
        name: the reward it is about, by its name in the rubric; for `shadow` the one that the shadow is compared with,
            "" = the weighted total.
        spec: the reward that comes, with its weight (add, swap, shadow); None for add and swap = the shadow `name`.
            Which of its fields were set is kept: a swap leaves the weight alone unless the spec says one.
        weight: the new weight, >= 0 (weight).
        schedule: the new weight by iteration, instead of `weight` (weight).
        shadow: iterations to score beside the rubric before it acts, 0 = at once (add, swap); for `shadow` how many
            iterations it is scored, 0 = until `unshadow`.
        to_version: the rubric to go back to, None = the one before (rollback).
        why: the reason, in a line; it goes into the journal and the report.
    """

    action: Action
    name: str = ""
    spec: RewardSpec | None = None
    weight: float | None = None
    schedule: tuple[WeightPoint, ...] = ()
    shadow: int = 0
    to_version: int | None = None
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Every field as JSON values; `change_from` of it gives an equal change."""
        return {
            **vars(self),
            "spec": None if self.spec is None else self.spec.model_dump(mode="json", exclude_unset=True),
            "schedule": [point.model_dump(mode="json") for point in self.schedule],
        }


class ChangeBody(BaseModel):
    """A change of a run's rubric."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    action: Action = Field(description="what to do")
    name: str = Field(default="", pattern=r"^([a-z][a-z0-9_]*)?$", description="the reward it is about")
    spec: RewardSpec | None = Field(default=None, description="the reward that comes")
    weight: float | None = Field(default=None, ge=0, description="the new weight")
    schedule: tuple[WeightPoint, ...] = Field(default=(), description="the new weight by iteration")
    shadow: int = Field(default=0, ge=0, description="iterations in shadow")
    to_version: int | None = Field(default=None, ge=1, description="the rubric to go back to; null = the one before")
    why: str = Field(default="", max_length=MAX_WHY, description="the reason, in a line")

    @model_validator(mode="after")
    def _check(self) -> ChangeBody:
        problems = list(_problems(self))
        if problems:
            raise ConfigError("the change's parts do not fit", problems)
        return self


def change_from(tree: Mapping[str, Any]) -> Change:
    """The change that a mapping of JSON values describes.

    Args:
        tree: fields of `Change`; those with a default may be left out.

    Raises:
        ConfigError: with every problem: unknown, missing and superfluous fields, wrong types, values out of bounds.
    """
    numbers = list(_not_finite(tree, ""))
    if numbers:
        raise ConfigError("the change is refused", numbers)
    try:
        body = validate(ChangeBody, tree, source="change")
    except ConfigError as error:
        problems = [replace(p, field="change") if p.field == "recipe" else p for p in error.problems]
        raise ConfigError("the change is refused", problems) from None
    return Change(**{name: getattr(body, name) for name in ChangeBody.model_fields})


def _problems(body: ChangeBody) -> Iterator[Problem]:
    """What the fields say against each other."""
    action, given = body.action, body.model_fields_set
    known = {"action", "why", *NEEDS[action], *TAKES[action]}
    for name in NEEDS[action]:
        if not getattr(body, name):
            yield Problem(name, "nothing", f"a value: {action} needs it")
    if action == "add" and body.spec is None and not body.name:
        yield Problem("spec", "nothing", "a reward, or the name of one that is being shadowed")
    for name, info in ChangeBody.model_fields.items():
        if name in given - known and getattr(body, name) != info.default:
            yield Problem(name, repr(getattr(body, name)), f"nothing: {action} takes {', '.join(sorted(known))}")
    if action == "weight" and (body.weight is None) == (not body.schedule):
        yield Problem("weight", "neither or both of weight and schedule", "one of the two")
    iterations = [point.iteration for point in body.schedule]
    if iterations != sorted(set(iterations)):
        yield Problem("schedule", f"iterations {iterations}", "an ascending list")
    if any(not character.isprintable() for character in body.why):
        yield Problem("why", repr(body.why[:40]), "one line without control characters")


def _not_finite(value: Any, field: str) -> Iterator[Problem]:
    if isinstance(value, float) and not math.isfinite(value):
        yield Problem(field, str(value), "a finite number")
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _not_finite(entry, f"{field}.{key}" if field else str(key))
    elif isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            yield from _not_finite(entry, f"{field}.{index}")
