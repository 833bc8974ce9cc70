"""The control API of a run that is being driven: a server thread on loopback, and the two files that lead to it.

Entered by the driver around a run. `control.json` says where it listens, `control.token` (mode 0600) is the secret that
every request must bring; both are gone when it ends. It changes nothing of the run by itself: changes go to the desk.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from burnish.platform.console import note
from burnish.platform.control_app import Desk, Workers, make_app
from burnish.platform.control_guard import Guard
from burnish.platform.control_schema import ADDRESS, TOKEN
from burnish.platform.runs import write_json

HOST = "127.0.0.1"
START_SECONDS = 10.0
"""How long the server's thread may take to listen, and to end."""


@contextmanager
def control_server(
    run_path: Path, desk: Desk, workers: Workers | None = None, *, warn: Callable[[str], None] = note
) -> Iterator[str]:
    """Serve the control API while the block runs; gives its address, "" where it could not start.

    A run never ends for its control API: what goes wrong is a line of `warn`. The caller holds the run's lock, so files
    of an earlier driver are stale and are replaced.

    Args:
        run_path: the run's directory.
        desk: where changes are handed in; called from the server's thread.
        workers: where sizes of pools are handed in, likewise.
        warn: gets a line for people.
    """
    server = None
    try:
        server = _start(run_path, make_app(desk, workers), warn)
        url = server.url
    except Exception as error:  # no control API is better than no run
        warn(f"the control API did not start, `burnish rewards` and `burnish workers` cannot reach this run: {error}")
        url = ""
    try:
        yield url
    finally:
        if server is not None:
            _forget(run_path)
            server.stop()


class _Server:
    """uvicorn in a daemon thread; signals stay the driver's."""

    def __init__(self, app: Any) -> None:
        import uvicorn

        # The protocol is named, else asyncio leaves Nagle's delay of 40 ms on every answer.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.bind((HOST, 0))
        self.url = f"http://{HOST}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=32,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"no server after {START_SECONDS:.0f} s")
            time.sleep(0.01)

    def stop(self) -> None:
        """End the thread; what is being answered has a second."""
        self._server.should_exit = True
        self._thread.join(START_SECONDS)
        self._socket.close()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])


def _start(run_path: Path, app: Any, warn: Callable[[str], None]) -> _Server:
    token = secrets.token_urlsafe(32)
    server = _Server(Guard(app, token, warn=warn))
    try:
        _write_token(run_path / TOKEN, token)
        write_json(run_path / ADDRESS, {"url": server.url, "pid": os.getpid(), "host": socket.gethostname()})
    except BaseException:
        server.stop()
        _forget(run_path)
        raise
    return server


def _write_token(path: Path, token: str) -> None:
    """A new file that only this user can read, whatever the umask and whatever lay there before."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        os.fchmod(handle, 0o600)
        os.write(handle, token.encode())
    finally:
        os.close(handle)


def _forget(run_path: Path) -> None:
    for name in (ADDRESS, TOKEN):
        (run_path / name).unlink(missing_ok=True)
