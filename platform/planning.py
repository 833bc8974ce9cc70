"""From scores to an update plan: scalars only, on the driver, over whole groups.

Rewards are gathered before anything is averaged, so masks, advantages and DAR weights do not depend on who scored what.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from burnish.data.records import GroupPlan, Scores, UpdatePlan
from burnish.learners.advantages import AdvantageConfig, advantages, shuffled
from burnish.learners.dar import DarConfig, group_weights, performance
from burnish.platform.reward_ranges import best_value
from burnish.rewards.rubric import RewardSpec, RubricConfig
from burnish.rollouts.metrics import reward_statistics


@dataclass(frozen=True)
class Planned:
    """An update plan and what is logged of it.

    Args:
        plan: what the learner gets.
        metrics: flat numbers for metrics.jsonl.
        spread: largest standard deviation of a group's advantages; 0 = nothing to learn from.
        converged: every reward that is trained on is at the best value of its range, so there is nothing left to learn.
        warnings: what a user should know, in words.
    """

    plan: UpdatePlan
    metrics: dict[str, float]
    spread: float
    converged: bool
    warnings: tuple[str, ...]


def make_plan(
    scores: Sequence[Scores],
    *,
    iteration: int,
    on_policy: bool,
    rubric: RubricConfig,
    config: AdvantageConfig,
    dar: DarConfig,
    seed: int = 0,
    kl_scale: float = 1.0,
) -> Planned:
    """Advantages and group weights of one iteration.

    Args:
        scores: one entry a group, in example order, all of one rubric.
        iteration: which iteration.
        on_policy: the samples were drawn with the weights that the learner holds.
        rubric: names, weights and aggregation of the rewards; weights may follow a schedule.
        config, dar: how advantages and weights are computed.
        seed: the run's seed; keys the order of shuffled advantages.
        kl_scale: for the learner, see `UpdatePlan`.
    """
    weights = dict(sorted(rubric.weights_at(iteration).items()))
    names = [*weights]
    scaled = {n: np.stack([s.scaled[n] for s in scores]) for n in scores[0].raw}
    raw = {n: np.stack([s.raw[n] for s in scores]) for n in scores[0].raw}
    valid = {n: np.stack([s.valid[n] for s in scores]) for n in scores[0].raw}
    trained, masks = {n: scaled[n] for n in names}, {n: valid[n] for n in names}
    found = advantages(trained, masks, weights=weights, aggregation=rubric.aggregation, config=config)
    ordered, ids = found.values, [s.example_id for s in scores]
    if config.control == "shuffled":
        ordered = shuffled(ordered, found.valid, seed=seed, iteration=iteration, example_ids=ids)
    source = scaled if dar.source == "scaled" else raw
    counted = names if not dar.reward else [dar.reward]  # it may have a weight of 0
    means, present = performance(
        {n: source[n] for n in counted}, {n: valid[n] for n in counted}, weights=weights, config=dar
    )
    difficulty = group_weights(means, dar, present=present)
    groups = tuple(
        GroupPlan(example_id, ordered[i], found.valid[i], float(difficulty.weights[i]))
        for i, example_id in enumerate(ids)
    )
    metrics = {**_reward_metrics(scores), **_cost_metrics(scores)}
    # What a group can teach is decided by the scaled values; watched rewards keep the share of their raw ones.
    metrics |= {f"reward/{n}/zero_spread": s for n, s in found.zero_spread.items() if valid[n].any()}
    shown = [s.name for s in rubric.rewards if s.weight_schedule or s.name in weights]
    metrics |= {f"reward/{n}/weight": weights.get(n, 0.0) for n in shown}
    total = np.add.reduce([weights[n] * np.where(valid[n], scaled[n], 0.0) for n in names])
    everything = reward_statistics(total, np.logical_and.reduce([valid[n] for n in names]))
    metrics |= {f"reward/total/{k}": v for k, v in everything.items()}
    if dar.enabled:
        metrics["dar/effective_spread"] = difficulty.effective_spread
        metrics["dar/active_fraction"] = difficulty.active_fraction
        metrics["dar/weight_max"] = difficulty.weight_max
    inert = dar.enabled and difficulty.inert and len(scores) > 1
    warnings = (f"iteration {iteration}: every DAR weight is 1, so DAR does nothing",) if inert else ()
    spread = float(ordered.std(axis=1).max())
    converged = all(_at_best(raw[s.name], valid[s.name], s) for s in rubric.rewards if s.name in weights)
    return Planned(UpdatePlan(iteration, groups, on_policy, kl_scale), metrics, spread, converged, warnings)


def _at_best(values: np.ndarray, valid: np.ndarray, spec: RewardSpec) -> bool:
    """Every valid raw value is the best that the reward can give; true where none is valid."""
    return bool(np.isclose(values[valid], best_value(spec), rtol=0.0, atol=1e-6).all())


def _reward_metrics(scores: Sequence[Scores]) -> dict[str, float]:
    """Statistics of every reward's raw values, those included that are only watched."""
    metrics: dict[str, float] = {}
    for name in scores[0].raw:
        values, present = np.stack([s.raw[name] for s in scores]), np.stack([s.valid[name] for s in scores])
        metrics |= {f"reward/{name}/{k}": v for k, v in reward_statistics(values, present).items()}
    return metrics


def _cost_metrics(scores: Sequence[Scores]) -> dict[str, float]:
    """What every reward cost in the iteration, summed over its groups; nothing for scores read from the journal."""
    total: dict[str, float] = {}
    for name, costs in ((name, costs) for s in scores for name, costs in s.costs.items()):
        for key, value in costs.items():
            total[f"reward/{name}/{key}"] = total.get(f"reward/{name}/{key}", 0.0) + value
    return total
