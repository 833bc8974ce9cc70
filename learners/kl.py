"""KL terms against the frozen reference, with their gradient: pure torch.

Called by the learner with the reference's velocity and mean computed under no_grad, and the policy's with grad: the
gradient flows through the policy's side. Legend: B batch, N latent tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

KlKind = Literal["v_based_dyref", "x_based_dyref", "v_mse", "x_mse", "exact"]


@dataclass(frozen=True, eq=False)
class Pair:
    """One step of the policy beside the reference's.

    Args:
        velocity, velocity_ref: [B,N,C].
        mean, mean_ref: [B,N,C] transition means.
        noise_level: the dynamics' own `s` (Flow-SDE: without sqrt(-dt); the others: equal to std).
        std: standard deviation of the transition, sqrt(-dt) included, > 0.
    """

    velocity: torch.Tensor
    velocity_ref: torch.Tensor
    mean: torch.Tensor
    mean_ref: torch.Tensor
    noise_level: float
    std: float


def _square(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """[B] mean squared difference over all but the batch."""
    return ((a - b.detach()) ** 2).flatten(1).mean(dim=1)


def _v_mse(pair: Pair) -> torch.Tensor:
    return _square(pair.velocity, pair.velocity_ref)


def _x_mse(pair: Pair) -> torch.Tensor:
    return _square(pair.mean, pair.mean_ref)


def _v_based_dyref(pair: Pair) -> torch.Tensor:
    return _v_mse(pair) / (2.0 * pair.noise_level**2 + 1e-7)


def _x_based_dyref(pair: Pair) -> torch.Tensor:
    return _x_mse(pair) / (2.0 * pair.noise_level**2 + 1e-7)


def _exact(pair: Pair) -> torch.Tensor:
    return _x_mse(pair) / (2.0 * pair.std**2)


KL_FORMS: dict[str, Callable[[Pair], torch.Tensor]] = {
    "v_based_dyref": _v_based_dyref,
    "x_based_dyref": _x_based_dyref,
    "v_mse": _v_mse,
    "x_mse": _x_mse,
    "exact": _exact,
}


def kl_term(kind: KlKind, pair: Pair) -> torch.Tensor:
    """KL of each sample, [B] >= 0, 0 where the policy equals the reference.

    v_mse and x_mse: mean squared difference of velocities or means (Flow-Factory). v_based_dyref and x_based_dyref:
    the same over 2 s^2 + 1e-7 (DyRef's and Flow-GRPO's code). exact: mean(dmu^2) / (2 std^2), the Gaussian KL an
    element.
    """
    return KL_FORMS[kind](pair)
