"""The no-learn watch: a run that looks healthy and learns nothing is stopped.

Five signs are read: reward spread, gradient norm, policy digest and non-finite updates every iteration, the samples at
each evaluation on dev. A sign that is missing is a warning; the same sign missing `patience` times in a row stops the
run. Groups that have converged (every reward at its best value) are not counted against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from burnish.data.errors import RefusedError


class WatchConfig(BaseModel):
    """When a run without a learning signal stops."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    patience: int = Field(
        default=3, description="iterations in a row without one of the signs before the run stops", ge=1
    )


@dataclass
class Watch:
    """Counts, per sign, the iterations in a row that lacked it."""

    config: WatchConfig
    missing: dict[str, int] = field(default_factory=dict)
    last_samples: str = ""

    def state(self) -> dict[str, Any]:
        """What a resumed watch starts with."""
        return {"missing": dict(self.missing), "last_samples": self.last_samples}

    def observe(
        self, iteration: int, *, spread: float, converged: bool, metrics: Mapping[str, float], changed: bool
    ) -> list[str]:
        """Warnings of this iteration.

        Args:
            iteration: which one, for the text.
            spread: largest standard deviation of a group's combined reward.
            converged: every valid reward is at the best value of its range.
            metrics: the learner's; `grad_norm`, `lr`, `updates` and `skipped_updates` are read.
            changed: the policy digest differs from the previous version's.

        Raises:
            RefusedError: a sign was missing `patience` times in a row, or an update with a gradient and a learning
                rate left the policy's digest as it was.
        """
        taken = metrics["updates"] > metrics["skipped_updates"]
        if taken and not changed and metrics["grad_norm"] > 0.0 and metrics["lr"] > 0.0:
            raise RefusedError(f"Iteration {iteration} updated the policy and its digest did not change.")
        signs = {
            "the rewards of every group are equal": spread <= 0.0 and not converged,
            "the gradient is zero": metrics["grad_norm"] <= 0.0 and not converged,
            "the update did not change the policy": not changed and not converged,
            "every optimiser step was non-finite and skipped": metrics["skipped_updates"] >= metrics["updates"] > 0,
        }
        return self._count(iteration, signs)

    def evaluated(self, iteration: int, samples: str) -> list[str]:
        """Warnings of an evaluation on dev, whose noise is the same every time: another policy gives other samples.

        Args:
            iteration: which one, for the text.
            samples: digest of what was measured.

        Raises:
            RefusedError: nothing changed `patience` times in a row.
        """
        same, self.last_samples = samples == self.last_samples, samples
        return self._count(iteration, {"the samples on dev are those of the evaluation before": same})

    def _count(self, iteration: int, signs: Mapping[str, bool]) -> list[str]:
        for sign, hit in signs.items():
            self.missing[sign] = self.missing.get(sign, 0) + 1 if hit else 0
        self.missing = {sign: count for sign, count in self.missing.items() if count}
        worst = max(self.missing.values(), default=0)
        if worst >= self.config.patience:
            named = "; ".join(sign for sign, count in self.missing.items() if count == worst)
            raise RefusedError(f"No learning for {worst} iterations, up to iteration {iteration}: {named}.")
        return [f"iteration {iteration}: {sign}" for sign, hit in signs.items() if hit]
