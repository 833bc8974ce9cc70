"""Where roles run: the local Ray of a laptop, or the cluster that RAY_ADDRESS names.

On a laptop CPUs are logical: Ray is told of as many as the roles ask for, so that nothing waits for a place. A cluster
is asked first whether it can hold the roles. Ray's flags are set before the first `import ray`.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import sys
import threading
import time
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from burnish.data.errors import ConfigError, InfrastructureError
from burnish.platform.console import note
from burnish.platform.executor import Executor, Role
from burnish.platform.feasibility import shortfall
from burnish.platform.sections import ClusterConfig

_FLAGS = {
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    "RAY_DEDUP_LOGS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "burnish.serve.proxy.middlewares",
}
ATTEMPTS = 4
ADDRESS = "RAY_ADDRESS"
"""The variable that names the cluster to join, as Ray's own tools read it; without it a run has a Ray of its own."""
JOIN_SECONDS = 120.0
"""How long joining a cluster may take: against a head that is half dead Ray itself waits for ever."""
GONE_SECONDS = 10.0
"""How long the processes of a Ray of our own may take to end by themselves."""
LOOK_SECONDS, TELL_SECONDS = 1.0, 20.0
"""Between two looks at the nodes of a cluster that is not whole yet, and between two tellings of it."""
USUAL = ClusterConfig()
"""What a run puts up with where no recipe says otherwise."""
SPARE = 8
"""Logical CPUs kept for rewards that are loaded beside a run."""


def set_flags(environ: MutableMapping[str, str] = os.environ, *, imported: bool = False) -> None:
    """Environment of a Ray that burnish starts or joins: no usage statistics, no second environment, token required.

    A Ray of our own gets a token of its own. A cluster has one already, which Ray finds in RAY_AUTH_TOKEN, in the file
    that RAY_AUTH_TOKEN_PATH names, or in ~/.ray/auth_token; a token made here would hide it. A Ray that is imported
    already has read its mode: it then turns the token on by itself, and would be at odds with a variable set now.
    """
    for name, value in _FLAGS.items():
        environ.setdefault(name, value)
    if not imported:
        environ.setdefault("RAY_AUTH_MODE", "token")
    if environ.get("RAY_AUTH_MODE", "token") == "token" and environ.get(ADDRESS, "local") == "local":
        environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def num_cpus(roles: Sequence[Role]) -> int:
    """CPUs that the local Ray is told of: what the machine has or the roles ask for, and room for candidates."""
    asked = sum(role.count * max(1.0, role.num_cpus) for role in roles)
    return max(os.cpu_count() or 1, math.ceil(asked)) + SPARE


@contextmanager
def local_ray(roles: Sequence[Role], cluster: ClusterConfig = USUAL) -> Iterator[None]:
    """A Ray for the length of a run: a cluster's where RAY_ADDRESS is set, else one of our own.

    An already initialised one is used and left alone.

    Raises:
        ConfigError: the cluster cannot hold the roles.
        InfrastructureError: Ray did not come up in several attempts, or the cluster does not answer.
    """
    set_flags(imported="ray" in sys.modules)
    import ray

    if ray.is_initialized():
        yield
        return
    _reports_to_stderr()
    address = os.environ.get(ADDRESS, "local")
    others = psutil.Process().children(recursive=True)
    if address == "local":
        _start(num_cpus(roles))
    else:
        _join(address)
    try:
        require_places(roles, cluster if address != "local" else USUAL)
        yield
    finally:
        started = set(psutil.Process().children(recursive=True)) - set(others)
        ray.shutdown()
        _wait_until_gone(list(started))


def _reports_to_stderr() -> None:
    """Send what Ray's daemons report to standard error: Ray prints it, amid the lines of `--json`, to standard output.

    Ray has no public call for it; without the private one its reports stay where they were.
    """
    from ray._private import worker

    show = getattr(worker, "print_to_stdstream", None)
    if show is None or getattr(show, "__name__", "") == "to_stderr":
        return

    def to_stderr(data: dict[str, Any], *args: Any, **options: Any) -> None:
        show({**data, "is_err": True}, *args, **options)

    worker.print_to_stdstream = to_stderr


def _wait_until_gone(started: Sequence[psutil.Process]) -> None:
    """Wait for the processes of a Ray of our own, which end one after another; of a cluster's there are none."""
    for process in psutil.wait_procs(started, timeout=GONE_SECONDS)[1]:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def require_places(roles: Sequence[Role], cluster: ClusterConfig) -> None:
    """Refuse roles that the cluster, or this machine, can never hold, before anything is asked of it.

    Nodes that a launcher has not started yet are waited for where the recipe says so, and the wait is told.

    Raises:
        ConfigError: what is missing, role by role.
    """
    deadline, told = time.monotonic() + cluster.wait_for_nodes, -TELL_SECONDS
    while problems := shortfall(roles, _nodes(), growing=cluster.autoscaled):
        now = time.monotonic()
        if now >= deadline:
            raise ConfigError("the cluster cannot hold these roles", problems)
        if now - told >= TELL_SECONDS:
            told = now
            for problem in problems:
                note(f"waiting for nodes, {deadline - now:.0f} s at most: {problem}")
        time.sleep(min(LOOK_SECONDS, deadline - now))


def _nodes() -> list[dict[str, float]]:
    import ray

    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def _join(address: str) -> None:
    """Connect to a cluster, or give up after JOIN_SECONDS.

    Raises:
        InfrastructureError: it does not answer, or refuses.
    """
    import ray

    failed: list[Exception] = []

    def connect() -> None:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # ConnectionError, ValueError, RuntimeError: each version its own
            failed.append(error)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(JOIN_SECONDS)
    if thread.is_alive() or failed:
        why = str(failed[0]).splitlines()[0] if failed else f"no answer within {JOIN_SECONDS:.0f} s"
        hint = "is the cluster's token in RAY_AUTH_TOKEN or ~/.ray/auth_token, and RAY_AUTH_MODE the cluster's?"
        raise InfrastructureError(f"could not join the cluster at {address}: {why} ({hint})")


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
def executor(kind: str, roles: Sequence[Role], cluster: ClusterConfig = USUAL) -> Iterator[Executor]:
    """The executor a run was asked for, its roles started; closed on the way out.

    Args:
        kind: "local" or "ray".
        roles: what it runs.
        cluster: what the run puts up with, and whether nodes are yet to come.
    """
    if kind == "local":
        from burnish.platform.local import LocalExecutor

        chosen: Executor = LocalExecutor()
        yield from _serve(chosen, roles)
        return
    with local_ray(roles, cluster):
        from burnish.platform.cluster import RayExecutor

        yield from _serve(RayExecutor(budget=cluster.resend_budget), roles)


def _serve(chosen: Executor, roles: Sequence[Role]) -> Iterator[Executor]:
    for role in roles:
        chosen.start(role)
    try:
        yield chosen
    finally:
        chosen.close()
