"""Takes new weights live: load beside, check the digest, score canary examples, switch by pointer, roll back.

One change at a time. Requests choose their version from `Versions`, which is changed between two of them, so none ever
sees two. The order of a change is: every replica holds the version, `state.json` says so, then requests get it.
"""

from __future__ import annotations

import asyncio
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

from burnish.data.errors import BurnishError, Problem
from burnish.policies.refiner import read_snapshot
from burnish.serve.backend import Backend
from burnish.serve.canary import Tally, Trial, worse_score
from burnish.serve.candidate import lay_down
from burnish.serve.leftovers import VERSIONS, sweep_uploads, sweep_versions
from burnish.serve.metrics import Metrics
from burnish.serve.probe import Probe
from burnish.serve.refusal import Refusal, ReplicaDied
from burnish.serve.schema import PromoteOptions
from burnish.serve.store import ServeConfig, Store
from burnish.serve.versions import Line, ServedVersion, Versions
from burnish.serve.work import carry_out, focus_of

MAX_DEATHS = 3
"""Replicas that may die over a canary's examples before it is taken for the reason."""
FIRST_PAUSE, LAST_PAUSE = 0.5, 30.0
"""Seconds between two tries to score a canary while replicas are full or away; each is twice the one before."""


class Promoter:
    """Changes which versions are served.

    Args:
        config: tolerance of scores.
        store: where state and events are written.
        versions: what requests choose from; this object alone changes it.
        backend: the replicas.
        probe: canary examples and gold rewards.
        metrics: counts changes.
    """

    def __init__(
        self, config: ServeConfig, store: Store, versions: Versions, backend: Backend, probe: Probe, metrics: Metrics
    ) -> None:
        self._config, self._store, self._versions, self._backend = config, store, versions, backend
        self._probe, self._metrics = probe, metrics
        self._turn = asyncio.Lock()
        self._scores: dict[tuple[Any, ...], list[float]] = {}
        self._trials: dict[str, Trial] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Load every version of the state on every replica."""
        for version in self._versions.loaded():
            await self._backend.load(version)
        await asyncio.to_thread(sweep_uploads, self._store.directory)
        await self._sweep()
        for name, line in self._versions.lines.items():
            if line.canary is not None:
                self._watch(line.versions[line.canary])
                self._trials[name] = Trial()

    async def promote(self, adapter: Path, snapshot: bytes, options: PromoteOptions) -> ServedVersion:
        """Take an upload live, at once or as a canary.

        Raises:
            Refusal: 422 it cannot be served; 409 another digest, a worse canary score, or a canary is on trial.
        """
        async with self._turn:
            present = self._present(options.policy)
            lineage = {"by": "promote", **options.lineage}
            number = self._versions.next_number(options.policy)
            root = self._store.directory / VERSIONS
            version = await asyncio.to_thread(
                lay_down, adapter=adapter, snapshot=snapshot, beside=present, number=number, root=root, lineage=lineage
            )
            try:
                await self._load(version)
                score = None if options.canary else await self._gate(version, present)
                state = ("canary", "on trial") if options.canary else ("active", "promoted")
                self._enter(version, state=state[0], share=options.canary, reason=state[1], score=score)
            except BaseException:
                shutil.rmtree(version.snapshot, ignore_errors=True)
                await self._forget()
                raise
            if options.canary:
                self._trials[options.policy] = Trial()
                self._watch(version)
                return version
            await self._forget()
            return version

    def _present(self, policy: str) -> ServedVersion:
        line = self._versions.line(policy)
        present = line.versions[line.active]
        if line.canary is not None:
            problem = Problem("policy", policy, "one without a canary", "accept it or roll it back first")
            raise Refusal(409, "promotion_refused", "a canary is on trial", [problem])
        if not present.adapted:
            problem = Problem("policy", policy, "an adapted policy")
            raise Refusal(409, "promotion_refused", "the base is not promoted", [problem])
        return present

    async def _load(self, version: ServedVersion) -> None:
        """Every live replica holds it and says so by its digest."""
        try:
            digests = await self._backend.load(version)
        except Refusal:
            raise
        except BurnishError as error:
            raise self._refuse(version, "; ".join(map(str, error.problems)) or error.message, error.problems) from None
        except Exception as error:  # out of memory, or silent: one replica that lives without it is enough
            cause = getattr(error, "cause", None) or error
            why = f"{type(cause).__name__}: {cause}"[:240]
            problem = Problem("replica", why, "that every replica loads it", "see the replicas' logs, then do it again")
            raise self._refuse(version, f"a replica did not load it: {why}", [problem]) from error
        wrong = [digest for digest in digests if digest != version.digest]
        if wrong or not digests:
            problem = Problem("digest", ", ".join(d[:12] for d in wrong) or "no replica", version.digest)
            raise self._refuse(version, "a replica holds other weights", [problem])

    def _refuse(self, version: ServedVersion, why: str, problems: Sequence[Problem] = ()) -> Refusal:
        self._event("refused", version, reason=why)
        return Refusal(409, "promotion_refused", f"{version.name} is refused: {why}", problems)

    async def _gate(self, version: ServedVersion, present: ServedVersion) -> float | None:
        candidate, before = await self._score(version), await self._score(present)
        why = worse_score(candidate, before, tolerance=self._config.tolerance)
        if why:
            raise self._refuse(version, why, [Problem("score", why, "a score that is not worse")])
        return _mean(candidate)

    async def _score(self, version: ServedVersion) -> list[float]:
        """Scores of the canary examples; those of the same weights, sampler and crop are remembered."""
        record = await asyncio.to_thread(read_snapshot, Path(version.snapshot))
        known = (version.digest, record.sampler, record.refiner.model_dump_json())
        scores = self._scores.get(known, [])
        for index in range(len(scores), len(self._probe.examples)):
            job = self._probe.job(index)
            done, focus = await carry_out(job, version, self._backend), focus_of(version, job.options).config
            crops = [piece.crop for piece in done.pieces]
            score = await asyncio.to_thread(self._probe.score, index, done.made, crops=crops, focus=focus)
            self._scores[known] = scores = [*scores, score]
        return scores

    def _enter(
        self, version: ServedVersion, *, state: str, share: float, reason: str, score: float | None = None
    ) -> None:
        with self._written(version.policy) as line:
            self._versions.enter(version, now=time.time(), state=state, share=share, reason=reason)
            line.standings[version.number].score = score
        self._event("promoted" if state == "active" else "canary", version, reason=reason, share=share, score=score)

    @contextmanager
    def _written(self, policy: str) -> Iterator[Line]:
        """A policy's line, to be changed and written; undone where it cannot be: no restart would know it."""
        line = self._versions.line(policy)
        before = deepcopy(line)
        try:
            yield line
            self._store.write(self._versions)
        except OSError:
            vars(line).update(vars(before))
            raise

    def _event(self, kind: str, version: ServedVersion, **details: Any) -> None:
        """Tell what happened; a disk that has no room for a line undoes no change."""
        self._metrics.changes.labels(kind).inc()
        with suppress(OSError):
            self._store.event(kind, policy=version.policy, version=version.number, digest=version.digest, **details)

    async def _forget(self) -> None:
        """Free the replicas of what is not served; one that is away, fails or hangs only holds more than it needs."""
        with suppress(Exception):
            await self._backend.keep([version.digest for version in self._versions.loaded()])
        self._spawn(self._sweep_later())

    async def _sweep_later(self) -> None:
        await asyncio.sleep(self._config.max_seconds + 1.0)
        async with self._turn:
            await self._sweep()

    async def _sweep(self) -> None:
        """Remove files of versions that are given up, once no request that chose one of them can still be in work."""
        needed = self._versions.needed(since=time.time() - self._config.max_seconds)
        names = {Path(version.snapshot).name for version in needed}
        await asyncio.to_thread(sweep_versions, self._store.directory, needed=names)

    async def roll_back(self, policy: str | None, reason: str) -> tuple[ServedVersion, ServedVersion]:
        """(given up, serving now); the version before is loaded everywhere, so this is a switch of a pointer.

        Raises:
            Refusal: 409, nothing to go back to.
        """
        async with self._turn:
            return await self._roll_back(policy or self._versions.default, reason)

    async def _roll_back(self, policy: str, reason: str) -> tuple[ServedVersion, ServedVersion]:
        with self._written(policy):
            given_up, serving = self._versions.roll_back(policy, now=time.time(), reason=reason)
        self._trials.pop(policy, None)
        self._event("rolled_back", given_up, reason=reason, to=serving.number, to_digest=serving.digest)
        await self._forget()
        return given_up, serving

    async def change_canary(self, policy: str | None, *, share: float | None, accept: bool) -> ServedVersion:
        """Give the canary another share, or make it the active version.

        Raises:
            Refusal: 409, there is none.
        """
        async with self._turn:
            name = policy or self._versions.default
            with self._written(name) as line:
                if line.canary is None or accept:
                    version = self._versions.accept(name, now=time.time(), reason="canary accepted")
                else:
                    version = line.versions[line.canary]
                    line.share, line.asked = share if share is not None else line.share, 0
            if line.canary is None:
                self._trials.pop(name, None)
            self._event("accepted" if accept else "share", version, share=line.share)
            await self._forget()
            return version

    def count(self, version: ServedVersion, *, failed: bool = False, vote: str | None = None) -> None:
        """Note what became of a request; a canary that is worse is rolled back by itself."""
        trial = self._trials.get(version.policy)
        if trial is None:
            return
        on_trial = self._versions.lines[version.policy].canary == version.number
        tally: Tally = trial.canary if on_trial else trial.active
        if vote is None:
            tally.answered, tally.failed = tally.answered + (not failed), tally.failed + failed
        else:
            tally.better, tally.worse = tally.better + (vote == "better"), tally.worse + (vote == "worse")
        why = trial.verdict()
        if why and on_trial:
            self._spawn(self._end_trial(version, why))

    def _watch(self, version: ServedVersion) -> None:
        """Score a canary beside the requests it takes."""
        self._spawn(self._try(version))

    async def _try(self, version: ServedVersion) -> None:
        line = self._versions.lines[version.policy]
        candidate, why = await self._compared(version, line.versions[line.active])
        if why:
            await self._end_trial(version, why)
        elif line.canary == version.number:
            line.standings[version.number].score = _mean(candidate)
            self._store.write(self._versions)
            self._event("scored", version, score=_mean(candidate), reason="canary score is not worse")

    async def _compared(self, version: ServedVersion, present: ServedVersion) -> tuple[list[float], str]:
        """Scores of a canary, and why it is worse; "" where it is not, or is none any more. Waits for replicas."""
        pause, deaths = FIRST_PAUSE, 0
        while self._versions.lines[version.policy].canary == version.number:
            try:
                candidate, before = await self._score(version), await self._score(present)
                return candidate, worse_score(candidate, before, tolerance=self._config.tolerance) or ""
            except Exception as error:  # a canary that cannot even do its examples is worse
                deaths += isinstance(error, ReplicaDied)
                away = isinstance(error, Refusal) and error.status == 503
                if not away or deaths == MAX_DEATHS:
                    return [], f"canary examples failed: {type(error).__name__}: {error}"
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE)
        return [], ""

    async def _end_trial(self, version: ServedVersion, why: str) -> None:
        async with self._turn:
            if self._versions.lines[version.policy].canary == version.number:
                await self._roll_back(version.policy, why)

    def close(self) -> None:
        """End what runs beside the requests."""
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _mean(scores: Sequence[float]) -> float | None:
    known = [score for score in scores if not math.isnan(score)]
    return sum(known) / len(known) if known else None
