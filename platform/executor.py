"""The one thing the training loop knows of where work runs.

A role is a pool of equal workers (rollout, reward) or a gang whose members all take part in each call (learner). The
loop submits calls and waits for handles; it never asks which executor it has. `local.py` runs calls in the driver's
process, `cluster.py` on Ray actors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from burnish.data.errors import InfrastructureError

Factory = Callable[[int, int], Any]
"""(rank, world) -> a worker; built where it will run."""


@dataclass(frozen=True)
class Role:
    """How the workers of a role are made.

    Args:
        name: "rollout", "reward" or "learner".
        factory: picklable maker of one worker.
        count: how many workers.
        gang: True if each call goes to every worker (their ranks differ), False if any one may take it.
        deadline: seconds after which a call counts as hung.
        num_cpus, num_gpus: share of a CPU (logical on a laptop) and of a GPU each worker takes.
        resources: custom resources of Ray that each worker takes, for example {"role_rollout": 1}.
        concurrency: calls a worker may work on at a time.
        runtime_env: Ray's runtime environment of the workers, None = the run's own.
    """

    name: str
    factory: Factory
    count: int = 1
    gang: bool = False
    deadline: float = 600.0
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    concurrency: int = 1
    runtime_env: Mapping[str, Any] | None = None
    resources: Mapping[str, float] = field(default_factory=dict)

    @property
    def demand(self) -> dict[str, float]:
        """What one worker takes, in Ray's names."""
        asked = {"CPU": self.num_cpus, "GPU": self.num_gpus, **self.resources}
        return {name: amount for name, amount in asked.items() if amount > 0}


class GangLost(InfrastructureError):
    """A member of a gang died or hung: the whole gang must be rebuilt from the last commit."""


class Handle(Protocol):
    """A value that is or will be somewhere; pass it to `submit` to hand the value to a worker."""


class Executor(Protocol):
    """Runs calls on roles."""

    name: str

    def start(self, role: Role) -> None:
        """Create the workers of a role, in place of those it had; their calls that are still open are forgotten.

        A gang's start forgets the open calls of every role: its stage begins anew.
        """
        ...

    def stop(self, role: str) -> None:
        """Let a role's workers go; nobody waits for a call on them. An unknown role is no error."""
        ...

    def submit(self, role: str, method: str, *args: Any, returns: int = 1) -> tuple[Handle, ...]:
        """Call a method on one worker of a pool; handles among the arguments arrive as their values.

        With `returns` > 1 the method returns a tuple and each part gets its own handle: a small first part for the
        driver, large ones that only travel between workers.
        """
        ...

    def attempt(self, role: str, method: str, *args: Any, worker: int = 0) -> Handle:
        """Like `submit`, on one worker of the pool, but its failure, of whatever kind, is the caller's to handle.

        Nothing is sent again; `poll` says when it is over, `get` returns the value or raises.
        """
        ...

    def poll(self, handle: Handle) -> bool:
        """True once an attempt is over; never blocks."""
        ...

    def gang(
        self, role: str, method: str, *args: Any, each: Sequence[Sequence[Any]] = (), returns: int = 1
    ) -> tuple[Handle, ...]:
        """Call a method on every worker of a gang; worker r also gets `each[r]`. Handles are of rank 0's result.

        Raises:
            GangLost: a member died, or did not answer within the role's deadline.
        """
        ...

    def broadcast(self, role: str, method: str, *args: Any, keep: int = 1) -> list[Any]:
        """Call a method on every worker of a pool and wait.

        A worker that restarts later first gets the last `keep` calls of each method that was broadcast, in order.
        """
        ...

    def resize(self, role: str, count: int) -> None:
        """Grow or shrink a pool while it works, without waiting.

        New workers take calls once they hold what was broadcast; those that go answer what they have first.
        """
        ...

    def sizes(self) -> dict[str, int]:
        """Role -> workers that take calls now."""
        ...

    def wait(self, handles: Sequence[Handle]) -> Handle:
        """Block until one of the handles has its value; failed calls are sent again meanwhile.

        Raises:
            InfrastructureError: the run's budget of failures is spent.
        """
        ...

    def get(self, handle: Handle) -> Any:
        """The value of a handle, waiting for it; only for small values.

        Raises:
            InfrastructureError: of an attempt: its worker died or did not answer in time. Or what the call raised.
        """
        ...

    @property
    def resent(self) -> int:
        """Calls that were sent again because a worker died, hung or had lost its state."""
        ...

    def close(self) -> None:
        """Stop all workers."""
        ...
