"""Gradient sums that do not depend on the number of ranks.

Floating-point sums depend on their order, and an all-reduce has its own. Here the gradients of an update's
micro-batches are the leaves of one binary tree, in the order of the whole update: each rank adds up the subtree of its
own contiguous block, then pairs of ranks exchange and add, lower rank first. A power of two of micro-batches on a power
of two of ranks is always the same tree, so 1, 2 and 4 ranks give the same bytes. Norm and clipping are taken from that
sum.

Called by the engines where `reduction: reproducible`. It costs log2(ranks) exchanges of the whole gradient, and holds
up to log2(micro-batches of a rank) + 1 copies of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist

from burnish.data.errors import ConfigError, Problem


class TreeReduction:
    """Adds up one update's gradients in the fixed order.

    Args:
        parameters: what is trained, by name, in the module's order.
        num_micro: micro-batches of this rank an update, a power of two.
        world: ranks, a power of two.
        rank: which one this is.

    Raises:
        ConfigError: the number of ranks is not a power of two.
    """

    def __init__(
        self, parameters: Mapping[str, torch.nn.Parameter], *, num_micro: int, rank: int = 0, world: int = 1
    ) -> None:
        check_world(world)
        self._parameters = list(parameters.values())
        self._scale = num_micro * world
        self._rank, self._world = rank, world
        self._stack: list[tuple[int, torch.Tensor]] = []

    def add(self, loss: torch.Tensor) -> None:
        """Take the gradient of one micro-batch's loss, divided by the number of the update's micro-batches.

        No `.grad` is accumulated, so hooks that run after accumulation (DeepSpeed's) do not fire.

        Args:
            loss: scalar [].
        """
        found = torch.autograd.grad(loss / self._scale, self._parameters, allow_unused=True)
        pairs = zip(found, self._parameters, strict=True)
        flat = torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])
        height = 0
        while self._stack and self._stack[-1][0] == height:
            flat = self._stack.pop()[1] + flat
            height += 1
        self._stack.append((height, flat))

    def total(self) -> list[torch.Tensor]:
        """The mean gradient over all ranks' micro-batches, one tensor a parameter; the next update starts afresh."""
        ((_, flat),) = self._stack  # a power of two of leaves is one whole tree
        self._stack.clear()
        distance = 1
        while distance < self._world:
            flat = self._exchanged(flat, self._rank ^ distance)
            distance *= 2
        flat = flat + 0.0  # -0 and +0 are equal, but not the same bytes
        parts = flat.split([p.numel() for p in self._parameters])
        return [part.view_as(p) for part, p in zip(parts, self._parameters, strict=True)]

    def _exchanged(self, own: torch.Tensor, partner: int) -> torch.Tensor:
        """Own and the partner's sum; both compute lower rank + higher rank."""
        other = torch.empty_like(own)
        ways = [dist.P2POp(dist.isend, own, partner), dist.P2POp(dist.irecv, other, partner)]
        for work in dist.batch_isend_irecv(ways):
            work.wait()
        return own + other if self._rank < partner else other + own


def surrogate_loss(
    gradients: Sequence[torch.Tensor], parameters: Sequence[torch.nn.Parameter], *, share: float
) -> torch.Tensor:
    """A scalar [] whose gradient at each parameter is `share` times the given one, for engines that want a loss.

    Args:
        gradients, parameters: one gradient for each parameter, of its shape.
        share: factor of all of them.
    """
    return torch.stack([(p * (share * g)).sum() for g, p in zip(gradients, parameters, strict=True)]).sum()


def check_world(world: int) -> None:
    """Only powers of two of ranks share one tree.

    Raises:
        ConfigError: `world` is not a power of two.
    """
    if world < 1 or world & (world - 1):
        raise ConfigError(
            "The ranks do not form one tree of sums.",
            [Problem("learners.ranks", str(world), "a power of two with reduction: reproducible")],
        )
