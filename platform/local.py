"""The local executor: every role's workers in the driver's own process, one call at a time. Never imports Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from burnish.data.errors import InfrastructureError
from burnish.platform.executor import Handle, Role


@dataclass(frozen=True, eq=False)
class _Value:
    value: Any
    error: Exception | None = None


def _resolved(args: Sequence[Any]) -> list[Any]:
    return [a.value if isinstance(a, _Value) else a for a in args]


class LocalExecutor:
    """Runs each call as it is submitted; a handle already holds its value."""

    name = "local"
    resent = 0

    def __init__(self) -> None:
        self._roles: dict[str, Role] = {}
        self._workers: dict[str, list[Any]] = {}
        self._turn: dict[str, int] = {}
        self._state: dict[str, dict[str, list[tuple[Any, ...]]]] = {}

    def start(self, role: Role) -> None:
        """Build the role's workers; a gang is one worker, since one process has one rank.

        Raises:
            InfrastructureError: a gang of more than one worker was asked for.
        """
        if role.gang and role.count > 1:
            raise InfrastructureError(f"the local executor has one process; {role.name} asks for {role.count} ranks")
        self._roles[role.name] = role
        self._workers[role.name] = [role.factory(rank, role.count) for rank in range(role.count)]
        self._turn[role.name], self._state[role.name] = 0, {}

    def resize(self, role: str, count: int) -> None:
        """Build more workers, which are told what was broadcast, or let the last ones go."""
        made, workers = self._roles[role], self._workers[role]
        _close(workers[count:])
        del workers[count:]
        for rank in range(len(workers), count):
            worker = made.factory(rank, count)
            for method, calls in self._state[role].items():
                for args in calls:
                    getattr(worker, method)(*_resolved(args))
            workers.append(worker)

    def sizes(self) -> dict[str, int]:
        """Role -> workers."""
        return {role: len(workers) for role, workers in self._workers.items()}

    def stop(self, role: str) -> None:
        """Let go of a role's workers."""
        self._roles.pop(role, None)
        _close(self._workers.pop(role, []))

    def attempt(self, role: str, method: str, *args: Any, worker: int = 0) -> Handle:
        """Run a call on one worker and keep what it raises for `get`."""
        try:
            return _Value(getattr(self._workers[role][worker], method)(*_resolved(args)))
        except Exception as error:
            return _Value(None, error)

    def poll(self, handle: Handle) -> bool:
        """True: an attempt was over when it was made."""
        return True

    def submit(self, role: str, method: str, *args: Any, returns: int = 1) -> tuple[Handle, ...]:
        """Run a call on the role's next worker."""
        workers = self._workers[role]
        self._turn[role] = (self._turn[role] + 1) % len(workers)
        return _values(getattr(workers[self._turn[role]], method)(*_resolved(args)), returns)

    def gang(
        self, role: str, method: str, *args: Any, each: Sequence[Sequence[Any]] = (), returns: int = 1
    ) -> tuple[Handle, ...]:
        """Run a call on the one member of a gang."""
        own = each[0] if each else ()
        return _values(getattr(self._workers[role][0], method)(*_resolved(args), *_resolved(own)), returns)

    def broadcast(self, role: str, method: str, *args: Any, keep: int = 1) -> list[Any]:
        """Run a call on every worker of a role."""
        calls = self._state[role].setdefault(method, [])
        calls[:] = [*calls, args][-keep:]
        return [getattr(worker, method)(*_resolved(args)) for worker in self._workers[role]]

    def wait(self, handles: Sequence[Handle]) -> Handle:
        """The first handle: all of them are done."""
        return handles[0]

    def get(self, handle: Handle) -> Any:
        """The value of a handle."""
        assert isinstance(handle, _Value)
        if handle.error is not None:
            raise handle.error
        return handle.value

    def close(self) -> None:
        """Let go of all workers."""
        for workers in self._workers.values():
            _close(workers)
        self._workers.clear()


def _close(workers: Sequence[Any]) -> None:
    for worker in workers:
        close = getattr(worker, "close", None)
        if close is not None:
            close()


def _values(result: Any, returns: int) -> tuple[Handle, ...]:
    return (_Value(result),) if returns == 1 else tuple(_Value(part) for part in result)
