"""The server on Ray Serve: one ingress that owns the state, and replicas that hold the policies.

`build` is importable by path for a declarative Serve config (`burnish.serve.deploy:build`, args = `ServeConfig`).
`burnish serve` runs the same application. A replica that starts pulls its versions from the server's directory; one
that lives is pushed to; one that missed both loads what a request names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ray import serve
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from burnish.data.records import SamplerSpec
from burnish.serve.door import Door, tokens_of
from burnish.serve.engine import Engine, Made, OnUnit, Unit
from burnish.serve.refusal import Refusal, ReplicaDied, unavailable
from burnish.serve.store import ServeConfig, Store
from burnish.serve.versions import ServedVersion

APP, REPLICA = "burnish", "Replica"
_LOST = ("RayActorError", "ActorDiedError", "ActorUnavailableError", "WorkerCrashedError", "ObjectLostError")
TRIES = 2
"""A call whose replica died is keyed work: it is sent once more, elsewhere."""
PUSH_SECONDS, LOOK_SECONDS = 120.0, 4.0
"""How long every replica may take to load a version, and to say what it holds or forget what it need not."""


class Replica:
    """One engine in a process of its own; it takes requests when it holds every version of the state."""

    async def __init__(self, config: ServeConfig) -> None:
        self._engine = Engine(batch=config.batch)
        store, held = Store(Path(config.directory)), None
        while (wanted := store.read().loaded()) != held:  # a push meanwhile does not reach this replica
            for version in wanted:
                await self._engine.hold(version)
            held = wanted

    async def hold(self, version: ServedVersion) -> str:
        """See `Engine.hold`."""
        return await self._engine.hold(version)

    def keep(self, digests: Sequence[str]) -> None:
        """See `Engine.drop`."""
        self._engine.drop(digests)

    def holds(self) -> list[str]:
        """See `Engine.holds`."""
        return self._engine.holds()

    async def generate(self, version: ServedVersion, units: Sequence[Unit], sampler: SamplerSpec) -> Made:
        """See `Engine.generate`."""
        return await self._engine.generate(version, units, sampler)

    async def stream(self, version: ServedVersion, units: Sequence[Unit], sampler: SamplerSpec) -> Any:
        """(unit, step, idea) of every step, then the `Made`."""
        told: asyncio.Queue[Any] = asyncio.Queue()
        work = asyncio.ensure_future(
            self._engine.generate(version, units, sampler, lambda *entry: told.put_nowait(entry))
        )
        work.add_done_callback(lambda _: told.put_nowait(None))
        try:
            while (entry := await told.get()) is not None:
                yield entry
            yield work.result()
        finally:
            work.cancel()


class ReplicaBackend:
    """The replicas behind a Serve handle; see `backend.Backend`.

    Args:
        handle: None = that of the deployment that `build` makes.
    """

    def __init__(self, handle: Any = None) -> None:
        self._handle = serve.get_deployment_handle(REPLICA, app_name=APP) if handle is None else handle

    async def _all(self, method: str, *args: Any, seconds: float) -> list[Any]:
        """What each live replica answers; one that died meanwhile pulls when it starts again.

        Raises:
            Refusal: 503, none was ever there.
            Exception: what a replica that lives raised; `TimeoutError` where it said nothing.
        """
        try:
            pushed = await asyncio.to_thread(self._handle.broadcast, method, *args)
            answers = await asyncio.to_thread(pushed.results, timeout_s=seconds, return_exceptions=True)
        except DeploymentUnavailableError:
            raise unavailable("no replica has started yet") from None
        for answer in answers:
            if isinstance(answer, BaseException) and not _is_lost(answer):
                raise answer
        return [answer for answer in answers if not isinstance(answer, BaseException)]

    async def load(self, version: ServedVersion) -> list[str]:
        """See `Backend`."""
        return await self._all("hold", version, seconds=PUSH_SECONDS)

    async def keep(self, digests: Sequence[str]) -> None:
        """See `Backend`."""
        await self._all("keep", list(digests), seconds=LOOK_SECONDS)

    async def holds(self) -> list[list[str]]:
        """See `Backend`."""
        return await self._all("holds", seconds=LOOK_SECONDS)

    async def generate(
        self, version: ServedVersion, units: Sequence[Unit], sampler: SamplerSpec, on_unit: OnUnit | None = None
    ) -> Made:
        """See `Backend`."""
        for attempt in range(1, TRIES + 1):
            try:
                if on_unit is None:
                    return await self._whole(version, units, sampler)
                return await self._streamed(version, units, sampler, on_unit)
            except Refusal:
                raise
            except (BackPressureError, DeploymentUnavailableError) as error:
                full = isinstance(error, BackPressureError)
                raise unavailable("every replica is full" if full else "no replica is there") from None
            except Exception as error:
                if not _is_lost(error):
                    raise
                if attempt == TRIES:
                    raise ReplicaDied from error
        raise AssertionError("unreachable")

    async def _whole(self, version: ServedVersion, units: Sequence[Unit], sampler: SamplerSpec) -> Made:
        answer = self._handle.generate.remote(version, list(units), sampler)
        try:
            return await answer
        except asyncio.CancelledError:
            answer.cancel()
            raise

    async def _streamed(
        self, version: ServedVersion, units: Sequence[Unit], sampler: SamplerSpec, on_unit: OnUnit
    ) -> Made:
        parts: Any = self._handle.options(stream=True).stream.remote(version, list(units), sampler)
        made: Made | None = None
        try:
            async for part in parts:
                if isinstance(part, Made):
                    made = part
                else:
                    unit, step, idea = part
                    on_unit(unit, step, None if idea is None else np.asarray(idea))
        except asyncio.CancelledError:
            parts.cancel()
            raise
        if made is None:
            raise unavailable("a replica ended in the middle of its answer")
        return made

    def close(self) -> None:
        """See `Backend`; Serve ends the replicas."""


def _is_lost(error: BaseException) -> bool:
    """True for the death of a replica, by name: Ray's exceptions are platform's."""
    return any(kind.__name__ in _LOST for kind in type(error).__mro__)


def build(args: Mapping[str, Any]) -> Any:
    """The Serve application of a server; `args` are the fields of `ServeConfig`."""
    config = ServeConfig.model_validate(dict(args))
    replica: Any = serve.deployment(
        Replica,
        name=REPLICA,
        num_replicas=config.replicas,
        max_ongoing_requests=max(8, config.batch * 4, config.queue),
        max_queued_requests=config.queue,
        health_check_period_s=2,
        health_check_timeout_s=60,
        graceful_shutdown_timeout_s=30,
        ray_actor_options={"num_cpus": config.cpus, "num_gpus": config.gpus},
    )
    door = serve.ingress(Door(config, ReplicaBackend))(_Ingress)
    ingress: Any = serve.deployment(
        door,
        name="Ingress",
        num_replicas=1,
        max_ongoing_requests=config.queue * 4 + 64,
        graceful_shutdown_timeout_s=30,
        ray_actor_options={"num_cpus": config.cpus},
    )
    return ingress.bind(replica.bind(config))


class _Ingress:
    """Holds the handle, so that Serve deploys the replicas with it."""

    def __init__(self, replicas: Any) -> None:
        self._replicas = replicas


def start(config: ServeConfig, *, host: str, port: int) -> None:
    """Run the application on the Ray that this process is connected to; returns when it can answer.

    Args:
        config: of the server.
        host, port: where Serve's proxy listens.

    Raises:
        ConfigError: as `tokens_of`.
    """
    tokens_of(config)  # said here, and not only in the log of an ingress that does not start
    serve.start(http_options={"host": host, "port": port})
    serve.run(build(config.model_dump()), name=APP, route_prefix="/")


def stop() -> None:
    """Drain and end."""
    serve.shutdown()
