"""The stages of a run: supervised fine-tuning, then GRPO. Each begins where its newest commit left it.

Called by `train.py`. A stage sets its workers up, runs, and leaves figures for the summary in its ledger's notes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from burnish.data.errors import InfrastructureError, RefusedError
from burnish.platform.config import Recipe
from burnish.platform.context import Context, Interrupted, StageResult, settled
from burnish.platform.fine_tuning import SFT_BLOCK, FineTuning, fine_tune
from burnish.platform.guarding import Keeper, Paused
from burnish.platform.ledger import Ledger, read_digests
from burnish.platform.loop import GrpoLoop
from burnish.platform.manifest import load_verified
from burnish.platform.roles import learner_role
from burnish.platform.rubric_log import START, RubricState
from burnish.platform.rubric_start import open_swaps
from burnish.platform.start_from import check_fine_tuned
from burnish.platform.swaps import Swaps
from burnish.platform.sync import deliver
from burnish.platform.watch import Watch
from burnish.rewards.protocol import is_remote
from burnish.rewards.table import reward_class
from burnish.rollouts.eval_result import EvalResult
from burnish.rollouts.guard import GOLD_REWARD

MAX_EXPORT_DIFFERENCE = 1e-6


def run_sft(context: Context) -> StageResult:
    """Fine-tune all weights, write them as the run's base, evaluate."""
    ledger = context.ledger("sft")
    if not context.base.is_dir():
        on_train = context.executor.name == "ray" and context.recipe.learners.ranks > 1
        (_fine_tune_ranks if on_train else _fine_tune)(context, ledger)
    else:
        ledger.resume(finished=True)
    context.console.line(f"evaluating on {context.recipe.evaluation.count} held-out examples")
    after = _assess_base(context, ledger)
    return StageResult(ledger, {}, after)


def _fine_tune_ranks(context: Context, ledger: Ledger) -> None:
    """Fine-tune on Ray Train; the learner's own workers make room for it and come back for the next stage."""
    recipe, run, total = context.recipe, context.run, context.recipe.sft.steps
    context.executor.stop("learner")
    with context.console.progress("fine-tuning", total) as advance:
        done = [0]

        def told(step: int, metrics: Mapping[str, float]) -> None:
            advance(max(0, step - done[0]))
            done[0] = max(done[0], step)
            context.tracker.log("sft", step, metrics)
            context.mirror.commit()

        job = FineTuning(run.path.resolve(), recipe, run.info.seed)
        fine_tune(job, interrupted=context.interrupted, told=told)
    ledger.resume()
    if not context.base.is_dir():
        raise Interrupted
    context.executor.start(learner_role(recipe, run.info.seed, run.path))


def _fine_tune(context: Context, ledger: Ledger) -> None:
    """Fine-tune on the learner's own workers and write the base."""
    found = ledger.resume()
    context.executor.gang("learner", "begin_sft", found)
    if found is None:
        ledger.commit()
    _sft_steps(context, ledger)
    (written,) = context.executor.gang("learner", "write_base", context.run.path)
    context.executor.get(written)


def _sft_steps(context: Context, ledger: Ledger) -> None:
    total = context.recipe.sft.steps
    with context.console.progress("fine-tuning", total) as advance, settled(ledger):
        advance(ledger.iteration)
        ledger.timeline.start()
        while ledger.iteration < total:
            started, first = time.perf_counter(), ledger.iteration
            last = min(total, first + SFT_BLOCK - first % SFT_BLOCK)
            with ledger.timeline.span("learner", "learn", last - 1):
                (done,) = context.executor.gang("learner", "sft", first, last)
                metrics = dict(context.executor.get(done))
            ledger.finish(last, metrics, {"learn": time.perf_counter() - started})
            advance(last - first)
            if context.interrupted() and last < total:
                raise Interrupted


def _assess_base(context: Context, ledger: Ledger) -> dict[str, EvalResult]:
    """Held-out results of the base, by rollout workers whose adapter changes nothing yet."""
    load_verified(context.base)
    _begin(context, None)
    ledger.versions = {0: deliver(context.executor)}
    return context.assessor.assess(ledger, "heldout", label="base")


def _begin(context: Context, checkpoint: Path | None) -> None:
    """Put learner and rollout workers on the base, the learner at a checkpoint.

    Raises:
        InfrastructureError: they hold different bases.
    """
    (held,) = context.executor.gang("learner", "begin_grpo", context.base, checkpoint)
    digests = {context.executor.get(held), *context.executor.broadcast("rollout", "begin", context.base)}
    if len(digests) != 1:
        raise InfrastructureError(f"workers hold different bases: {sorted(d[:12] for d in digests)}")


def run_grpo(context: Context) -> StageResult:
    """Improve the base by GRPO under the guard's eyes; evaluate before and after."""
    ledger = context.ledger("grpo")
    if not context.base.is_dir():
        _fresh_base(context)
    before = _assess_base(context, context.ledger("grpo"))
    found = ledger.resume()
    if found is not None:
        _begin(context, found)
    if context.recipe.rollouts.opportunistic:
        context.run.update(reproducible=False)
    keep = context.recipe.rollouts.lag + 1
    for number in sorted(ledger.versions)[:-1]:
        load_verified(ledger.checkpoints / ledger.name(number))
        deliver(context.executor, commit=ledger.checkpoints / ledger.name(number), keep=keep)
    ledger.advance(deliver(context.executor, keep=keep))
    swaps = _open_swaps(context, ledger)
    watch = Watch(context.recipe.watch, **ledger.notes.get("watch", {}))
    keeper = Keeper(context.recipe, context.assessor, ledger, watch, context.console, swaps.log.at)
    keeper.go_on()
    if found is None:
        keeper.start()
        ledger.commit()
    total = context.recipe.grpo.iterations
    with context.console.progress("GRPO", total) as advance:
        advance(ledger.iteration)

        def after(iteration: int, metrics: Mapping[str, float]) -> dict[str, float]:
            advance(1)
            return keeper.after(iteration, metrics)

        loop = GrpoLoop(context.recipe, context.executor, ledger, swaps, watch, after, context.interrupted)
        loop.seed, loop.workforce = context.run.info.seed, context.workforce
        loop.committed = context.promotion(ledger).committed
        if not ledger.notes.get("ended"):
            with settled(ledger):
                loop.run()
        swaps.close()
    if ledger.notes.get("ended") == "pause":
        raise Paused(keeper.last_verdict())
    if ledger.iteration < total and not ledger.notes.get("ended"):
        raise Interrupted
    result = _return_to(context, ledger, keeper.result())
    _prove_export(context, ledger.checkpoints / result)
    context.console.line(f"evaluating on {context.recipe.evaluation.count} held-out examples")
    results = context.assessor.assess(ledger, "heldout", label=f"grpo-{result.removeprefix('step-')}")
    return StageResult(ledger, before, results, result)


def _open_swaps(context: Context, ledger: Ledger) -> Swaps:
    """The stage's rewards, loaded. Every change is shown; a remote reward ends the promise of equal bytes."""

    def changed(state: RubricState) -> None:
        if any(is_remote(reward_class(spec.kind)) for spec in state.config.rewards):
            context.run.update(reproducible=False)
        if state.action != START:
            why = f" ({state.why})" if state.why else ""
            context.console.line(f"iteration {state.iteration}: {state.action} {state.name}{why}")

    rewards = context.recipe.rewards
    return open_swaps(
        rewards,
        executor=context.executor,
        pools=context.pools,
        ledger=ledger,
        desk=context.desk,
        deadline=rewards.prepare_deadline,
        directory=context.run.path,
        required=_named_rewards(context.recipe),
        changed=changed,
    )


def _fresh_base(context: Context) -> None:
    """Untrained weights as the base: only for a run that was never asked to fine-tune; see `check_fine_tuned`."""
    check_fine_tuned(context.run)
    (written,) = context.executor.gang("learner", "write_base", context.run.path)
    context.executor.get(written)


def _prove_export(context: Context, checkpoint: Path) -> None:
    """The adapter of the stage's result gives the same velocity in plain diffusers.

    Raises:
        RefusedError: it does not.
    """
    (found,) = context.executor.gang("learner", "verify_adapter", checkpoint, context.base)
    difference = context.executor.get(found)
    if not difference <= MAX_EXPORT_DIFFERENCE:
        raise RefusedError(f"the exported adapter of {checkpoint.name} is off by {difference:.3g} in plain diffusers")


def _named_rewards(recipe: Recipe) -> dict[str, str]:
    """Rewards that other parts of the recipe call by name, and which part does."""
    gold = [metric.removeprefix(GOLD_REWARD) for metric in recipe.guard.metrics if metric.startswith(GOLD_REWARD)]
    named = dict.fromkeys(gold, "guard.metrics")
    return named | ({recipe.grpo.dar.reward: "grpo.dar.reward"} if recipe.grpo.dar.reward else {})


def _return_to(context: Context, ledger: Ledger, commit: str) -> str:
    """Put the workers on the commit that is the stage's result, where that is not the last one; returns its name."""
    if commit == ledger.name():
        return commit
    chosen = ledger.checkpoints / commit
    load_verified(chosen)
    _begin(context, chosen)
    version = deliver(context.executor)
    ledger.versions = {version.number: version}
    ledger.digests = read_digests(chosen)
    return commit


STAGES: dict[str, Callable[[Context], StageResult]] = {"sft": run_sft, "grpo": run_grpo}
