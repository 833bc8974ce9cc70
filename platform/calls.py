"""Calls on Ray actors as the driver keeps them: where each one is now, and handles that outlive its being sent again.

Shared by `cluster.py` and `crew.py`; it sends nothing.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import exceptions as lost

from burnish.data.errors import InfrastructureError

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
_GANG_GRACE = 15.0
"""Seconds that Ray gets to report a dead member after another one failed because of it."""


@dataclass(eq=False)
class Call:
    """One submitted call and where it is now.

    Args:
        role, method, args: what was asked.
        returns: parts of its result.
        actor: slot of the actor that has it.
        refs: Ray's references of its parts.
        since: when its actor last answered, or it was sent: no earlier did it come first there; monotonic seconds.
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


class OpenCalls:
    """Calls that were sent and whose answers were not taken, oldest first.

    How many each worker has is kept count of: a driver of thousands of workers asks for it at every call.
    """

    def __init__(self) -> None:
        self._calls: dict[Call, int] = {}
        self._loads: defaultdict[str, Counter[int]] = defaultdict(Counter)

    def __iter__(self) -> Iterator[Call]:
        return iter(self._calls)

    def put(self, call: Call) -> None:
        """It was sent to the actor that it names."""
        self.take(call)
        self._calls[call] = call.actor
        self._loads[call.role][call.actor] += 1

    def take(self, call: Call) -> None:
        """Its answer was taken, or nobody waits for it any more."""
        slot = self._calls.pop(call, None)
        if slot is not None:
            self._loads[call.role][slot] -= 1

    def load(self, role: str) -> Counter[int]:
        """How many calls each slot of a role has."""
        return self._loads[role]

    def at(self, role: str, slot: int) -> list[Call]:
        """What one actor has."""
        return [call for call, at in self._calls.items() if (call.role, at) == (role, slot)]

    def forget(self, role: str | None = None) -> None:
        """Drop a role's calls, or all."""
        for call in [call for call in self._calls if role in (call.role, None)]:
            self.take(call)


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


def attempted(ref: Any, deadline: float) -> Any:
    """The value of an attempt; what the worker's own code raised comes as it was raised there."""
    try:
        return ray.get(ref, timeout=deadline)
    except INFRASTRUCTURE as error:
        raise InfrastructureError(f"the worker was lost: {type(error).__name__}") from error
    except lost.RayTaskError as error:
        raise error.cause from error


def any_lost(refs: Sequence[Any]) -> bool:
    """True if one of the calls ends, within the grace period, because its actor is gone."""
    deadline, pending = time.monotonic() + _GANG_GRACE, list(refs)
    while pending and time.monotonic() < deadline:
        done, pending = ray.wait(pending, num_returns=1, timeout=1.0, fetch_local=False)
        for ref in done:
            try:
                ray.get(ref)
            except INFRASTRUCTURE:
                return True
            except Exception:  # another echo: go on looking for the member that died
                continue
    return False
