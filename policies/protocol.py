"""What burnish asks of a policy. Samplers, learners and the refiner see nothing else.

Legend: B batch, N latent tokens, C latent channels, H W pixels.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import torch

from burnish.data.records import Conditions, Example


@runtime_checkable
class Policy(Protocol):
    """A flow-matching image editor: velocity v = noise - data on the straight path x = (1 - sigma) data + sigma noise.

    Attributes:
        module: the network that is trained; frozen encoders live outside it.
        family: name in the policy table, written to snapshots.
    """

    module: torch.nn.Module
    family: str

    def encode(self, example: Example) -> Conditions:
        """Turn everything but the target into conditions; called once a group."""
        ...

    def latent_shape(self, conditions: Conditions) -> tuple[int, int]:
        """(N, C) of the noise that a sample starts from."""
        ...

    def encode_image(self, images: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        """Latents [B,N,C] of clean images [B,3,H,W] in [0,1]; supervised fine-tuning's data side."""
        ...

    def velocity(self, latents: torch.Tensor, sigma: torch.Tensor, conditions: list[Conditions]) -> torch.Tensor:
        """Velocity [B,N,C].

        Args:
            latents: [B,N,C] float32.
            sigma: [B] in [0,1], 1 = pure noise.
            conditions: B entries of one geometry; a group passes the same object B times.
        """
        ...

    def decode(self, latents: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        """Images [B,3,H,W] in [0,1] of latents [B,N,C]."""
        ...


@runtime_checkable
class HasSchedule(Protocol):
    """A policy whose own pipeline fixes the sigmas for a size."""

    def sigmas(self, num_steps: int, conditions: Conditions) -> np.ndarray:
        """Sigmas float32 [S+1], from at most 1 down to 0."""
        ...


@runtime_checkable
class HasGrid(Protocol):
    """A policy that maps a mask to its latents without encoding; for others the mask takes the region's place."""

    def on_grid(self, mask: np.ndarray) -> np.ndarray:
        """Share of each latent's pixels that a mask [1,H,W] marks, float32 [N,C]."""
        ...


@runtime_checkable
class HasPrompt(Protocol):
    """A policy that reads no more than so many tokens of an instruction and leaves out the rest."""

    def prompt_tokens(self, text: str) -> tuple[int, int]:
        """Tokens of an instruction, and how many are read."""
        ...


@runtime_checkable
class HasGuidance(Protocol):
    """A policy whose `velocity` is guided; supervised fine-tuning fits the plain one."""

    def plain_velocity(self, latents: torch.Tensor, sigma: torch.Tensor, conditions: list[Conditions]) -> torch.Tensor:
        """Velocity [B,N,C] without guidance; arguments as `Policy.velocity`."""
        ...
