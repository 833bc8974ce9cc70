"""The one file that wraps plain workers in Ray actors."""

from __future__ import annotations

import os
import threading
from typing import Any

import ray

from burnish.platform.executor import Role


class Host:
    """Holds one worker of a role inside an actor.

    The worker is built on the first call, not in the constructor: an actor whose constructor fails is gone, while a
    call that fails tells the driver why.
    """

    def __init__(self, role: Role, rank: int) -> None:
        import torch

        torch.set_num_threads(1)
        self._role, self._rank, self._worker = role, rank, None
        self._building = threading.Lock()

    def pid(self) -> int:
        """Process id, for tests that kill it and for the log."""
        return os.getpid()

    def build(self) -> str:
        """Build the worker ahead of its first call: its imports take seconds, which run beside other roles' work.

        Returns:
            Id of the node that it stands on.
        """
        with self._building:  # a role with concurrency calls from several threads
            if self._worker is None:
                self._worker = self._role.factory(self._rank, self._role.count)
        return ray.get_runtime_context().get_node_id()

    def call(self, method: str, *args: Any) -> Any:
        """Run a method of the worker; top-level references among `args` arrive as values."""
        self.build()
        return getattr(self._worker, method)(*args)


def place(role: Role, rank: int) -> tuple[Any, Any]:
    """Start one actor; returns it and the reference of what its `build` returns.

    Pools restart without limit and never repeat a task by themselves: a restarted worker has lost its weights, so the
    driver gives them back first. A gang's member is never restarted alone.
    """
    options: dict[str, Any] = {
        "num_cpus": role.num_cpus,
        "num_gpus": role.num_gpus,
        "max_concurrency": role.concurrency,
        "max_restarts": 0 if role.gang else -1,
        "max_task_retries": 0,
    }
    if role.resources:
        options["resources"] = dict(role.resources)
    if role.runtime_env is not None:
        options["runtime_env"] = dict(role.runtime_env)
    host: Any = ray.remote(Host)
    actor = host.options(**options).remote(role, rank)
    return actor, actor.build.remote()
