"""The actors of one role on Ray: who works, who is on the way in or out, and what each must be told first.

Held by `cluster.py`. An actor has a slot number that no other of its role ever gets. A new one takes no call before it
is built and has the role's newest state; one that leaves takes no new call and goes once its last is answered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from itertools import count
from typing import Any

import ray
from ray.exceptions import ObjectLostError, RayError, RayTaskError

from burnish.platform.actors import place
from burnish.platform.calls import OpenCalls, references
from burnish.platform.console import note
from burnish.platform.executor import Role

Make = Callable[[Role, int], tuple[Any, Any]]
PATIENCE = 20.0
"""Seconds after which a wait for a place, or for a worker's imports, is told, and seconds between two tellings."""


class Crew:
    """All actors of a role.

    Args:
        role: how one is made; as many as it says are started, and count as at work at once.
        make: starts an actor of a role in a slot; returns it and the reference of what its `build` returns.
    """

    def __init__(self, role: Role, make: Make = place) -> None:
        self.role, self._make = role, make
        self._working: list[int] | None = None
        self.actors: dict[int, Any] = {}
        self.state: dict[str, list[tuple[Any, ...]]] = {}
        self._nodes: dict[int, Any] = {}  # id of the node, or the reference of what will say it
        self._joining: set[int] = set()
        self._leaving: set[int] = set()
        self._doomed: set[int] = set()
        self._restored: dict[int, list[Any]] = {}
        self._placed_at, self._told_at = time.monotonic(), 0.0
        self._numbers = count()
        for _ in range(role.count):
            self._place(next(self._numbers))

    def _place(self, slot: int) -> None:
        self.actors[slot], self._nodes[slot] = self._make(self.role, slot)
        self._placed_at, self._working = time.monotonic(), None

    @property
    def slots(self) -> list[int]:
        """Who may be sent work, lowest first."""
        if self._working is None:
            self._working = [s for s in sorted(self.actors) if s not in self._joining and s not in self._leaving]
        return self._working

    @property
    def joining(self) -> int:
        """How many are on their way in."""
        return len(self._joining)

    def least_busy(self, calls: OpenCalls, *, but: int | None = None) -> int:
        """The slot with the fewest open calls, the lowest of several; not `but` where there is another one."""
        slots = [slot for slot in self.slots if slot != but] if but is not None else self.slots
        return min(slots or self.slots, key=calls.load(self.role.name).__getitem__)

    def resize(self, wanted: int) -> None:
        """Have `wanted` actors: new ones join as they get a place, the highest slots leave once they are idle."""
        lasting = [slot for slot in self.slots if slot not in self._doomed]
        for slot in sorted(self._joining, reverse=True)[: max(0, len(lasting) + self.joining - wanted)]:
            self.end(slot)
        self._leaving.update(lasting[wanted:])
        self._working = None
        self._join(wanted - len(lasting) - self.joining)

    def _join(self, number: int) -> None:
        for _ in range(number):
            slot = next(self._numbers)
            self._place(slot)
            self._joining.add(slot)
        self._working = None

    def replace(self, slot: int) -> None:
        """Kill a hung actor and start another one in its slot; it is told the state before its next call."""
        ray.kill(self.actors[slot])
        self._place(slot)

    def relieve(self, nodes: Collection[str]) -> int:
        """Start somebody elsewhere for everyone on these nodes, which will go; returns for how many.

        Whoever stands there takes no new call from the moment that another one can, and leaves once it is idle.
        """
        doomed = [slot for slot in self.slots if slot not in self._doomed and self.node(slot) in nodes]
        self._doomed.update(doomed)
        self._join(len(doomed))
        return len(doomed)

    def node(self, slot: int) -> str | None:
        """Id of the node that an actor was built on, None while it is not known."""
        known = self._nodes[slot]
        if isinstance(known, str):
            return known
        try:
            if not ray.wait([known], timeout=0, fetch_local=False)[0]:
                return None
            self._nodes[slot] = str(ray.get(known))  # every tick asks: Ray is asked once
            return self._nodes[slot]
        except RayTaskError as error:
            raise error.cause from error
        except RayError:  # it died or is being restarted: ask again
            self._nodes[slot] = self.actors[slot].build.remote()
            return None

    def suspect(self, slot: int) -> bool:
        """A call on it was lost: where others can work it takes no more until it is back; returns whether it waits."""
        if slot in self.slots and len(self.slots) > 1:
            self._nodes[slot] = self.actors[slot].build.remote()
            self._joining.add(slot)
            self._working = None
        return slot in self._joining or slot not in self.actors

    def tend(self, calls: OpenCalls) -> None:
        """Take in who is ready, let go who is idle, and tell of a wait for a place."""
        for slot in sorted(self._joining):
            if self.node(slot) is not None:
                self.restore(slot)
                self._joining.discard(slot)
                self._working = None
                note(f"a {self.role.name} worker is ready: {len(self.slots)} at work")
        if not self._doomed.issuperset(self.slots):
            self._leaving |= self._doomed
            self._working = None
        for slot in sorted(self._leaving):
            if not calls.load(self.role.name)[slot]:
                self.end(slot)
        self._tell()

    def _tell(self) -> None:
        now = time.monotonic()
        if now - max(self._placed_at, self._told_at) < PATIENCE:
            return
        without = [slot for slot in self.actors if self.node(slot) is None]
        if without:
            self._told_at = now
            free = {k: round(v, 3) for k, v in ray.available_resources().items() if ":" not in k and "memory" not in k}
            note(
                f"{len(without)} of {len(self.actors)} {self.role.name} workers are not ready yet: "
                f"each wants {self.role.demand}, free in the cluster: {free}"
            )

    def restore(self, slot: int) -> None:
        """Queue the role's newest state on an actor, ahead of the call that needs it; repeating it changes nothing."""
        actor = self.actors[slot]
        self._nodes[slot] = actor.build.remote()  # after a restart it may stand elsewhere
        self._restored[slot] = [
            actor.call.remote(method, *references(args)) for method, calls in self.state.items() for args in calls
        ]

    def state_is_lost(self, slot: int) -> bool:
        """True if what the actor was to be told is nowhere any more: its only copy went with a node."""
        refs = self._restored.get(slot, [])
        done = ray.wait(refs, num_returns=len(refs), timeout=0)[0] if refs else []
        return any(_lost(ref) for ref in done)

    def end(self, slot: int) -> None:
        """Kill an actor for good."""
        ray.kill(self.actors.pop(slot))
        self._working = None
        self._nodes.pop(slot, None)
        self._restored.pop(slot, None)
        self._joining.discard(slot)
        self._leaving.discard(slot)
        self._doomed.discard(slot)

    def close(self) -> None:
        """Kill all of them."""
        for slot in list(self.actors):
            self.end(slot)


def _lost(ref: Any) -> bool:
    try:
        ray.get(ref, timeout=0)
    except ObjectLostError:
        return True
    except Exception:  # dead or restarted once more: that is found where its next call fails
        return False
    return False


def draining_nodes() -> dict[str, int]:
    """Ids of nodes that were told to leave -> their deadline in ms since the epoch; empty where Ray cannot say.

    Ray has no public call for it; its own trainer asks the same private one.
    """
    try:
        from ray._private.state import state

        return {str(node): int(deadline) for node, deadline in state.get_draining_nodes().items()}
    except Exception:  # a private interface: without it a draining node is only noticed when it dies
        return {}
