"""A server without its HTTP: requests in, answers out, each by exactly one version. The routes call it.

Built once a process by `door.py`. It counts, logs, remembers repeats, and ends what nobody waits for any more.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.data.errors import BurnishError, Problem
from burnish.data.pictures import LOSSLESS
from burnish.serve.backend import Backend
from burnish.serve.feedback import Feedback
from burnish.serve.idempotency import Answer, Repeats
from burnish.serve.intake import Job
from burnish.serve.metrics import Metrics
from burnish.serve.probe import Probe
from burnish.serve.promotion import Promoter
from burnish.serve.refusal import INTERNAL, Refusal, refusal_of
from burnish.serve.schema import (
    HEADER_DIGEST,
    HEADER_EXACT,
    HEADER_MODEL,
    HEADER_SEED,
    HEADER_VERSION,
    FeedbackRequest,
)
from burnish.serve.store import RequestLog, ServeConfig, Store
from burnish.serve.versions import ServedVersion, Versions
from burnish.serve.work import Done, Tell, carry_out, mime_of, output_format


@dataclass(frozen=True, eq=False)
class Taken:
    """A job that was let in: since when (Unix time), the seconds it may take, and the version that does it."""

    job: Job
    version: ServedVersion
    began: float
    limit: float

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer, known before it is there."""
        exact = output_format(self.job.options, self.job.picture) in LOSSLESS
        return {
            HEADER_MODEL: self.version.name,
            HEADER_VERSION: str(self.version.number),
            HEADER_DIGEST: self.version.digest,
            HEADER_SEED: str(self.job.seeds[0]),
            HEADER_EXACT: "true" if exact else "false",
        }


@dataclass(frozen=True, eq=False)
class Outcome:
    """An answered request: id, version, job, what came of it, and the headers of the answer."""

    id: str
    version: ServedVersion
    job: Job
    done: Done
    created: int
    seconds: float
    headers: dict[str, str]

    @property
    def images(self) -> list[str]:
        """Base64 of each sample."""
        return [base64.b64encode(payload).decode() for payload in self.done.payloads]

    def reply(self) -> dict[str, Any]:
        """As `schema.RefineReply`."""
        height, width = self.job.picture.pixels.shape[1:]
        pairs = zip(self.images, self.job.seeds, strict=True)
        return {
            "id": self.id,
            "created": self.created,
            "model": self.version.name,
            "version": self.version.number,
            "digest": self.done.digest,
            "seed": self.job.seeds[0],
            "steps": self.done.steps,
            "exact": self.done.exact,
            "width": width,
            "height": height,
            "regions": self.done.regions,
            "images": [{"b64": b64, "mime": mime_of(self.done.format), "seed": seed} for b64, seed in pairs],
            "seconds": self.seconds,
        }


class Service:
    """What a server does.

    Args:
        config: limits and directories.
        backend: the replicas.
    """

    def __init__(self, config: ServeConfig, backend: Backend) -> None:
        self.config, self.store, self.backend = config, Store(Path(config.directory)), backend
        self.versions: Versions = self.store.read()
        self.metrics, self.repeats = Metrics(), Repeats()
        self.log = RequestLog(self.store.directory)
        self.feedback = None
        if config.feedback is not None:
            self.feedback = Feedback(Path(config.feedback), limit=config.feedback_bytes)
        probe = Probe.read(self.store.directory)
        self.promoter = Promoter(config, self.store, self.versions, backend, probe, self.metrics)
        self.ready, self.draining, self.busy = False, False, 0
        self._starting: asyncio.Task[Refusal | None] | None = None

    def start(self) -> None:
        """Load the versions, in the background; called by every request until it is done."""
        if self._starting is None or (self._starting.done() and not self.ready):
            self._starting = asyncio.ensure_future(self._start())

    async def _start(self) -> Refusal | None:
        """Load every version; that there is no replica yet is handed back, and the next request asks again."""
        try:
            await self.promoter.start()
        except Refusal as refusal:
            return refusal
        self.ready = True
        return None

    async def wait_ready(self) -> None:
        """Wait until every version is loaded.

        Raises:
            Refusal: 503, not within the seconds that a request may take.
        """
        self.start()
        assert self._starting is not None
        try:
            refusal = await asyncio.wait_for(asyncio.shield(self._starting), self.config.max_seconds)
        except Exception as error:
            raise Refusal(503, "unavailable", f"versions are not loaded: {type(error).__name__}") from error
        if refusal is not None:
            raise refusal

    async def take(self, job: Job) -> Taken:
        """Let a job in, and choose the version that does it.

        Raises:
            Refusal: 408 its deadline passed, 422 no such version, 503 no replica is there.
        """
        began = time.time()
        await self.wait_ready()
        limit = self._limit(job, began)
        return Taken(job, self.versions.choose(job.options.model), began, limit)

    async def refine(self, taken: Taken, request_id: str, *, route: str, tell: Tell | None = None) -> Outcome:
        """Carry out a job with the version that it is due.

        Raises:
            Refusal: 408 its deadline passed, 422 the policy does not take it, 503 no replica answers.
        """
        job, version, began, limit = taken.job, taken.version, taken.began, taken.limit
        named = {"id": request_id, "model": version.name, "version": version.number, "digest": version.digest}

        def heard(event: str, data: dict[str, Any]) -> None:
            if tell is not None:
                tell(event, named | ({"seed": job.seeds[0]} if event == "accepted" else {}) | data)

        status = 200
        try:
            work = carry_out(job, version, self.backend, None if tell is None else heard)
            done = await asyncio.wait_for(work, limit)
        except TimeoutError:
            status = 408
            raise _late(f"not done after {limit:.1f} s") from None
        except BurnishError as error:
            status = 422
            raise refusal_of(error) from None
        except Refusal as refusal:
            status = refusal.status
            raise
        except asyncio.CancelledError:
            status = 499
            raise
        except Exception:
            status = 500
            raise
        finally:
            self._note(version, job, request_id, route, status, time.time() - began)
        self.metrics.pictures.labels(version.policy, str(version.number)).inc(len(done.payloads))
        if self.feedback is not None:
            self.feedback.remember(request_id, job, done, version)
        return Outcome(request_id, version, job, done, int(began), round(time.time() - began, 4), taken.headers)

    def _limit(self, job: Job, began: float) -> float:
        if job.options.deadline is None:
            return self.config.max_seconds
        left = job.options.deadline - began
        if left <= 0:
            raise _late(f"{-left:.1f} s ago")
        return min(left, self.config.max_seconds)

    def _note(self, version: ServedVersion, job: Job, request_id: str, route: str, status: int, took: float) -> None:
        if status not in (408, 422, 499, 503):  # the sender's or a dead replica's doing says nothing of the weights
            self.promoter.count(version, failed=status >= 500)
        entry = {"request_id": request_id, "route": route, "status": status, "seconds": round(took, 4)}
        entry |= {"policy": version.policy, "version": version.number, "digest": version.digest}
        self.log.write(entry | {"seed": job.seeds[0], "samples": len(job.seeds), "regions": len(job.regions)})

    async def once(self, key: str | None, digest: str, work: Callable[[], Awaitable[Answer]]) -> tuple[Answer, bool]:
        """(answer, whether it was given before): `work` at most once a key, see `Repeats`."""
        if key is None:
            return await work(), False
        answer, again = await self.repeats.answer(key, digest, work)
        if again:
            self.metrics.replays.inc()
        return answer, again

    def taken_feedback(self) -> Feedback:
        """Where feedback goes.

        Raises:
            Refusal: 404, it is off.
        """
        if self.feedback is None:
            raise Refusal(404, "not_found", "this server takes no feedback", [])
        return self.feedback

    async def judge(self, asked: FeedbackRequest) -> None:
        """Store feedback.

        Raises:
            Refusal: 404, feedback is off or the request is not remembered; see `Feedback.store`.
        """
        kept, first = await asyncio.to_thread(self.taken_feedback().store, asked)
        if asked.verdict is not None and first:
            self.promoter.count(kept.version, vote=asked.verdict)

    def close(self) -> None:
        """Take no more requests, and let go of files and threads."""
        self.draining = True
        if self._starting is not None:
            self._starting.cancel()
        self.promoter.close()
        self.backend.close()
        self.log.close()

    def internal(self, request_id: str, route: str, error: BaseException) -> Refusal:
        """What is said of an error that nobody foresaw; the log says more."""
        self.log.write({"request_id": request_id, "route": route, "status": 500, "error": repr(error)[:500]})
        return Refusal(500, "internal", INTERNAL)


def _late(got: str) -> Refusal:
    return Refusal(408, "deadline_passed", "nobody waits any more", [Problem("deadline", got, "a time to come")])
