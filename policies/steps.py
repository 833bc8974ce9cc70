"""The one transition kernel: sampling and replay of a denoising step.

Called by the sampler (`given=None`: draw the next latents) and by the learner (`given`: score stored ones). Whatever
the model's dtype, everything here is float32 (or float64 if it is given float64). It never draws noise itself.

Legend: B batch, N latent tokens, C channels. dt = sigma_next - sigma < 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from burnish.data.records import SamplerSpec


@dataclass(frozen=True)
class Step:
    """What one step gives.

    Args:
        sample: [B,N,C] next latents, detached where they were given.
        mean: [B,N,C] mean of the transition.
        std: standard deviation of the transition (sqrt(-dt) included); 0 for an ODE step.
        noise_level: the dynamics' own `s` (Flow-SDE: without sqrt(-dt); others: equal to std), as the KL forms use it.
        log_prob: [B] mean log-density over the counted elements.
    """

    sample: torch.Tensor
    mean: torch.Tensor
    std: float
    noise_level: float
    log_prob: torch.Tensor


@dataclass(frozen=True)
class _Move:
    mean: torch.Tensor
    std: float
    noise_level: float
    gaussian: bool


_Dynamics = Callable[[torch.Tensor, torch.Tensor, float, float, float, float], _Move]


def _ode(x: torch.Tensor, v: torch.Tensor, sigma: float, sigma_next: float, guard: float, eta: float) -> _Move:
    return _Move(x + v * (sigma_next - sigma), 0.0, 0.0, False)


def _flow_sde(x: torch.Tensor, v: torch.Tensor, sigma: float, sigma_next: float, guard: float, eta: float) -> _Move:
    """Flow-GRPO eq. 9: s = eta sqrt(sigma / (1 - sigma)); at sigma = 1 the denominator uses the next sigma."""
    dt = sigma_next - sigma
    s = eta * math.sqrt(sigma / (1.0 - (guard if sigma >= 1.0 else sigma)))
    half = s * s / (2.0 * sigma)
    mean = x * (1.0 + half * dt) + v * (1.0 + half * (1.0 - sigma)) * dt
    return _Move(mean, s * math.sqrt(-dt), s, True)


def _dance_sde(x: torch.Tensor, v: torch.Tensor, sigma: float, sigma_next: float, guard: float, eta: float) -> _Move:
    """DanceGRPO: constant noise level, drift corrected by the score of the predicted clean latents."""
    dt = sigma_next - sigma
    clean = x - sigma * v
    score = (x - (1.0 - sigma) * clean) / sigma**2
    std = eta * math.sqrt(-dt)
    return _Move(x + (v + 0.5 * eta**2 * score) * dt, std, std, True)


def _cps(x: torch.Tensor, v: torch.Tensor, sigma: float, sigma_next: float, guard: float, eta: float) -> _Move:
    """Coefficients-preserving sampling: the noise of the next level is split between predicted and fresh noise."""
    std = sigma_next * math.sin(math.pi * eta / 2.0)
    clean, noise = x - sigma * v, x + (1.0 - sigma) * v
    mean = (1.0 - sigma_next) * clean + math.sqrt(max(sigma_next**2 - std**2, 0.0)) * noise
    return _Move(mean, std, std, False)


DYNAMICS: dict[str, _Dynamics] = {"flow_sde": _flow_sde, "dance_sde": _dance_sde, "cps": _cps, "ode": _ode}


def transition(
    velocity: torch.Tensor,
    latents: torch.Tensor,
    *,
    sigma: float,
    sigma_next: float,
    sigma_guard: float,
    sampler: SamplerSpec,
    noise: torch.Tensor | None = None,
    given: torch.Tensor | None = None,
    region: torch.Tensor | None = None,
) -> Step:
    """One denoising step of Flow-SDE, Dance-SDE, CPS or ODE.

    What is drawn is rounded to the sampler's storage type before it is scored: a replay scores what was stored.

    Args:
        velocity: [B,N,C] predicted velocity.
        latents: [B,N,C] latents at sigma.
        sigma: noise level now, in (0,1].
        sigma_next: noise level afterwards, in [0, sigma).
        sigma_guard: second sigma of the schedule; stands in for sigma = 1 in Flow-SDE's 1/(1-sigma).
        sampler: dynamics, eta and the elements its log-probability counts.
        noise: [B,N,C] standard normal noise, needed to draw an SDE step.
        given: [B,N,C] stored next latents: replay instead of drawing; no gradient flows into them.
        region: [N,C] with 1 where `logprob_region: mask` counts an element.
    """
    v, x = velocity.to(latents.dtype), latents
    move = DYNAMICS[sampler.kind](x, v, sigma, sigma_next, sigma_guard, sampler.eta)
    if given is not None:
        sample = given.detach()
    elif move.std > 0.0:
        assert noise is not None, "an SDE step needs noise"
        sample = move.mean + move.std * noise
    else:
        sample = move.mean
    sample = rounded(sample, sampler)
    counted = region if sampler.logprob_region == "mask" else None
    log_prob = _log_density(sample.detach(), move, counted)
    return Step(sample, move.mean, move.std, move.noise_level, log_prob)


def rounded(latents: torch.Tensor, sampler: SamplerSpec) -> torch.Tensor:
    """float32 latents with the values that the sampler's storage type can hold."""
    return latents if sampler.latent_dtype == "float32" else latents.to(torch.float16).float()


def _log_density(sample: torch.Tensor, move: _Move, region: torch.Tensor | None) -> torch.Tensor:
    """Mean over elements: the normal log-density, or minus the squared deviation for CPS and ODE."""
    square = (sample - move.mean) ** 2
    if move.gaussian and move.std > 0.0:
        density = -square / (2.0 * move.std**2) - math.log(move.std) - 0.5 * math.log(2.0 * math.pi)
    else:
        density = -square
    return region_mean(density, region)


def region_mean(values: torch.Tensor, region: torch.Tensor | None) -> torch.Tensor:
    """Mean over all but the first dimension, [B]; with `region` [N,C] only over its non-zero elements."""
    if region is None:
        return values.flatten(1).mean(dim=1)
    return (values * region).flatten(1).sum(dim=1) / region.sum().clamp(min=1.0)
