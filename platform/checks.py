"""What must fit across the rooms of a recipe. Pure arithmetic on a validated recipe; `config.py` calls it.

Each check yields a problem or nothing. A room's own fields are checked by the room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from burnish.data.errors import ConfigError, Problem
from burnish.learners.reduction import check_world
from burnish.platform.reward_ranges import is_bounded
from burnish.rollouts.guard import GOLD_REWARD

if TYPE_CHECKING:
    from burnish.platform.config import Recipe


def recipe_problems(recipe: Recipe) -> list[Problem]:
    """Every problem between rooms, in the order of the recipe."""
    checks = (_engine, _stages, _geometry, _pretrained, _batches, _micro_batches, _rewards, _intervals, _guard)
    return [problem for check in checks for problem in check(recipe)]


def _engine(recipe: Recipe) -> Iterator[Problem]:
    """ZeRO-3 may split no tensor (`check_unsplit` looks at the model); this refuses what is wrong for every model."""
    engine, least = recipe.learners.engine, 100_000
    if engine.kind == "deepspeed" and engine.zero_stage == 3 and engine.persistence_threshold < least:
        got = str(engine.persistence_threshold)
        yield Problem("learners.engine.persistence_threshold", got, f">= {least} with zero_stage 3")
    if engine.reduction == "reproducible":
        yield from _renamed(lambda: check_world(recipe.learners.ranks), {"learners.ranks": "learners.ranks"})


def _stages(recipe: Recipe) -> Iterator[Problem]:
    allowed = (("sft",), ("grpo",), ("sft", "grpo"))
    if recipe.stages not in allowed:
        yield Problem("stages", str(list(recipe.stages)), "[sft], [grpo] or [sft, grpo]")


def _geometry(recipe: Recipe) -> Iterator[Problem]:
    """Images, boxes and crops have to fall on the policy's patch grid."""
    if recipe.policy.family != "tiny":
        return  # the token's size stands in the pipeline's own files: encoding refuses what does not fit
    patch = recipe.policy.tiny.patch
    sizes = {
        "data.image_size": recipe.data.image_size,
        "data.box_size": recipe.data.box_size,
        "data.patch": recipe.data.patch,
        "refiner.multiple": recipe.refiner.multiple,
    }
    if recipe.data.masks == "scribble" and recipe.data.crop == "frame" and recipe.policy.tiny.aligned_references:
        allowed = "box, or data.crop focus, or policy.tiny.aligned_references false: ids that follow a mask's own box"
        yield Problem("data.masks", "scribble", allowed)
    for field, size in sizes.items():
        if size % patch:
            yield Problem(field, str(size), f"a multiple of policy.tiny.patch ({patch})")


def _pretrained(recipe: Recipe) -> Iterator[Problem]:
    """What is trained has to be what the stage before left, and what the rollouts can take."""
    if recipe.grpo.trains == "all":
        if "sft" in recipe.stages and recipe.sft.trains == "adapter":
            yield Problem("grpo.trains", "all after an adapter", "adapter, or sft.trains all")
        if recipe.rollouts.fold_adapter:
            yield Problem("rollouts.fold_adapter", "true with grpo.trains all", "false: there is no adapter to fold")
        if recipe.grpo.adapter.start_from:
            yield Problem("grpo.adapter.start_from", "with grpo.trains all", "null, or grpo.trains adapter")
    if recipe.grpo.adapter.start_from and "sft" in recipe.stages and recipe.sft.trains == "all":
        yield Problem("grpo.adapter.start_from", "with sft.trains all", "sft.trains adapter, or only the grpo stage")
    if recipe.policy.family == "tiny" and recipe.grpo.sampler.schedule == "model":
        yield Problem("grpo.sampler.schedule", "model", "static: the tiny family has no schedule of its own")


def _batches(recipe: Recipe) -> Iterator[Problem]:
    """A sampling forward holds rows of one group: who shares a batch then changes no byte."""
    group_size = recipe.grpo.group_size
    if group_size % recipe.rollouts.sample_batch:
        allowed = f"a divisor of grpo.group_size ({group_size})"
        yield Problem("rollouts.sample_batch", str(recipe.rollouts.sample_batch), allowed)
    if recipe.evaluation.batch > recipe.data.block:
        allowed = f"at most data.block ({recipe.data.block}): a batch has one geometry"
        yield Problem("evaluation.batch", str(recipe.evaluation.batch), allowed)


def _micro_batches(recipe: Recipe) -> Iterator[Problem]:
    """Engines divide by the number of micro-batches: only a power of two does so without rounding."""
    names = {
        "groups an iteration": "grpo.examples_per_iteration",
        "micro_batch": "grpo.update.micro_batch",
        "micro-batches an update": "grpo.update.micro_batch",
    }
    if "grpo" in recipe.stages:
        yield from _renamed(lambda: recipe.grpo_micro_batches, names)
    if "sft" in recipe.stages:
        yield from _renamed(lambda: recipe.sft_micro_batches, {"batch": "sft.batch"}, other="sft.micro_batch")
        if recipe.data.block % recipe.sft.micro_batch:
            allowed = f"a divisor of data.block ({recipe.data.block}): a forward has one geometry"
            yield Problem("sft.micro_batch", str(recipe.sft.micro_batch), allowed)


def _renamed(compute: Callable[[], object], names: Mapping[str, str], *, other: str = "") -> Iterator[Problem]:
    """The problems of a room's own check under the recipe's field names."""
    try:
        compute()
    except ConfigError as error:
        for problem in error.problems:
            got = problem.got if problem.field in names else f"{problem.got} {problem.field}"
            yield Problem(names.get(problem.field, other), got, problem.allowed, problem.hint)


def _rewards(recipe: Recipe) -> Iterator[Problem]:
    names = [spec.name for spec in recipe.rewards.rewards]
    dar = recipe.grpo.dar
    if dar.enabled and dar.reward and dar.reward not in names:
        yield Problem("grpo.dar.reward", dar.reward, f"one of {', '.join(names)}, or empty")


def _intervals(recipe: Recipe) -> Iterator[Problem]:
    """Something that would never happen within the run is a mistake."""
    if "grpo" not in recipe.stages:
        return
    iterations, evaluation = recipe.grpo.iterations, recipe.evaluation
    if recipe.checkpoints.every > iterations:
        allowed = f"at most grpo.iterations ({iterations})"
        yield Problem("checkpoints.every", str(recipe.checkpoints.every), allowed)
    lag, kept = recipe.rollouts.lag, recipe.checkpoints
    if lag and (kept.every > 1 or kept.keep_last < lag + 2):
        allowed = f"every 1 and keep_last >= {lag + 2}: a resume needs the weights of the last {lag + 1} versions"
        yield Problem("checkpoints", f"every {kept.every}, keep_last {kept.keep_last}", allowed)
    if recipe.serving.to is not None and not evaluation.every:
        yield Problem(
            "serving.to", recipe.serving.to, "null where evaluation.every is 0: those evaluations are the gate"
        )
    if recipe.rollouts.opportunistic and not lag:
        yield Problem("rollouts.opportunistic", "true", "rollouts.lag >= 1: without a lag there is one version only")
    if recipe.guard.enabled and not evaluation.every:
        yield Problem("guard.enabled", "true", "false where evaluation.every is 0: the guard reads those evaluations")


def _guard(recipe: Recipe) -> Iterator[Problem]:
    """What the guard watches has to be there, and what it does has to be possible."""
    guard, actions = recipe.guard, {recipe.guard.action, recipe.guard.regression_action}
    gold = {f"{GOLD_REWARD}{s.name}": s for s in recipe.rewards.rewards if s.gold}
    for name in guard.metrics:
        if name.startswith(GOLD_REWARD) and name not in gold:
            yield Problem("guard.metrics", name, f"reward/NAME of a gold reward: {', '.join(gold) or 'there is none'}")
        elif name in gold and not is_bounded(gold[name]):
            yield Problem("guard.metrics", name, "a reward with a finite range: its place in it is compared")
    if guard.enabled and "raise_kl" in actions and recipe.grpo.update.kl.beta == 0.0:
        yield Problem("grpo.update.kl.beta", "0", "> 0 with the guard's action raise_kl")
    if guard.rollback_commit and guard.rollback_to != "base":
        number, every = int(guard.rollback_to.removeprefix("step-")), recipe.checkpoints.every
        if number > recipe.grpo.iterations or (number % every and number != recipe.grpo.iterations):
            allowed = f"a commit that will be made: a multiple of {every} up to {recipe.grpo.iterations}"
            yield Problem("guard.rollback_to", guard.rollback_to, allowed)
