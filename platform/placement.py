"""Where roles run: the local Ray of a laptop, or a cluster that is already there.

On a laptop CPUs are logical: Ray is told of as many as the roles ask for, so that nothing waits for a place. Its flags
are set before the first `import ray`.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from burnish.data.errors import InfrastructureError
from burnish.platform.console import note
from burnish.platform.executor import Executor, Role

_FLAGS = {
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    "RAY_DEDUP_LOGS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "burnish.serve.proxy.middlewares",
}
ATTEMPTS = 4
SPARE = 8
"""Logical CPUs kept for rewards that are loaded beside a run."""


def set_flags() -> None:
    """Environment of a Ray that burnish starts: no usage statistics, no second environment, token required."""
    for name, value in _FLAGS.items():
        os.environ.setdefault(name, value)
    if os.environ.setdefault("RAY_AUTH_MODE", "token") == "token":
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def num_cpus(roles: Sequence[Role]) -> int:
    """CPUs that the local Ray is told of: what the machine has or the roles ask for, and room for candidates."""
    asked = sum(role.count * max(1.0, role.num_cpus) for role in roles)
    return max(os.cpu_count() or 1, math.ceil(asked)) + SPARE


@contextmanager
def local_ray(roles: Sequence[Role]) -> Iterator[None]:
    """A Ray of our own for the length of a run; an already initialised one is used and left alone.

    Raises:
        InfrastructureError: Ray did not come up in several attempts.
    """
    set_flags()
    import ray

    if ray.is_initialized():
        yield
        return
    _start(num_cpus(roles))
    try:
        yield
    finally:
        ray.shutdown()


def _start(cpus: int) -> None:
    import ray

    for attempt in range(1, ATTEMPTS + 1):
        try:
            ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
            return
        except Exception as error:  # ray raises a bare Exception when a node times out during start-up
            ray.shutdown()
            note(f"Ray did not start (attempt {attempt} of {ATTEMPTS}): {str(error).splitlines()[0]}")
            time.sleep(attempt)
    raise InfrastructureError(f"Ray did not start in {ATTEMPTS} attempts; `burnish doctor` shows the machine's state")


@contextmanager
def executor(kind: str, roles: Sequence[Role]) -> Iterator[Executor]:
    """The executor a run was asked for, its roles started; closed on the way out."""
    if kind == "local":
        from burnish.platform.local import LocalExecutor

        chosen: Executor = LocalExecutor()
        yield from _serve(chosen, roles)
        return
    with local_ray(roles):
        from burnish.platform.cluster import RayExecutor

        yield from _serve(RayExecutor(), roles)


def _serve(chosen: Executor, roles: Sequence[Role]) -> Iterator[Executor]:
    for role in roles:
        chosen.start(role)
    try:
        yield chosen
    finally:
        chosen.close()
