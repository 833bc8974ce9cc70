"""Calls on Ray actors as the driver keeps them: where each one is now, and handles that outlive its being sent again.

Shared by `cluster.py` and `crew.py`; it sends nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ray import exceptions as lost

INFRASTRUCTURE = (
    lost.RayActorError,
    lost.ObjectLostError,
    lost.GetTimeoutError,
    lost.WorkerCrashedError,
    lost.NodeDiedError,
    lost.OutOfMemoryError,
    lost.LocalRayletDiedError,
    lost.RpcError,
)
"""What says nothing of the call itself: it is sent again. Whatever else a call raises is a bug and ends the run."""


@dataclass(eq=False)
class Call:
    """One submitted call and where it is now.

    Args:
        role, method, args: what was asked.
        returns: parts of its result.
        actor: slot of the actor that has it.
        refs: Ray's references of its parts.
        since: when it was first in its actor's queue, monotonic seconds.
        arrived: Ray says that its first part is there, whatever it is.
        done: its first part was taken.
        first: that part.
        pinned: meant for this one actor.
        attempt: its failure is the caller's.
        gang: made by all members of a gang: it cannot be made again by one.
        losses: how often it was sent again.
    """

    role: str
    method: str
    args: tuple[Any, ...]
    returns: int
    actor: int
    refs: list[Any] = field(default_factory=list)
    since: float = 0.0
    arrived: bool = False
    done: bool = False
    first: Any = None
    pinned: bool = False
    attempt: bool = False
    gang: bool = False
    losses: int = 0


@dataclass(frozen=True, eq=False)
class Part:
    """Handle of one part of a call's result; stays valid when the call is sent again."""

    call: Call
    index: int

    @property
    def ref(self) -> Any:
        """Ray's reference as it is now."""
        return self.call.refs[self.index]


def references(args: Sequence[Any]) -> list[Any]:
    """Arguments as Ray takes them: handles by reference."""
    return [a.ref if isinstance(a, Part) else a for a in args]


def parts(args: Sequence[Any]) -> list[Part]:
    """The handles among arguments."""
    return [a for a in args if isinstance(a, Part)]
