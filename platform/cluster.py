"""The Ray executor: roles as actors, references instead of tensors through the driver, failures sent again.

Failures are of two kinds. An exception of the worker's own code is a bug and reaches the caller. A dead, hung or
restarted worker, or a lost object, is infrastructure: the same keyed call is sent again, elsewhere, after the worker
got its newest state back, until the budget is spent.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import exceptions as lost

from burnish.data.errors import InfrastructureError
from burnish.platform.actors import place
from burnish.platform.executor import GangLost, Handle, Role

INFRASTRUCTURE = (
    lost.RayActorError,
    lost.ObjectLostError,
    lost.GetTimeoutError,
    lost.WorkerCrashedError,
    lost.NodeDiedError,
    lost.OutOfMemoryError,
)
_TICK = 1.0
_GANG_GRACE = 15.0
"""Seconds that Ray gets to report a dead member after another one failed because of it."""
_LONGEST_PAUSE = 5.0


@dataclass(eq=False)
class _Call:
    """One submitted call and where it is now."""

    role: str
    method: str
    args: tuple[Any, ...]
    returns: int
    actor: int
    refs: list[Any] = field(default_factory=list)
    since: float = 0.0
    done: bool = False
    first: Any = None
    pinned: bool = False
    attempt: bool = False
    losses: int = 0


@dataclass(frozen=True, eq=False)
class _Part:
    """Handle of one part of a call's result; stays valid when the call is sent again."""

    call: _Call
    index: int

    @property
    def ref(self) -> Any:
        return self.call.refs[self.index]


class RayExecutor:
    """Runs calls on Ray actors.

    Args:
        budget: how many calls may be sent again before the run stops.
    """

    name = "ray"

    def __init__(self, *, budget: int = 64) -> None:
        self._roles: dict[str, Role] = {}
        self._actors: dict[str, list[Any]] = {}
        self._state: dict[str, dict[str, list[tuple[Any, ...]]]] = {}
        self._open: list[_Call] = []
        self._budget = budget
        self.resent = 0

    def start(self, role: Role) -> None:
        """Create the role's actors, in place of those it had; their open calls are forgotten, a gang's start all."""
        self.stop(role.name)
        self._roles[role.name] = role
        self._actors[role.name] = [place(role, rank) for rank in range(role.count)]
        if role.gang:
            self._open.clear()

    def stop(self, role: str) -> None:
        """Kill a role's actors and forget their calls."""
        for actor in self._actors.pop(role, ()):
            ray.kill(actor)
        self._roles.pop(role, None)
        self._state.pop(role, None)
        self._open = [call for call in self._open if call.role != role]

    def attempt(self, role: str, method: str, *args: Any, worker: int = 0) -> Handle:
        """Send a call to one actor once; its failure is the caller's."""
        call = _Call(role, method, args, 1, worker, attempt=True)
        self._send(call)
        return _Part(call, 0)

    def poll(self, handle: Handle) -> bool:
        """True once an attempt is over."""
        assert isinstance(handle, _Part)
        done, _ = ray.wait([handle.ref], num_returns=1, timeout=0, fetch_local=False)
        return bool(done)

    def pids(self, role: str) -> list[int]:
        """Process ids of a role's actors."""
        deadline = self._roles[role].deadline
        return ray.get([a.pid.remote() for a in self._actors[role]], timeout=deadline)

    def submit(self, role: str, method: str, *args: Any, returns: int = 1) -> tuple[Handle, ...]:
        """Send a call to the role's least busy actor."""
        load = [0] * len(self._actors[role])
        for call in self._open:
            if call.role == role and not call.done:
                load[call.actor] += 1
        call = _Call(role, method, args, returns, load.index(min(load)))
        self._open = [c for c in self._open if not c.done]
        self._open.append(call)
        self._send(call)
        return tuple(_Part(call, i) for i in range(returns))

    def _send(self, call: _Call) -> None:
        actor = self._actors[call.role][call.actor]
        refs = actor.call.options(num_returns=call.returns).remote(call.method, *_references(call.args))
        call.refs = [refs] if call.returns == 1 else list(refs)
        call.since, call.done = time.monotonic(), False

    def gang(
        self, role: str, method: str, *args: Any, each: Sequence[Sequence[Any]] = (), returns: int = 1
    ) -> tuple[Handle, ...]:
        """Send a call to all members of a gang and wait until every one of them is through."""
        members = self._actors[role]
        refs = []
        for rank, actor in enumerate(members):
            own = each[rank] if each else ()
            remote = actor.call.options(num_returns=returns)
            refs.append(remote.remote(method, *_references(args), *_references(own)))
        firsts = refs if returns == 1 else [r[0] for r in refs]
        self._wait_for_gang(self._roles[role], firsts)
        call = _Call(role, method, (), returns, 0, [refs[0]] if returns == 1 else list(refs[0]), done=True)
        return tuple(_Part(call, i) for i in range(returns))

    def _wait_for_gang(self, role: Role, firsts: list[Any]) -> None:
        """Every member's first part; raises at the first member that fails, not when the slowest one times out."""
        pending, deadline = firsts, time.monotonic() + role.deadline
        while pending:
            done, pending = ray.wait(pending, num_returns=1, timeout=_TICK, fetch_local=False)
            try:
                ray.get(done, timeout=role.deadline)
            except INFRASTRUCTURE as error:
                raise GangLost(f"a {role.name} worker was lost: {type(error).__name__}") from error
            except Exception as error:  # perhaps only the echo of another member's death in a collective
                if _any_lost(pending):
                    raise GangLost(f"a {role.name} worker was lost in a collective") from error
                raise
            if time.monotonic() > deadline:
                raise GangLost(f"a {role.name} worker did not answer within {role.deadline:.0f} s")

    def broadcast(self, role: str, method: str, *args: Any, keep: int = 1) -> list[Any]:
        """Call every actor of a pool and wait; remembered as the state that a restarted actor gets first."""
        calls = self._state.setdefault(role, {}).setdefault(method, [])
        calls[:] = [*calls, args][-keep:]
        handles = []
        for index in range(len(self._actors[role])):
            call = _Call(role, method, args, 1, index, pinned=True)
            self._open.append(call)
            self._send(call)
            handles.append(_Part(call, 0))
        return [self.get(handle) for handle in handles]

    def wait(self, handles: Sequence[Handle]) -> Handle:
        """Block until one handle's call is through, sending failed and overdue calls again."""
        parts = [h for h in handles if isinstance(h, _Part)]
        while True:
            for part in parts:
                if part.call.done:
                    return part
            by_ref = {p.call.refs[0]: p for p in parts}
            done, _ = ray.wait(list(by_ref), num_returns=1, timeout=_TICK, fetch_local=False)
            for ref in done:
                if self._finish(by_ref[ref].call):
                    return by_ref[ref]
            self._replace_hung([p.call for p in parts])

    def _finish(self, call: _Call) -> bool:
        """True once a call's first part is there; an infrastructure failure sends the call again."""
        call.done = True
        for other in self._open:  # what waited behind this call starts now
            if (other.role, other.actor) == (call.role, call.actor):
                other.since = time.monotonic()
        try:
            call.first = ray.get(call.refs[0], timeout=self._roles[call.role].deadline)
        except INFRASTRUCTURE as error:
            self._resend(call, type(error).__name__)
        except InfrastructureError as error:  # it was restarted and is empty: elsewhere would leave it so for good
            self._resend(call, str(error), step=0)
        return call.done

    def _resend(self, call: _Call, why: str, *, step: int = 1) -> None:
        self.resent += 1
        if self.resent > self._budget:
            raise InfrastructureError(f"{self.resent} calls were lost, the budget is {self._budget}; last: {why}")
        if not call.pinned:
            call.actor = (call.actor + step) % len(self._actors[call.role])
        time.sleep(min(_LONGEST_PAUSE, 0.1 * 2**call.losses))  # a restarting actor fails calls at once
        call.losses += 1
        self._restore(call)
        self._send(call)

    def _restore(self, call: _Call) -> None:
        """Queue the role's newest state on an actor, ahead of the call that needs it; repeating it changes nothing."""
        actor = self._actors[call.role][call.actor]
        for method, calls in self._state.get(call.role, {}).items():
            for args in calls:
                actor.call.remote(method, *_references(args))

    def _replace_hung(self, calls: list[_Call]) -> None:
        now = time.monotonic()
        for call in calls:
            if not call.done and now - call.since > self._roles[call.role].deadline:
                role, index = self._roles[call.role], call.actor
                ray.kill(self._actors[role.name][index])
                self._actors[role.name][index] = place(role, index)
                for other in [c for c in self._open if not c.done and (c.role, c.actor) == (role.name, index)]:
                    self._resend(other, "no answer within the deadline")

    def get(self, handle: Handle) -> Any:
        """The value of a handle."""
        assert isinstance(handle, _Part)
        if handle.call.attempt:
            return _attempted(handle.ref, self._roles[handle.call.role].deadline)
        if handle.index == 0 and handle.call.first is not None:
            return handle.call.first
        if not handle.call.done:
            self.wait([handle])
        return ray.get(handle.ref, timeout=self._roles[handle.call.role].deadline)

    def close(self) -> None:
        """Kill all actors; the cluster itself is closed by whoever opened it."""
        for actors in self._actors.values():
            for actor in actors:
                ray.kill(actor)
        self._actors.clear()


def _attempted(ref: Any, deadline: float) -> Any:
    """The value of an attempt; what the worker's own code raised comes as it was raised there."""
    try:
        return ray.get(ref, timeout=deadline)
    except INFRASTRUCTURE as error:
        raise InfrastructureError(f"the worker was lost: {type(error).__name__}") from error
    except lost.RayTaskError as error:
        raise error.cause from error


def _references(args: Sequence[Any]) -> list[Any]:
    return [a.ref if isinstance(a, _Part) else a for a in args]


def _any_lost(refs: Sequence[Any]) -> bool:
    """True if one of the calls ends, within the grace period, because its actor is gone."""
    deadline, pending = time.monotonic() + _GANG_GRACE, list(refs)
    while pending and time.monotonic() < deadline:
        done, pending = ray.wait(pending, num_returns=1, timeout=_TICK, fetch_local=False)
        for ref in done:
            try:
                ray.get(ref)
            except INFRASTRUCTURE:
                return True
            except Exception:  # another echo: go on looking for the member that died
                continue
    return False
