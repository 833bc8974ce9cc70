"""Commits that are written behind the training: one at a time, the next one waits for the one before.

Used by the learner. What is written must be copies: training goes on meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from burnish.platform.checkpoints import commit


class CommitThread:
    """The one thread that writes a learner's commits."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._open: Future[Path] | None = None

    def commit(self, parent: Path, name: str, writer: Callable[[Path], object]) -> None:
        """Begin to write a commit; see `checkpoints.commit`.

        Raises:
            InfrastructureError, CheckpointError: the one before could not be written.
        """
        self.settle()
        self._open = self._pool.submit(commit, parent, name, writer)

    def settle(self) -> None:
        """Wait until what was begun is on disk.

        Raises:
            InfrastructureError, CheckpointError: it could not be written.
        """
        begun, self._open = self._open, None
        if begun is not None:
            begun.result()

    def close(self) -> None:
        """Let the thread end after what it was given.

        Raises:
            InfrastructureError, CheckpointError: that could not be written.
        """
        self._pool.shutdown(wait=True)
        self.settle()
