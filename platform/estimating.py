"""`burnish estimate`: memory and seconds of a recipe before anything is loaded."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from burnish.data.records import Conditions, Geometry
from burnish.platform.config import Recipe
from burnish.platform.console import duration, table
from burnish.platform.examples import recipe_source
from burnish.policies.estimate import Usage, frozen_bytes, hollow_policy, placeholder, sampling, training
from burnish.policies.families import family_of
from burnish.policies.loading import DTYPES
from burnish.policies.lora import add_adapter, trainable
from burnish.policies.snapshot import new_policy

ADAM_BYTES = 4 + 4 + 8
"""Bytes a trained number beyond the model's own: a master, its gradient and two moments, all float32."""


@dataclass(frozen=True)
class Phase:
    """One thing that a process does, again and again.

    Args:
        name: who does what.
        bytes: memory of the process while it does.
        flops: floating-point operations each time, of all processes together.
        count: how often a run does it.
        processes: how many share it.
    """

    name: str
    bytes: int
    flops: int
    count: int
    processes: int


@dataclass(frozen=True)
class Estimate:
    """What a recipe will need.

    Args:
        weights: numbers in the transformer; trained: of them or of its adapter, those that training changes.
        images: (height, width) of the frame and of every image that conditions.
        phases: sampling, fine-tuning step, update.
    """

    weights: int
    trained: int
    images: tuple[tuple[int, int], ...]
    phases: tuple[Phase, ...]


def estimate(recipe: Recipe, *, references: int = 1) -> Estimate:
    """Count the recipe's own code on tensors without content.

    Args:
        recipe: its policy's `config.json` files are read, no weights.
        references: of the example that is counted; a family of burnish's own counts its first example.

    Raises:
        ConfigError: the policy's path is no pipeline.
    """
    with _policy(recipe, references) as (policy, conditions, frozen):
        module = policy.module
        weights = sum(p.numel() * p.element_size() for p in module.parameters()) + frozen
        trained = sum(p.numel() for p in trainable(module).values())
        total = sum(p.numel() for p in module.parameters())
        phases = _phases(recipe, policy, conditions, weights)
    geometry = conditions.geometry
    images = ((geometry.height, geometry.width), *geometry.references)
    return Estimate(total - trained, trained, images, phases)


@contextmanager
def _policy(recipe: Recipe, references: int) -> Iterator[tuple[Any, Conditions, int]]:
    """The policy with its adapter, conditions for it, and bytes of its other parts."""
    config: Any = recipe.policy.config
    pretrained = family_of(config).pretrained
    if pretrained is None:
        policy = new_policy(config)
        add_adapter(policy.module, recipe.grpo.adapter)
        yield policy, policy.encode(recipe_source(recipe).example("train", 0)), 0
        return
    with hollow_policy(pretrained, config, recipe.grpo.adapter) as policy:
        side = recipe.data.image_size
        if recipe.data.crop == "focus":
            multiple = recipe.refiner.multiple
            side = round(math.sqrt(recipe.refiner.area) / multiple) * multiple
        seen = 1 + references + config.mask_input
        conditions = placeholder(policy, Geometry(side, side, ((side, side),) * seen))
        yield policy, conditions, frozen_bytes(Path(config.path), config.dtype)


def _phases(recipe: Recipe, policy: Any, conditions: Conditions, weights: int) -> tuple[Phase, ...]:
    grpo, update = recipe.grpo, recipe.grpo.update
    checkpointing = bool(getattr(recipe.policy.config, "gradient_checkpointing", False))
    found = []
    if "sft" in recipe.stages and recipe.sft.steps:
        rows = recipe.sft.micro_batch
        with _trained(policy.module, everything=recipe.sft.trains == "all") as (numbers, lifted):
            cost = training(policy, conditions, rows=rows, guided=False, checkpointing=checkpointing)
        memory = weights + lifted + numbers * ADAM_BYTES + cost.bytes
        flops = cost.flops * recipe.sft.batch // rows
        found.append(Phase("fine-tuning step", memory, flops, recipe.sft.steps, recipe.learners.ranks))
    if "grpo" in recipe.stages:
        samples = grpo.examples_per_iteration * grpo.group_size
        rows, whole = recipe.rollouts.sample_batch, grpo.trains == "all"
        cost = sampling(policy, conditions, rows=rows)
        flops = cost.flops * samples * grpo.sampler.num_steps // rows
        with _trained(policy.module, everything=whole) as (numbers, lifted):
            memory = weights + lifted + 4 * numbers + cost.bytes
            found.append(Phase("sampling", memory, flops, grpo.iterations, recipe.rollouts.workers))
            cost = _update(recipe, policy, conditions, checkpointing)
        flops = cost.flops * samples * grpo.sampler.num_train_steps * update.epochs
        copies = update.ema.enabled + (whole and update.kl.beta > 0.0)
        memory = weights + lifted + numbers * (ADAM_BYTES + 4 * copies) + cost.bytes
        found.append(Phase("update", memory, flops // update.micro_batch, grpo.iterations, recipe.learners.ranks))
    return tuple(found)


def _update(recipe: Recipe, policy: Any, conditions: Conditions, checkpointing: bool) -> Usage:
    """A micro-batch of GRPO: the forward of sampling with a gradient, and the reference's where there is a KL term."""
    update = recipe.grpo.update
    rows = update.micro_batch
    cost = training(policy, conditions, rows=rows, guided=True, checkpointing=checkpointing)
    reference = sampling(policy, conditions, rows=rows).flops if update.kl.beta else 0
    return Usage(cost.flops + reference, cost.bytes)


@contextmanager
def _trained(module: torch.nn.Module, *, everything: bool) -> Iterator[tuple[int, int]]:
    """Inside, the adapter is trained, or all weights and no adapter: (how many numbers, bytes to make them float32)."""
    flags = {parameter: parameter.requires_grad for parameter in module.parameters()}
    for name, parameter in module.named_parameters():
        parameter.requires_grad_("lora_" not in name if everything else flags[parameter])
    held = trainable(module).values()
    yield sum(p.numel() for p in held), sum(p.numel() * (4 - p.element_size()) for p in held)
    for parameter, flag in flags.items():
        parameter.requires_grad_(flag)


def matrix_rate(dtype: str, *, seconds: float = 0.3) -> float:
    """Operations a second of a matrix product on this machine's device: the bound of every estimate."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    side = 8192 if device == "cuda" else 1024
    left = torch.ones(side, side, dtype=DTYPES[dtype], device=device)
    (left @ left)[0, 0].item()
    start, count = time.monotonic(), 0
    while time.monotonic() - start < seconds:
        (left @ left)[0, 0].item()
        count += 1
    return 2.0 * side**3 * count / (time.monotonic() - start)


def estimate_text(found: Estimate, *, rate: float) -> str:
    """The estimate as a table for people; `rate` in operations a second and process."""
    counts = Counter(f"{width}x{height}" for height, width in found.images)
    sizes = ", ".join(f"{count} of {size}" if count > 1 else size for size, count in counts.items())
    rows = [
        [
            phase.name,
            _size(phase.bytes),
            str(phase.processes),
            f"{phase.flops / 1e12:.4g}",
            duration(phase.flops / rate / phase.processes),
            duration(phase.count * phase.flops / rate / phase.processes),
        ]
        for phase in found.phases
    ]
    head = ["", "memory", "processes", "TFLOP", "each", "run"]
    words = f"{_count(found.weights)} weights, {_count(found.trained)} trained; pictures {sizes}"
    bound = f"times at {rate / 1e12:.3g} TFLOP/s a process, a matrix product's rate: real ones are longer"
    return "\n".join([words, table(head, rows), bound])


def _count(numbers: int) -> str:
    """As people write it: 11.9 B, 209 M, 334 K."""
    unit, name = next((u for u in ((1e9, "B"), (1e6, "M")) if numbers >= u[0]), (1e3, "K"))
    return f"{numbers / unit:.3g} {name}"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
