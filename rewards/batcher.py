"""Many callers, one scoring thread: small requests fill model calls together.

Made where a reward server has several callers at once (a threaded actor). Never mixes versions: see `lanes.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

import torch

from burnish.data.errors import InfrastructureError
from burnish.data.records import Group, Scores
from burnish.rewards.jobs import Failure
from burnish.rewards.order import RewardOrder
from burnish.rewards.server import RewardServer

Request = tuple[Group, RewardOrder, "Future[Scores]"]


class _Unanswered:
    """Callers who wait. As a context it hands them what the scoring broke on, so that none waits for ever."""

    def __init__(self) -> None:
        self._futures: set[Future[Scores]] = set()

    def __len__(self) -> int:
        return len(self._futures)

    def add(self, future: Future[Scores]) -> Callable[[Scores | Failure], None]:
        """Expect an answer; returns what takes it."""
        self._futures.add(future)

        def answer(end: Scores | Failure) -> None:
            self._futures.discard(future)
            if isinstance(end, Scores):
                future.set_result(end)
            else:
                future.set_exception(end)

        return answer

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if error is None:
            return False
        for future in self._futures:
            future.set_exception(error)
        self._futures.clear()
        return True


class Batcher:
    """Scores for callers in any thread; the model calls are made in one thread, which the first caller starts.

    A full batch is scored at once. One that is not full waits until nothing arrived and nothing was scored for it
    during the window: callers who were just answered have that long to come back.

    Args:
        server: scored by from now on by this batcher alone; `prepare` and `retain` may be called beside it.
        window: seconds.
    """

    def __init__(self, server: RewardServer, *, window: float = 0.005) -> None:
        self._server, self._window = server, window
        self._arrived: list[Request] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def score(self, group: Group, order: RewardOrder) -> Scores:
        """`RewardServer.score`, from any thread; the same bytes, and the same errors for its own request only.

        Raises:
            InfrastructureError: the batcher is closed.
        """
        future: Future[Scores] = Future()
        with self._changed:
            if self._closed:
                raise InfrastructureError("this reward server's batcher is closed")
            self._arrived.append((group, order, future))
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="reward-batcher", daemon=True)
                self._thread.start()
            self._changed.notify()
        return future.result()

    def close(self) -> None:
        """Answer what has arrived, then end the thread. Idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _serve(self) -> None:
        torch.set_num_threads(1)  # it counts for the thread that calls it; bytes and shares of CPU rest on it
        lanes, unanswered = self._server.lanes(), _Unanswered()
        while True:
            arrived = self._wait(lanes.next_due(quiet=self._window))
            if arrived is None:
                return
            answers = [unanswered.add(future) for _, _, future in arrived]
            with unanswered:
                for (group, order, _), answer in zip(arrived, answers, strict=True):
                    lanes.add(group, order, answer)
                lanes.run(quiet=0.0 if self._closed else self._window)
            if not unanswered:
                lanes = self._server.lanes()  # the old ones hold nothing that anybody waits for, and may be broken

    def _wait(self, due: float | None) -> list[Request] | None:
        """What arrived until a call is due; None where the batcher is closed and nothing waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._arrived or self._closed, timeout=due)
            if self._closed and not self._arrived and due is None:
                return None
            arrived, self._arrived = self._arrived, []
            return arrived
