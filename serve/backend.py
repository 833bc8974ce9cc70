"""Where pictures are made: the protocol that the service speaks, and the backend in this very process.

`deploy.py` has the other one, on Ray Serve replicas. The service never sees which one it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from burnish.data.records import SamplerSpec
from burnish.serve.engine import Engine, Made, OnUnit, Unit
from burnish.serve.versions import ServedVersion


class Backend(Protocol):
    """Replicas that hold versions and make pictures."""

    async def load(self, version: ServedVersion) -> list[str]:
        """Have every live replica load a version beside those it has; the digests of what they hold now.

        Raises:
            Exception: a replica that lives could not, or did not say.
        """
        ...

    async def keep(self, digests: Sequence[str]) -> None:
        """Have every replica forget all other versions."""
        ...

    async def holds(self) -> list[list[str]]:
        """Digests that each live replica holds.

        Raises:
            TimeoutError: one did not say within a few seconds.
        """
        ...

    async def generate(
        self, version: ServedVersion, units: Sequence[Unit], sampler: SamplerSpec, on_unit: OnUnit | None = None
    ) -> Made:
        """As `Engine.generate`, on one replica.

        Raises:
            Refusal: 503, the replica died or all are full.
        """
        ...

    def close(self) -> None:
        """Let go of what this process holds."""
        ...


class LocalBackend:
    """One engine in this process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def load(self, version: ServedVersion) -> list[str]:
        """See `Backend`."""
        return [await self._engine.hold(version)]

    async def keep(self, digests: Sequence[str]) -> None:
        """See `Backend`."""
        self._engine.drop(digests)

    async def holds(self) -> list[list[str]]:
        """See `Backend`."""
        return [self._engine.holds()]

    async def generate(
        self, version: ServedVersion, units: Sequence[Unit], sampler: SamplerSpec, on_unit: OnUnit | None = None
    ) -> Made:
        """See `Backend`."""
        return await self._engine.generate(version, units, sampler, on_unit)

    def close(self) -> None:
        """See `Backend`."""
        self._engine.close()
