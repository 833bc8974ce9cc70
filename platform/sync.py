"""Delivery of weights, proved by the receiver.

The learner publishes its trained arrays once; every rollout worker copies them from there and says what it holds now.
Driver and workers compare digests: a push that bound nothing, or other bytes, stops the run.
"""

from __future__ import annotations

from pathlib import Path

from burnish.data.errors import RefusedError
from burnish.data.records import PolicyVersion
from burnish.platform.executor import Executor


def deliver(executor: Executor, *, commit: Path | None = None, keep: int = 1) -> PolicyVersion:
    """Bring the learner's newest weights to every rollout worker; returns their version.

    Args:
        executor: where both roles run.
        commit: deliver what this verified commit had published instead of what the learner holds.
        keep: newest versions that a restarted worker gets again; lag + 1.

    Raises:
        RefusedError: a worker bound nothing, or holds something else than the learner published.
    """
    method, args = ("publish", ()) if commit is None else ("published", (commit,))
    version_handle, state = executor.gang("learner", method, *args, returns=2)
    version: PolicyVersion = executor.get(version_handle)
    for bound, digest in executor.broadcast("rollout", "load", version, state, keep=keep):
        if bound == 0 or digest != version.digest:
            raise RefusedError(f"policy {version.number} was not delivered: {bound} bound, digest {digest[:12]}")
    return version
