"""What a run is scored by: a list of rewards with weights, and digests that say exactly which.

Called by the recipe's validation and by the reward server. Advantages, which combine the scores, are the learners'.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from burnish.data.errors import ConfigError
from burnish.data.records import RewardVersion, RubricVersion
from burnish.rewards.drs import DrsConfig
from burnish.rewards.protocol import HasWeights, Reward
from burnish.rewards.table import reward_class, reward_options


class WeightPoint(BaseModel):
    """A reward's weight from an iteration on."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    iteration: int = Field(ge=0, description="GRPO iteration, counted from 0")
    weight: float = Field(ge=0, description="weight there; between two points the straight line")


class RewardSpec(BaseModel):
    """One reward of a rubric."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="unique in the rubric; metrics are logged under it")
    kind: str = Field(description="name in the table of rewards (`burnish rewards list`)")
    weight: float = Field(default=1.0, ge=0, description="share in the training reward; 0 = scored, not trained on")
    weight_schedule: tuple[WeightPoint, ...] = Field(
        default=(), description="weight by iteration, in place of `weight`: straight lines, constant before and after"
    )
    gold: bool = Field(
        default=False, description="a gold metric: logged, compared with the training reward, never trained on"
    )
    drs: DrsConfig | None = Field(default=None, description="scaling by the number of references; null = raw values")
    batch: int = Field(
        default=16, ge=1, description="rows of every call, fixed; short batches are padded with the last row"
    )
    weights_sha256: str = Field(
        default="",
        pattern=r"^([0-9a-f]{64})?$",
        description="digest that the reward's weight files must have (`burnish rewards check` prints it); '' = any",
    )
    options: dict[str, JsonValue] = Field(default={}, description="the reward class's own options")

    @model_validator(mode="after")
    def _check(self) -> RewardSpec:
        kind = reward_class(self.kind)
        reward_options(self)
        if self.name == "total":
            raise ValueError("name: got 'total', allowed another: the weighted sum is logged under it")
        iterations = [point.iteration for point in self.weight_schedule]
        if iterations != sorted(set(iterations)):
            raise ValueError(f"weight_schedule: got iterations {iterations}, allowed an ascending list")
        if self.kind.startswith("toy_") and not self.name.startswith("toy_"):
            raise ValueError(
                f"name: got {self.name!r}, allowed a name starting with 'toy_' for the stand-in {self.kind!r}"
            )
        if self.gold and self.largest_weight > 0:
            raise ValueError(f"weight: got {self.largest_weight} for the gold reward {self.name!r}, allowed 0")
        if self.largest_weight > 0 and kind.direction < 0:
            raise ValueError(
                f"weight: got {self.largest_weight} for {self.name!r}, allowed 0: its smaller values are better"
            )
        if self.drs is not None and self.drs.kind == "f1" and kind.range[1] <= 0:
            raise ValueError(
                f"drs.kind: got f1 for {self.name!r}, allowed f2: f1 is 0 on values that are never positive"
            )
        return self

    @property
    def largest_weight(self) -> float:
        """The weight, or the largest of its schedule."""
        return max((point.weight for point in self.weight_schedule), default=self.weight)

    def weight_at(self, iteration: int) -> float:
        """The weight in one GRPO iteration: `weight`, or the schedule's straight lines."""
        if not self.weight_schedule:
            return self.weight
        points = self.weight_schedule
        return float(np.interp(iteration, [p.iteration for p in points], [p.weight for p in points]))


class RubricConfig(BaseModel):
    """The rewards of a run and how they are combined."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    rewards: tuple[RewardSpec, ...] = Field(min_length=1, description="in the order they are scored and logged")
    aggregation: Literal["gdpo", "gdpo_trl", "weighted_sum"] = Field(
        default="gdpo",
        description="gdpo: normalise each reward within the group, then weigh; weighted_sum: weigh raw values",
    )

    @model_validator(mode="after")
    def _check(self) -> RubricConfig:
        names = [spec.name for spec in self.rewards]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"rewards: got {twice} more than once, allowed unique names")
        # Weights are straight lines between the schedules' points: above 0 at all points is above 0 everywhere.
        points = sorted({0, *(p.iteration for spec in self.rewards for p in spec.weight_schedule)})
        zero = [i for i in points if not self.weights_at(i)]
        if zero:
            where = f" at iteration {zero[0]}" if len(points) > 1 else ""
            raise ValueError(f"rewards: got all weights zero{where}, allowed at least one weight above 0")
        return self

    @property
    def weights(self) -> dict[str, float]:
        """Name -> weight at the start of the rewards that are trained on there."""
        return self.weights_at(0)

    def weights_at(self, iteration: int) -> dict[str, float]:
        """Name -> weight of the rewards that are trained on in one GRPO iteration (weight above 0)."""
        found = {spec.name: spec.weight_at(iteration) for spec in self.rewards}
        return {name: weight for name, weight in found.items() if weight > 0}


def canonical_digest(value: Any) -> str:
    """Sha256 (hex) of the value as canonical JSON: sorted keys, no spaces, no NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def reward_version(spec: RewardSpec, reward: Reward, *, number: int = 1) -> RewardVersion:
    """Which reward this is: its digest covers all that a raw score depends on.

    That is kind, options with their defaults, batch shape, preprocessing version and weight files; not its weight in
    the rubric nor DRS, nor options that are marked `run_option`: where the files lie, on which device they are run.

    Raises:
        ConfigError: the reward needs weights and does not say their digest.
    """
    if reward.needs_weights and not isinstance(reward, HasWeights):
        raise ConfigError(f"reward {spec.name!r} needs weights and has no weights_digest")
    parts = {
        "kind": spec.kind,
        "options": _significant(reward_options(spec)),
        "batch": spec.batch,
        "preprocessing": reward.preprocessing,
        "weights": reward.weights_digest if isinstance(reward, HasWeights) else "",
    }
    return RewardVersion(spec.name, number, canonical_digest(parts))


def _significant(options: BaseModel) -> dict[str, Any]:
    """The options that a number may depend on."""
    extras = {name: info.json_schema_extra for name, info in type(options).model_fields.items()}
    placed = {name for name, extra in extras.items() if isinstance(extra, dict) and extra.get("run_option")}
    return options.model_dump(mode="json", exclude=placed)


def rubric_version(config: RubricConfig, versions: Sequence[RewardVersion], *, number: int = 1) -> RubricVersion:
    """Which rubric this is: digest over reward digests, weights, gold marks, DRS and aggregation.

    Version counters stay outside the digest, so that a server that was restarted says the same as one that was not.

    Args:
        config: the rubric.
        versions: one entry a reward, in the rubric's order.
        number: the rubric's counter; the driver keeps it.
    """
    fields = {"name", "weight", "weight_schedule", "gold", "drs"}
    rows = [
        {"reward": v.digest, **spec.model_dump(mode="json", include=fields)}
        for spec, v in zip(config.rewards, versions, strict=True)
    ]
    return RubricVersion(number, canonical_digest({"aggregation": config.aggregation, "rewards": rows}))
