"""The server in one process, without Ray: uvicorn in a thread, the engine beside it. For tests and small machines."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

from burnish.data.errors import InfrastructureError
from burnish.serve.backend import LocalBackend
from burnish.serve.door import Door, tokens_of
from burnish.serve.engine import Engine
from burnish.serve.store import ServeConfig

START_SECONDS = 30.0


def local_door(config: ServeConfig) -> Door:
    """The application with an engine in its own process."""
    return Door(config, lambda: LocalBackend(Engine(batch=config.batch)))


def local_server(config: ServeConfig, *, host: str, port: int) -> Callable[[], None]:
    """Serve in a daemon thread; gives the function that drains and ends it.

    Raises:
        InfrastructureError: the port is taken, or the server does not come up.
        ConfigError: as `tokens_of`.
    """
    import uvicorn

    tokens_of(config)  # uvicorn would take a door that does not open for one without a lifespan
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise InfrastructureError(f"port {port} cannot be had: {error.strerror}") from error
    door = local_door(config)
    settings = uvicorn.Config(
        door, loop="asyncio", http="h11", ws="none", log_config=None, access_log=False, timeout_graceful_shutdown=30
    )
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=lambda: server.run(sockets=[listening]), name="serve", daemon=True)
    thread.start()
    deadline = time.monotonic() + START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise InfrastructureError("the server did not start")
        time.sleep(0.02)

    def stop() -> None:
        if door.service is not None:
            door.service.draining = True
        server.should_exit = True
        thread.join(40.0)
        listening.close()

    return stop
