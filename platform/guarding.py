"""The guard at work in a run: it observes on dev, lets `rollouts/guard.py` judge, and does what the verdict says.

Called by the GRPO stage between update and commit. All that it knows stands in the ledger's notes, so a resumed run
judges as the undisturbed one did. It never sees held-out examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from burnish.data.errors import RefusedError
from burnish.platform.assessment import Assessor, metric_lines
from burnish.platform.config import Recipe
from burnish.platform.console import Console
from burnish.platform.ledger import Ledger
from burnish.platform.reward_ranges import is_bounded, place_in_range
from burnish.platform.rubric_log import RubricState
from burnish.platform.watch import Watch
from burnish.policies.digests import arrays_digest
from burnish.rollouts.guard import GOLD_REWARD, Observation, Verdict, best_iteration, judge

DEV_METRICS = ("masked_mse", "outside_mse", "edge_ratio", "glyph_accuracy")


class Paused(RefusedError):
    """The guard asked for a person; everything finished is committed, and a resume goes on."""


@dataclass(eq=False)
class Keeper:
    """Evaluates on dev where due and obeys the guard.

    Args:
        recipe: what the guard watches and does.
        assessor: asks for evaluations.
        ledger: its notes hold the history.
        watch: told whether the samples on dev changed.
        console: told in words.
        rubric: what scores an iteration; a gold reward may be swapped while the run goes on.
    """

    recipe: Recipe
    assessor: Assessor
    ledger: Ledger
    watch: Watch
    console: Console
    rubric: Callable[[int], RubricState]

    def start(self) -> None:
        """The first observation: the base on dev, so that a stage which only does harm is seen and undone."""
        if not self.recipe.evaluation.every:
            return
        gold = next(iter(self.assessor.assess(self.ledger, "dev", label="grpo-000000").values())).means()
        entry = {"iteration": 0, "reward": math.nan, "gold": {k: gold[k] for k in DEV_METRICS}}
        self.ledger.notes["guard"] = [entry]
        self.ledger.best = self.ledger.name()
        self.console.line(f"start: dev masked error {gold['masked_mse']:.5f}")

    def go_on(self) -> None:
        """A run that was paused is resumed by a person who has seen why: the guard judges from here on."""
        notes = self.ledger.notes
        if notes.get("ended") == "pause":
            del notes["ended"]
            notes["guard_since"] = self.ledger.iteration + 1

    def after(self, iteration: int, metrics: Mapping[str, float]) -> dict[str, float]:
        """Between update and commit of an iteration: remember the watch, evaluate on dev where due, obey the guard.

        Args:
            iteration: finished iterations, this one included.
            metrics: the iteration's rewards, as planned.
        """
        config, notes = self.recipe.evaluation, self.ledger.notes
        notes["watch"] = self.watch.state()
        self._remember(iteration, metrics)
        if not config.every or (iteration % config.every and iteration != self.ledger.total):
            return {}
        results = self.assessor.assess(self.ledger, "dev", label=f"grpo-{iteration:06d}")
        shown = next(iter(results.values()))
        self.ledger.warn(self.watch.evaluated(iteration, arrays_digest(shown.rows.values)))
        notes["watch"] = self.watch.state()
        gold = shown.means()
        mean = _mean(notes.pop("rewards"))
        watched = {name: _mean(values) for name, values in notes.pop("gold_rewards", {}).items()}
        history = notes.setdefault("guard", [])
        history.append({"iteration": iteration, "reward": mean, "gold": {k: gold[k] for k in DEV_METRICS} | watched})
        seen = [Observation(**entry) for entry in history]
        self.ledger.best = self.ledger.name(self._best(seen))
        self.console.line(f"iteration {iteration}: dev masked error {gold['masked_mse']:.5f}, reward {mean:+.4f}")
        since = notes.get("guard_since", 0)
        verdict = judge([o for o in seen if o.iteration >= since], self.recipe.guard)
        if verdict is not None:
            self._obey(verdict, iteration)
        return metric_lines(results, "dev", DEV_METRICS)

    def result(self) -> str:
        """Name of the commit that is the stage's result: the last one, or after a verdict "rollback" an earlier one."""
        ledger = self.ledger
        if ledger.notes.get("ended") != "rollback":
            return ledger.name()
        wanted = self.recipe.guard.rollback_commit
        if wanted and (ledger.checkpoints / wanted).is_dir():
            return wanted
        if wanted:
            ledger.warn([f"guard: there is no commit {wanted} yet, so the run returns to the best, {ledger.best}"])
        return ledger.best

    def last_verdict(self) -> str:
        """What the guard said last."""
        return str(self.ledger.notes.get("verdict", "the guard paused the run"))

    def _remember(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Training reward and gold rewards of the iteration; the latter as places in their ranges, 1 = best."""
        notes, reward = self.ledger.notes, metrics["reward/total/mean"]
        notes.setdefault("rewards", []).append(reward if math.isfinite(reward) else None)
        state = self.rubric(iteration - 1)
        for spec, version in zip(state.config.rewards, state.rewards, strict=True):
            name = f"{GOLD_REWARD}{spec.name}"
            if name not in self.recipe.guard.metrics:
                continue
            self._same_reward(name, version.digest)
            if not (spec.gold and is_bounded(spec)):
                self.ledger.warn(
                    [f"guard: {name} was swapped for what is no gold reward, so it is not judged any more"]
                )
            place = place_in_range(spec, metrics.get(f"{name}/mean", math.nan)) if spec.gold else math.nan
            kept = notes.setdefault("gold_rewards", {}).setdefault(name, [])
            kept.append(place if math.isfinite(place) else None)

    def _same_reward(self, name: str, digest: str) -> None:
        """Forget what another reward said under the name: two rewards are no measure of each other."""
        notes = self.ledger.notes
        held = notes.setdefault("gold_digests", {})
        if held.setdefault(name, digest) != digest:
            held[name] = digest
            notes.get("gold_rewards", {}).pop(name, None)
            for entry in notes.get("guard", []):
                entry["gold"].pop(name, None)

    def _best(self, seen: list[Observation]) -> int:
        """The best so far or the newest: the commits of all others may be gone."""
        names = {self.ledger.best, self.ledger.name(seen[-1].iteration)}
        among = [o.iteration for o in seen if self.ledger.name(o.iteration) in names]
        return best_iteration(seen, self.recipe.guard.metrics, among=among)

    def _obey(self, verdict: Verdict, iteration: int) -> None:
        notes = self.ledger.notes
        event = {**asdict(verdict), "kind": "guard", "verdict": verdict.kind, "iteration": iteration}
        line = f"guard ({verdict.action}): {verdict.message}"
        if verdict.action == "raise_kl":
            event["kl_scale"] = self._raise_kl(iteration)
            line += f"; the KL weight is {event['kl_scale']:g} times the recipe's from here on"
        self.ledger.journal.append(event)
        self.ledger.warn([line])
        self.console.line(line)
        notes.setdefault("events", []).append({"iteration": iteration, "label": f"guard: {verdict.action}"})
        notes["verdict"] = verdict.message
        if verdict.action in ("stop", "pause", "rollback"):
            notes["ended"] = verdict.action

    def _raise_kl(self, iteration: int) -> float:
        """A heavier KL from the next iteration on; what follows is compared with what was seen here, not before."""
        notes, guard = self.ledger.notes, self.recipe.guard
        notes["kl_scale"] = min(notes.get("kl_scale", 1.0) * guard.kl_factor, guard.kl_max_factor)
        notes["guard_since"] = iteration
        return notes["kl_scale"]


def _mean(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else math.nan
