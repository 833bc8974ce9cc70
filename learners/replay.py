"""Recomputing a trained step of stored trajectories with the sampler's own kernel.

Called by the learner. Same rows, same shapes, same arithmetic as the sampler: with the weights that sampled, the
log-probability comes out bit for bit. Legend: B rows of a group, K trained steps, N latent tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from burnish.data.errors import ConfigError
from burnish.data.records import Conditions, Group, SamplerSpec, Trajectory
from burnish.policies.protocol import Policy
from burnish.policies.steps import Step, transition


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of one group, on the learner's device.

    Args:
        conditions: shared by the rows.
        sampler: how they were sampled.
        steps: the K trained step indices. sigmas: the whole schedule.
        latents, next_latents: [B,K,N,C]. log_probs: [B,K].
        means: [B,K,N,C], or None where the trajectories do not hold them.
        stds: K floats.
        region: [N,C], 1 = counted by `logprob_region: mask`; None = all are.
    """

    conditions: Conditions
    sampler: SamplerSpec
    steps: tuple[int, ...]
    sigmas: tuple[float, ...]
    latents: torch.Tensor
    next_latents: torch.Tensor
    log_probs: torch.Tensor
    means: torch.Tensor | None
    stds: tuple[float, ...]
    region: torch.Tensor | None


def rows_of(group: Group, rows: range, *, device: torch.device, valid: Sequence[bool] | np.ndarray = ()) -> Rows:
    """Stack rows of a group.

    Args:
        group: sampled.
        rows: which of its trajectories.
        device: the learner's.
        valid: one a row, () = all are. A row that is not valid counts nothing, and what is not finite in it is 0:
            no mask keeps NaN out of a gradient.

    Raises:
        ConfigError: a trained step has no noise (ODE, or eta 0), so it has no density to learn from.
    """
    trajectories = [group.trajectories[i] for i in rows]
    counted = valid if len(valid) else [True] * len(trajectories)
    picked = [t if counts else _finite(t) for t, counts in zip(trajectories, counted, strict=True)]
    first = picked[0]
    if not all(float(std) > 0.0 for std in first.stds):
        raise ConfigError(f"trained steps {first.steps} of {group.example.id!r} have no noise: eta must be > 0")
    region = None
    if first.sampler.logprob_region == "mask":
        region = torch.from_numpy(np.array(group.conditions.arrays["region"])).to(device)
    return Rows(
        conditions=group.conditions,
        sampler=first.sampler,
        steps=tuple(first.steps),
        sigmas=tuple(float(s) for s in first.sigmas),
        latents=_stack([t.latents for t in picked], device).float(),
        next_latents=_stack([t.next_latents for t in picked], device).float(),
        log_probs=_stack([t.log_probs for t in picked], device),
        means=_means(picked, device),
        stds=tuple(float(std) for std in first.stds),
        region=region,
    )


def _finite(trajectory: Trajectory) -> Trajectory:
    """The trajectory itself where all of it is finite; else zeros in place of its numbers."""
    names = [n for n in ("latents", "next_latents", "log_probs", "means") if getattr(trajectory, n) is not None]
    if all(np.isfinite(getattr(trajectory, name)).all() for name in names):
        return trajectory
    return replace(trajectory, **{name: np.zeros_like(getattr(trajectory, name)) for name in names})


def _stack(arrays: Sequence[np.ndarray], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays)).to(device)


def _means(picked: Sequence[Trajectory], device: torch.device) -> torch.Tensor | None:
    means = [t.means for t in picked if t.means is not None]
    return _stack(means, device) if len(means) == len(picked) else None


def replay(policy: Policy, rows: Rows, place: int) -> tuple[torch.Tensor, Step]:
    """Velocity [B,N,C] and transition of trained step number `place` (0 … K-1), scored at the stored next latents."""
    index = rows.steps[place]
    latents = rows.latents[:, place].contiguous()
    batch = latents.shape[0]
    sigma = torch.full((batch,), rows.sigmas[index], dtype=torch.float32, device=latents.device)
    velocity = policy.velocity(latents, sigma, [rows.conditions] * batch)
    step = transition(
        velocity,
        latents,
        sigma=rows.sigmas[index],
        sigma_next=rows.sigmas[index + 1],
        sigma_guard=rows.sigmas[1],
        sampler=rows.sampler,
        given=rows.next_latents[:, place].contiguous(),
        region=rows.region,
    )
    return velocity, step
