"""What a replica runs: one module a version, and batches of pieces of one version, one sampler and one geometry.

Plain asyncio round one worker thread; Ray Serve is put round it in `deploy.py`. A module is loaded once, checked
against its digest and never changed: a promotion loads another one beside it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from burnish.data.errors import BurnishError, CheckpointError, Problem
from burnish.data.records import Conditions, Example, SamplerSpec
from burnish.policies.refiner import Refiner, load_refiner, loaded_digest
from burnish.policies.snapshot import adapted_digest
from burnish.serve.versions import ServedVersion

OnUnit = Callable[[int, int, np.ndarray | None], None]
"""Hears of a unit's finished step: index of the unit, step from 1, its present idea [3,h,w] or None."""
Loader = Callable[[ServedVersion], Refiner]


@dataclass(frozen=True, eq=False)
class Unit:
    """One piece of a picture to be made.

    Args:
        view: what the model sees.
        seed: of its noise.
        cut: an instruction that is too long is cut as in training, not refused.
    """

    view: Example
    seed: int
    cut: bool = False


@dataclass(frozen=True)
class Made:
    """What came of a call: a picture float32 [3,h,w] a unit, and the one version that made all of them."""

    images: tuple[np.ndarray, ...]
    digest: str


class Cancelled(Exception):
    """Nobody waits for any row of a batch any more."""


@dataclass(eq=False)
class _Row:
    """A unit in the queue. Batches hold rows of one key."""

    key: tuple[Any, ...]
    refiner: Refiner
    conditions: Conditions
    seed: int
    future: asyncio.Future[np.ndarray]
    on_step: Callable[[int, np.ndarray | None], None] | None
    left: threading.Event = field(default_factory=threading.Event)


def load_version(version: ServedVersion) -> Refiner:
    """The refiner of a version on a module of its own.

    Raises:
        CheckpointError: not readable, of another base, for other layers, or not the weights that its digest names.
    """
    refiner = _fitted(version)
    found = loaded_digest(Path(version.snapshot), refiner) if version.adapted else adapted_digest(refiner.policy.module)
    if found != version.digest:
        raise CheckpointError("not the weights that were promised", [Problem("digest", found, version.digest)])
    return refiner


def _fitted(version: ServedVersion) -> Refiner:
    try:
        return load_refiner(Path(version.snapshot), base=Path(version.base), adapted=version.adapted)
    except (ValueError, LookupError, TypeError, RuntimeError) as error:
        foreign = "loading state_dict" in str(error) or not isinstance(error, RuntimeError)  # else memory or a device
        if isinstance(error, BurnishError) or not (foreign and version.adapted):
            raise
        got = f"{type(error).__name__}: {' '.join(str(error).split())}"[:240]
        hint = "promote an adapter that was trained on this base"
        problem = Problem("adapter", got, "names and shapes of this policy's layers", hint)
        raise CheckpointError("the adapter does not fit the policy", [problem]) from error


class Engine:
    """Holds versions and runs batches.

    Args:
        batch: rows of every forward; a short batch repeats its last row, so that who shares it changes no byte.
        wait: seconds a row waits for company.
        load: makes the refiner of a version.
    """

    def __init__(self, *, batch: int = 1, wait: float = 0.005, load: Loader = load_version) -> None:
        self._batch, self._wait, self._load = batch, wait if batch > 1 else 0.0, load
        self._held: dict[str, Refiner] = {}
        self._loading: dict[str, asyncio.Task[Refiner]] = {}
        self._checked: set[tuple[str, str, str]] = set()
        self._rows: list[_Row] = []
        self._woken = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "policy", initializer=_one_thread)
        self._worker: asyncio.Task[None] | None = None
        self.batches = 0

    async def hold(self, version: ServedVersion) -> str:
        """Load a version beside the others; returns the digest of what is held. Repeating it changes nothing.

        Raises:
            CheckpointError: its files are not the weights that it names, whether such are held already or not.
        """
        await self._refiner(version)
        if _identity(version) not in self._checked:  # the same weights are said to be elsewhere, too
            await asyncio.to_thread(self._load, version)
            self._checked.add(_identity(version))
        return version.digest

    def drop(self, keep: Sequence[str]) -> None:
        """Forget all versions but those with these digests; a batch that runs keeps what it needs."""
        self._held = {digest: refiner for digest, refiner in self._held.items() if digest in keep}

    def holds(self) -> list[str]:
        """Digests of the versions held."""
        return list(self._held)

    async def _refiner(self, version: ServedVersion) -> Refiner:
        digest = version.digest
        if digest not in self._held:
            if digest not in self._loading:
                self._loading[digest] = asyncio.ensure_future(asyncio.to_thread(self._load, version))
            try:
                self._held[digest] = await asyncio.shield(self._loading[digest])
                self._checked.add(_identity(version))
            finally:
                self._loading.pop(digest, None)
        return self._held[digest]

    async def generate(
        self, version: ServedVersion, units: Sequence[Unit], sampler: SamplerSpec, on_unit: OnUnit | None = None
    ) -> Made:
        """Make every unit with one version.

        Args:
            version: loaded now if it is not held: a restarted replica has missed the push.
            units: what to make.
            sampler: how.
            on_unit: hears of every step, in the event loop's thread.
        """
        held = await self._refiner(version)
        refiner = Refiner(held.policy, sampler, held.config)
        loop = asyncio.get_running_loop()
        rows = []
        for index, unit in enumerate(units):
            encode = refiner.policy.encode if unit.cut else refiner.encode
            conditions = await loop.run_in_executor(self._thread, encode, unit.view)
            on_step = None if on_unit is None else _relay(loop, on_unit, index)
            key = (version.digest, sampler, conditions.geometry)
            rows.append(_Row(key, refiner, conditions, unit.seed, loop.create_future(), on_step))
        self._rows += rows
        self._wake()
        try:
            images = await asyncio.gather(*(row.future for row in rows))
        finally:
            for row in rows:
                row.left.set()
        return Made(tuple(images), version.digest)

    def _wake(self) -> None:
        if self._worker is None or self._worker.done():
            self._worker = asyncio.ensure_future(self._work())
        self._woken.set()

    async def _work(self) -> None:
        while True:
            self._rows = [row for row in self._rows if not row.left.is_set()]
            if not self._rows:
                self._woken.clear()
                await self._woken.wait()
                continue
            if self._wait and self._company() < self._batch:
                await asyncio.sleep(self._wait)
            first = self._rows[0]
            rows = [row for row in self._rows if row.key == first.key][: self._batch]
            self._rows = [row for row in self._rows if row not in rows]
            await self._run(rows)

    def _company(self) -> int:
        return sum(row.key == self._rows[0].key for row in self._rows)

    async def _run(self, rows: list[_Row]) -> None:
        self.batches += 1
        try:
            images = await asyncio.get_running_loop().run_in_executor(self._thread, self._sample, rows)
        except Exception as error:  # the requests of this batch fail, the next batch runs
            for row in rows:
                if not row.future.done():
                    row.future.set_exception(error)
                    row.future.exception()  # whoever left does not hear of it
            return
        for row, image in zip(rows, images, strict=False):
            if not row.future.done():
                row.future.set_result(image)

    def _sample(self, rows: list[_Row]) -> np.ndarray:
        padded = [*rows, *[rows[-1]] * (self._batch - len(rows))]

        def on_step(step: int, idea: Callable[[], np.ndarray]) -> None:
            if all(row.left.is_set() for row in rows):
                raise Cancelled
            heard = [(i, row.on_step) for i, row in enumerate(rows) if row.on_step is not None]
            images = idea() if heard else None
            for index, tell in heard:
                tell(step, None if images is None else images[index])

        return rows[0].refiner.generate(
            [row.conditions for row in padded], seeds=[row.seed for row in padded], on_step=on_step
        )

    def close(self) -> None:
        """End the worker; what runs is finished."""
        if self._worker is not None:
            self._worker.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)


def _identity(version: ServedVersion) -> tuple[str, str, str]:
    """What is promised, and of which files; no other version ever has these."""
    return version.digest, version.snapshot, version.base


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _relay(loop: asyncio.AbstractEventLoop, on_unit: OnUnit, index: int) -> Callable[[int, np.ndarray | None], None]:
    return lambda step, idea: _call_soon(loop, on_unit, index, step, idea)


def _call_soon(loop: asyncio.AbstractEventLoop, on_unit: OnUnit, *args: Any) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(on_unit, *args)
