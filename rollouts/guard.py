"""The guard: stops a run whose training reward rises while a gold metric, which no reward trains on, falls.

The training loop calls `judge` after every evaluation on dev and obeys the verdict. A pure rule over the whole history,
so a resumed run judges as the undisturbed one did. It never sees held-out examples.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

GOLD_METRICS = ("masked_mse", "outside_mse", "edge_ratio", "glyph_accuracy")
"""Names the guard knows how to read (see `goodness`)."""

GOLD_REWARD = "reward/"
"""What the name of a gold reward of the rubric is preceded by, as in `reward/toy_style`."""

Action = Literal["warn", "stop", "pause", "rollback", "raise_kl"]
"""warn: say it; stop: end the stage there; pause: commit and leave, a resume goes on; rollback: end the stage at an
earlier commit; raise_kl: multiply the KL weight and go on."""


class GuardConfig(BaseModel):
    """When the gold metrics overrule the reward."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    enabled: bool = Field(default=True, description="Judge after every evaluation on dev.")
    metrics: tuple[str, ...] = Field(
        default=("masked_mse", "edge_ratio", "glyph_accuracy"),
        description=f"Gold metrics to watch, out of {GOLD_METRICS}, or reward/NAME for a gold reward of the rubric.",
    )
    window: int = Field(default=2, description="Evaluations that are averaged before they are compared.", ge=1)
    patience: int = Field(default=2, description="Consecutive bad verdicts before the action is taken.", ge=1)
    tolerance: float = Field(
        default=0.05, description="Relative loss against the best window that is still forgiven, 0.05 = 5 %.", ge=0.0
    )
    action: Action = Field(
        default="rollback", description="Reward rises while gold falls: warn, stop, pause, rollback or raise_kl."
    )
    regression_action: Action = Field(
        default="rollback", description="Gold falls and the reward does not rise: as `action`."
    )
    rollback_to: str = Field(
        default="best",
        pattern=r"^(best|base|step-[0-9]{6})$",
        description="Where a rollback returns to: best, base, or a commit by name, which is then kept.",
    )
    kl_factor: float = Field(
        default=2.0, description="raise_kl: what multiplies the KL weight each time.", gt=1.0, allow_inf_nan=False
    )
    kl_max_factor: float = Field(
        default=16.0, description="raise_kl: at most the recipe's weight times this.", gt=1.0, allow_inf_nan=False
    )

    @model_validator(mode="after")
    def _known_metrics(self) -> GuardConfig:
        unknown = sorted(m for m in set(self.metrics) - set(GOLD_METRICS) if not m.startswith(GOLD_REWARD))
        if unknown or not self.metrics:
            raise ValueError(f"metrics: got {list(self.metrics)}, allowed one or more of {list(GOLD_METRICS)}")
        return self

    @property
    def rollback_commit(self) -> str:
        """Name of the commit that a rollback returns to and that is kept for it; "" = the best, or no rollback."""
        if self.rollback_to == "best" or "rollback" not in (self.action, self.regression_action):
            return ""
        return "step-000000" if self.rollback_to == "base" else self.rollback_to


@dataclass(frozen=True)
class Observation:
    """One evaluation on dev.

    Args:
        iteration: finished iterations when it was made.
        reward: mean training reward since the observation before it; NaN where no iteration lies between.
        gold: metric name -> mean on dev; NaN or absent = not applicable.
    """

    iteration: int
    reward: float
    gold: Mapping[str, float]


@dataclass(frozen=True)
class Verdict:
    """What the guard wants.

    Args:
        action: see `Action`.
        kind: "hacking" (the reward rose) or "regression" (it did not).
        metric: the gold metric that fell furthest.
        best_iteration: the last observation of that metric's best window. A rollback returns to the commit that is best
            over all watched metrics, which may be another one.
        loss: relative loss of goodness against the best window.
        message: one sentence for the log and the report.
    """

    action: Action
    kind: Literal["hacking", "regression"]
    metric: str
    best_iteration: int
    loss: float
    message: str


def goodness(metric: str, value: float) -> float:
    """A gold metric as a positive number that is larger when better, so that losses compare as ratios.

    Errors become 1 / value; an edge ratio becomes min(ratio, 1 / ratio), at most 1, since both blur and noise are bad;
    an accuracy stays as it is, and so does a gold reward, which is given as its place in its range. NaN stays NaN.
    """
    floor = 1e-9
    if metric.endswith("_mse"):
        return 1.0 / max(value, floor)
    if metric == "edge_ratio":
        return min(value, 1.0 / max(value, floor))
    return value  # an accuracy, or a gold reward's place in its range


def _smooth(values: Sequence[float], window: int) -> np.ndarray:
    """Trailing means [n - window + 1] of n values."""
    return np.lib.stride_tricks.sliding_window_view(np.asarray(values, dtype=np.float64), window).mean(axis=-1)


def _loss_at_end(history: Sequence[Observation], metric: str, config: GuardConfig) -> tuple[float, bool, int] | None:
    """(relative loss, did the reward rise, best iteration) of one metric at the end of `history`, None if too short."""
    seen = [o for o in history if not np.isnan(o.gold.get(metric, float("nan")))]
    if len(seen) <= config.window:
        return None
    # Means are taken before goodness: a mean of 1 / error would be ruled by its smallest member.
    gold = [goodness(metric, float(value)) for value in _smooth([o.gold[metric] for o in seen], config.window)]
    best = int(np.argmax(gold))
    if gold[best] <= 0:
        return 0.0, False, seen[best + config.window - 1].iteration
    rewards = np.array([o.reward for o in seen])
    since, until = rewards[best : best + config.window], rewards[-config.window :]
    known = not (np.isnan(since).all() or np.isnan(until).all())
    rose = known and float(np.nanmean(until)) > float(np.nanmean(since))
    return 1.0 - gold[-1] / gold[best], rose, seen[best + config.window - 1].iteration


def _worst(history: Sequence[Observation], config: GuardConfig) -> tuple[float, bool, int, str] | None:
    """The metric beyond tolerance with the largest loss; one that fell while the reward rose goes first."""
    found = [(m, _loss_at_end(history, m, config)) for m in config.metrics]
    bad = [(loss[1], loss[0], loss[2], m) for m, loss in found if loss is not None and loss[0] > config.tolerance]
    if not bad:
        return None
    rose, loss, iteration, metric = max(bad)
    return loss, rose, iteration, metric


def judge(history: Sequence[Observation], config: GuardConfig) -> Verdict | None:
    """The verdict at the end of `history` (observations in order of iteration), None while all is well.

    Bad means: a gold metric's trailing mean over `window` observations is worse than its best earlier one by more than
    `tolerance`. After `patience` consecutive bad observations the verdict falls: "hacking" if the mean training reward
    of the last window exceeds that of the best window, else "regression".
    """
    if not config.enabled or len(history) < config.patience:
        return None
    ends = range(len(history) - config.patience + 1, len(history) + 1)
    found = [_worst(history[:end], config) for end in ends]
    last = found[-1]
    if last is None or any(item is None for item in found):
        return None
    loss, rose, best, metric = last
    kind: Literal["hacking", "regression"] = "hacking" if rose else "regression"
    action = config.action if rose else config.regression_action
    verb = "rose" if rose else "did not rise"
    where = "in training" if metric.startswith(GOLD_REWARD) else "on dev"
    message = f"{metric} {where} is {loss:.0%} worse than at iteration {best} while the reward {verb}"
    return Verdict(action, kind, metric, best, loss, message)


def best_iteration(history: Sequence[Observation], metrics: Sequence[str], *, among: Collection[int]) -> int:
    """The iteration with the best gold metrics: largest sum of the logarithms of their goodness, the first of equals.

    Where one of them is unknown (no sample was drawn yet, a judge was silent) the value observed before it stands in,
    else the first that is known: left out it would count as perfect. A metric that is never known says nothing.

    Args:
        history: all observations in order of iteration.
        metrics: what is watched.
        among: observed iterations to choose from, those that are still on disk.

    Raises:
        ValueError: `among` names no observed iteration.
    """
    quality = np.zeros(len(history))
    for metric in metrics:
        values = np.array([o.gold.get(metric, math.nan) for o in history], np.float64)
        known = np.flatnonzero(~np.isnan(values))
        if known.size:
            stand_in = np.maximum(np.searchsorted(known, np.arange(len(history)), side="right") - 1, 0)
            quality += [math.log(max(goodness(metric, float(v)), 1e-9)) for v in values[known[stand_in]]]
    places = [place for place, o in enumerate(history) if o.iteration in among]
    return history[max(places, key=lambda place: quality[place])].iteration
