"""The Ray executor: roles as actors, references instead of tensors through the driver, failures sent again.

Failures are of two kinds. An exception of the worker's own code is a bug and reaches the caller. A dead, hung or
restarted worker, or a lost object, is infrastructure: the same keyed call is sent again, elsewhere, after the worker
got its newest state back, until the budget is spent.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import ray
from ray import exceptions as lost

from burnish.data.errors import InfrastructureError
from burnish.platform.actors import place
from burnish.platform.calls import INFRASTRUCTURE, Call, OpenCalls, Part, any_lost, attempted, parts, references
from burnish.platform.console import note
from burnish.platform.crew import Crew, Make, draining_nodes
from burnish.platform.executor import GangLost, Handle, Role

_TICK = 1.0
"""Seconds between two looks at workers and deadlines."""
LOOKS = 10
"""Looks at all open calls within the shortest deadline: each costs as much as there are calls."""
_LONGEST_PAUSE = 5.0
"""Seconds, the most that a lost call waits before it is sent again."""
_MANY, _LINGER = 128, 25e-6
"""With more than `_MANY` open calls, answers are gathered for `_LINGER` seconds a call: a look at all of them costs a
tenth of that, and groups take far longer."""
_LATER = object()
"""Answer of a worker that was lost during a broadcast: it is told once it is back, and nobody waits for that."""


class RayExecutor:
    """Runs calls on Ray actors.

    Args:
        budget: how many calls may be sent again before the run stops.
        make: starts an actor, see `Crew`.
    """

    name = "ray"

    def __init__(self, *, budget: int = 64, make: Make = place) -> None:
        self._make = make
        self._crews: dict[str, Crew] = {}
        self._open = OpenCalls()
        self._budget = budget
        self._tended = self._looked = 0.0
        self.resent = 0

    def start(self, role: Role) -> None:
        """Create the role's actors, in place of those it had; their open calls are forgotten, a gang's start all."""
        self.stop(role.name)
        self._crews[role.name] = Crew(role, self._make)
        if role.gang:
            self._open.forget()

    def stop(self, role: str) -> None:
        """Kill a role's actors and forget their calls."""
        if role in self._crews:
            self._crews.pop(role).close()
        self._open.forget(role)

    def resize(self, role: str, count: int) -> None:
        """Grow or shrink a pool while it works; see `Executor.resize`."""
        self._crews[role].resize(count)

    def sizes(self) -> dict[str, int]:
        """Role -> workers that take calls now."""
        return {name: len(crew.slots) for name, crew in self._crews.items()}

    def attempt(self, role: str, method: str, *args: Any, worker: int = 0) -> Handle:
        """Send a call to one actor once; its failure is the caller's."""
        slots = self._crews[role].slots
        call = Call(role, method, args, 1, slots[worker % len(slots)], attempt=True)
        self._send(call)
        return Part(call, 0)

    def poll(self, handle: Handle) -> bool:
        """True once an attempt is over."""
        assert isinstance(handle, Part)
        done, _ = ray.wait([handle.ref], num_returns=1, timeout=0, fetch_local=False)
        return bool(done)

    def pids(self, role: str) -> list[int]:
        """Process ids of a role's actors."""
        crew = self._crews[role]
        return ray.get([crew.actors[slot].pid.remote() for slot in crew.slots], timeout=crew.role.deadline)

    def submit(self, role: str, method: str, *args: Any, returns: int = 1) -> tuple[Handle, ...]:
        """Send a call to the role's least busy actor."""
        call = Call(role, method, args, returns, self._crews[role].least_busy(self._open))
        self._send(call)
        return tuple(Part(call, i) for i in range(returns))

    def _send(self, call: Call) -> None:
        actor = self._crews[call.role].actors[call.actor]
        refs = actor.call.options(num_returns=call.returns).remote(call.method, *references(call.args))
        call.refs = [refs] if call.returns == 1 else list(refs)
        call.since, call.arrived, call.done = time.monotonic(), False, False
        if not call.attempt:
            self._open.put(call)

    def gang(
        self, role: str, method: str, *args: Any, each: Sequence[Sequence[Any]] = (), returns: int = 1
    ) -> tuple[Handle, ...]:
        """Send a call to all members of a gang and wait until every one of them is through.

        Raises:
            GangLost: a member died, or did not answer within the role's deadline.
        """
        try:
            refs = self._gang_refs(role, method, args, each, returns)
        except GangLost as error:
            if len(each) != 1 or not isinstance(error.__cause__, lost.ObjectLostError):
                raise
            self._make_again(parts(each[0]))  # its arguments never came together, so the one member has not begun
            refs = self._gang_refs(role, method, args, each, returns)
        call = Call(role, method, (), returns, 0, refs, done=True, gang=True)
        return tuple(Part(call, i) for i in range(returns))

    def _gang_refs(
        self, role: str, method: str, args: Sequence[Any], each: Sequence[Sequence[Any]], returns: int
    ) -> list[Any]:
        """References of rank 0's result, once every member has its own."""
        crew, refs = self._crews[role], []
        for rank, slot in enumerate(crew.slots):
            own = each[rank] if each else ()
            remote = crew.actors[slot].call.options(num_returns=returns)
            refs.append(remote.remote(method, *references(args), *references(own)))
        self._wait_for_gang(crew.role, refs if returns == 1 else [r[0] for r in refs])
        return [refs[0]] if returns == 1 else list(refs[0])

    def _wait_for_gang(self, role: Role, firsts: list[Any]) -> None:
        """Every member's first part; raises at the first member that fails, not when the slowest one times out."""
        pending, deadline = firsts, time.monotonic() + role.deadline
        while pending:
            done, pending = ray.wait(pending, num_returns=1, timeout=_TICK, fetch_local=False)
            self._tend()
            try:
                ray.get(done, timeout=role.deadline)
            except INFRASTRUCTURE as error:
                raise GangLost(f"a {role.name} worker was lost: {type(error).__name__}") from error
            except Exception as error:  # perhaps only the echo of another member's death in a collective
                if any_lost(pending):
                    raise GangLost(f"a {role.name} worker was lost in a collective") from error
                raise
            if time.monotonic() > deadline:
                raise GangLost(f"a {role.name} worker did not answer within {role.deadline:.0f} s")

    def broadcast(self, role: str, method: str, *args: Any, keep: int = 1) -> list[Any]:
        """Call every actor of a pool and wait; remembered as the state that a restarted actor gets first.

        Whoever is lost meanwhile, and is not the last one, answers nothing: it gets the state before its next call.
        """
        crew = self._crews[role]
        calls = crew.state.setdefault(method, [])
        calls[:] = [*calls, args][-keep:]
        handles = []
        for slot in crew.slots:
            call = Call(role, method, args, 1, slot, pinned=True)
            self._send(call)
            handles.append(Part(call, 0))
        found = [self.get(handle) for handle in handles]
        return [value for value in found if value is not _LATER]

    def wait(self, handles: Sequence[Handle]) -> Handle:
        """Block until one handle's call is through, sending failed and overdue calls again.

        Raises:
            InfrastructureError: more than `budget` calls were lost.
        """
        waited = cast("Sequence[Part]", handles)
        while True:
            self._tend()
            for part in waited:
                if part.call.done or (part.call.arrived and self._finish(part.call)):
                    return part
            by_ref = {p.call.refs[0]: p for p in waited}
            refs, many = list(by_ref), len(by_ref)
            done, _ = ray.wait(refs, num_returns=1, timeout=_TICK, fetch_local=False)
            if done and many > _MANY:
                done, _ = ray.wait(refs, num_returns=many, timeout=_LINGER * many, fetch_local=False)
            self._arrive([by_ref[ref].call for ref in done])
            self._replace_hung([p.call for p in waited if not p.call.arrived])

    def _tend(self) -> None:
        """Once a tick: who joins, who leaves, and whose node was told to go."""
        if time.monotonic() - self._tended < _TICK:
            return
        self._tended = time.monotonic()
        shortest = min((crew.role.deadline for crew in self._crews.values()), default=0.0)
        if self._tended - self._looked > shortest / LOOKS:
            self._look()
        nodes = draining_nodes()
        for crew in self._crews.values():
            if nodes and not crew.role.gang and (moved := crew.relieve(nodes)):
                note(f"{moved} {crew.role.name} workers stand on nodes that will go: others take their place")
            crew.tend(self._open)

    def _look(self) -> None:
        """Take note of answers that nobody waits for yet: who gave one did not hang meanwhile."""
        self._looked = time.monotonic()
        pending = {call.refs[0]: call for call in self._open if not call.arrived}
        if pending:
            done, _ = ray.wait(list(pending), num_returns=len(pending), timeout=0, fetch_local=False)
            self._arrive([pending[ref] for ref in done])

    def _arrive(self, calls: Sequence[Call]) -> None:
        """These were answered: what waited behind them starts now."""
        answered, now = {(call.role, call.actor) for call in calls}, time.monotonic()
        for call in calls:
            call.arrived = True
        for other in self._open if answered else ():
            if (other.role, other.actor) in answered:
                other.since = now

    def _finish(self, call: Call) -> bool:
        """True once a call's first part is there; an infrastructure failure sends the call again."""
        call.done = True
        self._open.take(call)
        try:
            call.first = ray.get(call.refs[0], timeout=self._crews[call.role].role.deadline)
        except INFRASTRUCTURE as error:
            if isinstance(error, lost.ObjectLostError):
                self._make_again(parts(call.args))
            self._resend(call, type(error).__name__)
        except InfrastructureError as error:  # it was restarted and is empty: elsewhere would leave it so for good
            self._resend(call, str(error), elsewhere=False)
        return call.done

    def _make_again(self, lost_parts: Sequence[Part]) -> None:
        """Have calls whose results went with a node made again: the same key gives the same bytes.

        Raises:
            GangLost: a gang made one of them; it begins anew at its last commit.
        """
        calls = {id(part.call): part for part in lost_parts}.values()
        if any(part.call.gang for part in calls):
            raise GangLost("what the learner published went with its node")
        for part in calls:
            self._resend(part.call, "its result went with its node")
        for part in calls:
            while not part.call.done:
                self.wait([part])

    def _resend(self, call: Call, why: str, *, elsewhere: bool = True) -> None:
        self.resent += 1
        if self.resent > self._budget:
            raise InfrastructureError(f"{self.resent} calls were lost, the budget is {self._budget}; last: {why}")
        crew = self._crews[call.role]
        if elsewhere and crew.suspect(call.actor) and call.pinned:
            call.done, call.first = True, _LATER
            self._open.take(call)
            return
        if not call.pinned and (elsewhere or call.actor not in crew.actors):
            call.actor = crew.least_busy(self._open, but=call.actor)
        time.sleep(min(_LONGEST_PAUSE, 0.1 * 2**call.losses))  # a restarting actor fails calls at once
        call.losses += 1
        if call.losses > 1 and crew.state_is_lost(call.actor):
            raise GangLost("the weights that workers need went with their node")
        crew.restore(call.actor)
        self._send(call)

    def _replace_hung(self, calls: list[Call]) -> None:
        if any(self._overdue(call) for call in calls):
            self._look()  # the driver may have come late, and not the answer
        for call in calls:
            crew = self._crews[call.role]
            if not call.arrived and self._overdue(call):
                slot = call.actor
                crew.replace(slot)
                for other in [c for c in self._open.at(call.role, slot) if not c.arrived]:
                    self._resend(other, "no answer within the deadline")

    def _overdue(self, call: Call) -> bool:
        return not call.done and time.monotonic() - call.since > self._crews[call.role].role.deadline

    def get(self, handle: Handle) -> Any:
        """The value of a handle."""
        assert isinstance(handle, Part)
        deadline = self._crews[handle.call.role].role.deadline
        if handle.call.attempt:
            return attempted(handle.ref, deadline)
        if not handle.call.done:
            self.wait([handle])
        if handle.index == 0 and handle.call.first is not None:
            return handle.call.first
        return ray.get(handle.ref, timeout=deadline)

    def close(self) -> None:
        """Kill all actors; the cluster itself is closed by whoever opened it."""
        for crew in self._crews.values():
            crew.close()
        self._crews.clear()
