"""One driver a run directory: an exclusive flock with the holder's host and pid beside it.

Called through `Run.lock()`. The kernel drops the lock when its holder dies. What a dead driver's orphans may still hold
is taken over once its pid is gone on this host. Every look and change happens under a second, short-lived lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from burnish.data.errors import InfrastructureError

GUARD_SECONDS = 1.5
"""How long to wait for another process that is just looking at the lock."""


@dataclass(frozen=True)
class Holder:
    """Who holds a run."""

    host: str
    pid: int

    @property
    def is_dead(self) -> bool:
        """True if the holder's pid is known to be gone: only a process of this host can be judged."""
        if self.host != socket.gethostname() or self.pid <= 0:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


class RunLockedError(InfrastructureError):
    """Another driver is at work in the run directory."""


class RunLock:
    """Context manager: enter = hold the run, leave = let go.

    Args:
        directory: the run directory; files `lock` and `.lock-guard` are made in it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / "lock"
        self._handle: int | None = None

    def acquire(self) -> None:
        """Take the lock or fail within two seconds.

        Raises:
            RunLockedError: naming the holder's host and pid.
        """
        with self._guard():
            self._handle = self._try()
            if self._handle is None and (holder := self._holder()) is not None and holder.is_dead:
                self._path.unlink(missing_ok=True)
                self._handle = self._try()
            if self._handle is None:
                raise RunLockedError(self._refusal())
            entry = json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode()
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, entry, 0)

    def release(self) -> None:
        """Let go; harmless if not held."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def held_elsewhere(self) -> bool:
        """True if another driver is at work here now; takes nothing."""
        try:
            self.acquire()
        except RunLockedError:
            return True
        self.release()
        return False

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _try(self) -> int | None:
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        return handle

    def _holder(self) -> Holder | None:
        try:
            tree = json.loads(self._path.read_bytes())
            return Holder(str(tree["host"]), int(tree["pid"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _refusal(self) -> str:
        holder = self._holder()
        who = f"process {holder.pid} on {holder.host}" if holder else "another process"
        return f"run {self._directory.name} is being driven by {who}; wait for it, or end it and use --resume"

    @contextmanager
    def _guard(self) -> Iterator[None]:
        handle = os.open(self._directory / ".lock-guard", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            deadline = time.monotonic() + GUARD_SECONDS
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise RunLockedError(self._refusal()) from None
                    time.sleep(0.02)
            yield
        finally:
            os.close(handle)
