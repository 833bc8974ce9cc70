"""Delivery of weights, proved by the receiver.

The learner publishes its trained arrays once, in shards where they are many; every rollout worker copies them from
there and says what it holds now. Driver and workers compare digests: a push that bound nothing, or other bytes, stops
the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from burnish.data.errors import RefusedError
from burnish.data.records import PolicyVersion
from burnish.platform.executor import Executor

SHARD_BYTES = 256 * 2**20
"""A shard holds at most this, or one array: an object store takes it in pieces, and a lost piece is small."""


def shard_names(sizes: Mapping[str, int], *, limit: int = SHARD_BYTES) -> list[list[str]]:
    """Names in order, dealt into shards: a function of the sizes alone, so that every rank and version agrees.

    Args:
        sizes: name -> bytes.
        limit: bytes of a shard, unless one array alone is larger.
    """
    shards: list[list[str]] = [[]]
    held = 0
    for name in sorted(sizes):
        if shards[-1] and held + sizes[name] > limit:
            shards.append([])
            held = 0
        shards[-1].append(name)
        held += sizes[name]
    return shards


def shards_of(state: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """A state in shards; together they are the state."""
    names = shard_names({name: array.nbytes for name, array in state.items()})
    return [{name: state[name] for name in shard} for shard in names]


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
    (count,) = executor.gang("learner", "num_shards")
    version_handle, *shards = executor.gang("learner", method, *args, returns=1 + executor.get(count))
    version: PolicyVersion = executor.get(version_handle)
    for bound, digest in executor.broadcast("rollout", "load", version, *shards, keep=keep):
        if bound == 0 or digest != version.digest:
            raise RefusedError(f"policy {version.number} was not delivered: {bound} bound, digest {digest[:12]}")
    return version
