"""Integration of a trajectory: the denoising loop around the transition kernel.

Called by the rollouter (groups, SDE window), by evaluation and by the refiner (ODE). It draws no noise: the caller
hands it over, keyed. Legend: B batch, N latent tokens, C channels, K trained steps, S denoising steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from burnish.data import seeding
from burnish.data.errors import ConfigError, Problem
from burnish.data.records import Conditions, Geometry, SamplerSpec
from burnish.policies.protocol import HasSchedule, Policy
from burnish.policies.schedule import sigmas
from burnish.policies.steps import rounded, transition

StepNoise = Callable[[int], torch.Tensor]
OnStep = Callable[[int, Callable[[], np.ndarray]], None]
"""Hears of a finished step: its number from 1, and a function that makes images [B,3,H,W] of the present idea."""
START = -1
"""The step index that a noise function is asked for when the start noise is meant."""


class SamplerConfig(BaseModel):
    """How training trajectories are sampled."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["flow_sde", "dance_sde", "cps"] = Field(default="flow_sde", description="dynamics of the SDE steps")
    num_steps: int = Field(default=4, description="S, denoising steps", ge=2)
    eta: float = Field(default=0.7, description="noise level of the SDE steps", gt=0.0, le=2.0, allow_inf_nan=False)
    shift: float = Field(default=1.0, description="static sigma shift, 1 = none", gt=0.0, allow_inf_nan=False)
    schedule: Literal["static", "model"] = Field(
        default="static", description="sigmas: linear with `shift`, or as the model's own pipeline for the image's size"
    )
    logprob_region: Literal["all", "mask"] = Field(
        default="mask", description="elements the log-probability averages over"
    )
    window: tuple[int, ...] = Field(default=(0, 1, 2), description="candidate SDE step indices; other steps are ODE")
    num_train_steps: int = Field(
        default=3, description="SDE steps drawn from the window, the same for a whole group", ge=1
    )
    shared_initial_noise: bool = Field(default=False, description="all samples of a group start from the same noise")
    shared_prefix: bool = Field(
        default=False,
        description="compute the ODE steps before the first SDE step once a group; needs shared_initial_noise",
    )

    latent_dtype: Literal["float32", "float16"] = Field(
        default="float32",
        description="latents are rounded to this after every step, before the log-probability, and travel so",
    )

    @model_validator(mode="after")
    def _check(self) -> SamplerConfig:
        last = self.num_steps - 1
        if not self.window or len(set(self.window)) != len(self.window):
            raise ValueError(f"window: got {list(self.window)}, allowed one or more distinct step indices")
        if any(not 0 <= step < last for step in self.window):
            raise ValueError(f"window: got {list(self.window)}, allowed indices 0..{last - 1} (the last step is ODE)")
        if self.num_train_steps > len(self.window):
            raise ValueError(f"num_train_steps: got {self.num_train_steps}, allowed at most {len(self.window)}")
        if self.shared_prefix and not self.shared_initial_noise:
            raise ValueError("shared_prefix: got true, allowed only with shared_initial_noise: true")
        return self

    @property
    def spec(self) -> SamplerSpec:
        """The record that travels with each trajectory."""
        fields = ("kind", "num_steps", "eta", "shift", "logprob_region", "schedule", "latent_dtype")
        return SamplerSpec(**{name: getattr(self, name) for name in fields})


def draw_window(config: SamplerConfig, *, seed: int, iteration: int, example_id: str) -> tuple[int, ...]:
    """The SDE steps of one group: `num_train_steps` of the window's indices, keyed by group."""
    picked = seeding.choice(len(config.window), config.num_train_steps, seed, "sde-window", iteration, example_id)
    return tuple(sorted(config.window[i] for i in picked))


def schedule(spec: SamplerSpec, policy: Policy, conditions: Conditions) -> np.ndarray:
    """Sigmas float32 [S+1] of a sampler; those of `schedule: model` depend on the image's size.

    Raises:
        ConfigError: `schedule: model` for a policy without a schedule of its own.
    """
    if spec.schedule == "static":
        return sigmas(spec.num_steps, shift=spec.shift)
    if not isinstance(policy, HasSchedule):
        problem = Problem("grpo.sampler.schedule", spec.schedule, f"static for the family {policy.family}")
        raise ConfigError("this policy has no schedule of its own", [problem])
    return policy.sigmas(spec.num_steps, conditions)


@dataclass(frozen=True)
class Path:
    """An integrated batch.

    Args:
        final: [B,N,C] latents at the last sigma reached.
        latents, next_latents, means: K entries of [B,N,C], one a trained step.
        stds: K floats. log_probs: K entries of [B].
        sigmas: float32 [S+1], the schedule.
        num_forwards: rows times transformer calls.
    """

    final: torch.Tensor
    latents: tuple[torch.Tensor, ...]
    next_latents: tuple[torch.Tensor, ...]
    means: tuple[torch.Tensor, ...]
    stds: tuple[float, ...]
    log_probs: tuple[torch.Tensor, ...]
    sigmas: np.ndarray
    num_forwards: int


@torch.inference_mode()
def integrate(
    policy: Policy,
    conditions: Sequence[Conditions],
    *,
    sampler: SamplerSpec,
    start: torch.Tensor,
    sde_steps: Sequence[int] = (),
    step_noise: StepNoise | None = None,
    span: tuple[int, int] | None = None,
) -> Path:
    """Integrate a batch over the schedule; steps in `sde_steps` are drawn and recorded, the others are Euler.

    Args:
        policy: gives the velocity.
        conditions: B entries of one geometry.
        sampler: dynamics of the SDE steps.
        start: [B,N,C] latents at the first sigma of the span.
        sde_steps: indices of the steps that are drawn.
        step_noise: step index -> [B,N,C] standard normal noise.
        span: half-open range of steps, default the whole schedule.
    """
    timetable = schedule(sampler, policy, conditions[0])
    levels = [float(s) for s in timetable]
    ode = replace(sampler, kind="ode")
    region = torch.from_numpy(np.array(conditions[0].arrays["region"])).to(start.device)
    first, stop = span or (0, sampler.num_steps)
    x, kept = rounded(start, sampler), []
    for index in range(first, stop):
        drawn = index in sde_steps
        sigma = torch.full((x.shape[0],), levels[index], dtype=torch.float32, device=x.device)
        step = transition(
            policy.velocity(x, sigma, list(conditions)),
            x,
            sigma=levels[index],
            sigma_next=levels[index + 1],
            sigma_guard=levels[1],
            sampler=sampler if drawn else ode,
            noise=step_noise(index) if drawn and step_noise else None,
            region=region,
        )
        if drawn:
            kept.append((x, step))
        x = step.sample
    return Path(
        final=x,
        latents=tuple(before for before, _ in kept),
        next_latents=tuple(step.sample for _, step in kept),
        means=tuple(step.mean for _, step in kept),
        stds=tuple(step.std for _, step in kept),
        log_probs=tuple(step.log_prob for _, step in kept),
        sigmas=timetable,
        num_forwards=(stop - first) * start.shape[0],
    )


def render(
    policy: Policy,
    conditions: Sequence[Conditions],
    *,
    sampler: SamplerSpec,
    noise: StepNoise,
    on_step: OnStep | None = None,
) -> np.ndarray:
    """Sample one image a row, without keeping a trajectory: what evaluation measures and the refiner pastes.

    Args:
        policy: gives the velocity and decodes.
        conditions: B entries of one geometry.
        sampler: "ode" is deterministic after the start noise; an SDE kind draws every step but the last.
        noise: step index (`START` for the start) -> float32 [B,N,C] standard normal noise, on the policy's device.
        on_step: hears of every step; what it raises ends the sampling. It changes no byte.

    Returns:
        float32 [B,3,H,W] in [0,1].
    """
    sde_steps = () if sampler.kind == "ode" else tuple(range(sampler.num_steps - 1))
    x = noise(START)
    spans = [(0, sampler.num_steps)] if on_step is None else [(i, i + 1) for i in range(sampler.num_steps)]
    for span in spans:
        path = integrate(policy, conditions, sampler=sampler, start=x, sde_steps=sde_steps, step_noise=noise, span=span)
        if on_step is not None:
            on_step(span[1], partial(_idea, policy, conditions[0], x, path, span[0]))
        x = path.final
    return policy.decode(x, conditions[0]).cpu().numpy()


def _idea(policy: Policy, conditions: Conditions, before: torch.Tensor, path: Path, step: int) -> np.ndarray:
    """Images of what the step would reach at sigma 0: the straight path through both of its ends."""
    sigma, after = float(path.sigmas[step]), float(path.sigmas[step + 1])
    clean = path.final + (path.final - before) * (after / (sigma - after))
    return policy.decode(clean, conditions).cpu().numpy()


def by_geometry(conditions: Sequence[Conditions]) -> list[list[int]]:
    """Indices of conditions that can share a forward pass, in order of first appearance."""
    groups: dict[Geometry, list[int]] = {}
    for index, condition in enumerate(conditions):
        groups.setdefault(condition.geometry, []).append(index)
    return list(groups.values())


def keyed_noise(
    policy: Policy, conditions: Sequence[Conditions], *, seed: int | Sequence[int], purpose: str
) -> StepNoise:
    """Noise of a batch as a function of the step, keyed by (seed, purpose, example, step); a seed a row, or one."""
    seeds = [seed] * len(conditions) if isinstance(seed, int) else list(seed)
    shape = policy.latent_shape(conditions[0])
    device = next(policy.module.parameters()).device

    def drawn(step: int) -> torch.Tensor:
        rows = zip(seeds, conditions, strict=True)
        noise = [seeding.normal(shape, s, purpose, c.example_id, step) for s, c in rows]
        return torch.from_numpy(np.stack(noise)).to(device)

    return drawn
