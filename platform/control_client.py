"""Talk to the control API of a run that is being driven on this machine.

Called by `burnish rewards …`. It reads where the API listens and its token from the run directory, and turns every
answer into values or a `BurnishError`. It retries nothing that changes the run.
"""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import time
from collections.abc import Callable, Mapping
from typing import Any

import requests

from burnish.data.errors import BurnishError, ConfigError, InfrastructureError, Problem
from burnish.platform.control_schema import ADDRESS, TOKEN
from burnish.platform.rewards_view import FINAL
from burnish.platform.runs import Run

CONNECT_SECONDS, READ_SECONDS = 2.0, 10.0
PATIENCE = 60.0
"""Seconds that a driver may be too busy to answer while its change is being waited for."""
POLL_SECONDS = 0.2
_URL = re.compile(r"http://127\.0\.0\.1:[0-9]{1,5}")


class NotDriven(InfrastructureError):
    """Nobody drives the run now, so there is nobody to talk to."""


class Busy(InfrastructureError):
    """The driver listens and did not answer in time."""


class ControlClient:
    """The control API of one run.

    Args:
        run: the run.

    Raises:
        NotDriven: the run has no driver now, or none on this machine.
        ConfigError: others may read the token.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._url = _address(run)
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy, no .netrc: the token goes to this machine and nowhere else
        self._session.headers["Authorization"] = f"Bearer {_token(run)}"

    def status(self) -> dict[str, Any]:
        """Rubric, rewards, shadows and changes as they are now.

        Raises:
            InfrastructureError: no answer.
        """
        return self._ask("GET", "/v1/rewards")

    def submit(self, change: Mapping[str, Any]) -> str:
        """Hand in a change (fields of `changes.Change`); returns its id.

        Raises:
            ConfigError: it is refused; every problem.
            InfrastructureError: no answer.
        """
        try:
            body = json.dumps(dict(change), allow_nan=False)
        except ValueError:
            problem = Problem("change", "NaN or infinity", "finite numbers")
            raise ConfigError("the change is refused", [problem]) from None
        return str(self._ask("POST", "/v1/rewards/changes", body)["id"])

    def change(self, change_id: str) -> dict[str, Any]:
        """How far a change got.

        Raises:
            InfrastructureError: no answer, or the driver does not know the id.
        """
        return self._ask("GET", f"/v1/rewards/changes/{change_id}")

    def wait(self, change_id: str, tell: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
        """Wait until a change is active or refused.

        Args:
            change_id: which one.
            tell: called with the change each time its state is another one.

        Raises:
            InfrastructureError: the driver ended, or did not answer for a minute.
        """
        state, heard = "", time.monotonic()
        while True:
            try:
                found = self.change(change_id)
            except Busy:
                if time.monotonic() - heard > PATIENCE:
                    raise
                continue
            heard = time.monotonic()
            if found["state"] != state:
                state = str(found["state"])
                tell(found)
            if state in FINAL:
                return found
            time.sleep(POLL_SECONDS)

    def workers(self, wanted: Mapping[str, int] | None = None) -> dict[str, Any]:
        """Role -> {"working", "wanted"}; with `wanted` it is asked for first.

        Raises:
            ConfigError: it is refused; every problem.
            InfrastructureError: no answer.
        """
        if not wanted:
            return self._ask("GET", "/v1/workers")
        return self._ask("POST", "/v1/workers", json.dumps(dict(wanted)))

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _ask(self, method: str, path: str, body: str | None = None) -> dict[str, Any]:
        try:
            reply = self._session.request(
                method,
                self._url + path,
                data=body,
                headers={} if body is None else {"Content-Type": "application/json"},
                timeout=(CONNECT_SECONDS, READ_SECONDS),
                allow_redirects=False,
            )
        except requests.ReadTimeout as error:
            raise Busy(f"run {self._run.id} did not answer within {READ_SECONDS:.0f} s") from error
        except requests.RequestException as error:
            raise not_driven(self._run) from error
        try:
            tree = reply.json()
        except ValueError:
            tree = None
        if not isinstance(tree, dict):
            raise InfrastructureError(f"what listens at {self._url} is not run {self._run.id}: no JSON")
        if reply.ok:
            return tree
        raise _error(reply.status_code, tree)


def not_driven(run: Run) -> NotDriven:
    """The error for a run that cannot be reached; says why, as far as it can be known."""
    if run.lock().held_elsewhere():
        found = _read_address(run)
        host = str(found.get("host", ""))
        if host and host != socket.gethostname():
            return NotDriven(f"run {run.id} is being driven on {host}: type the command there")
        return NotDriven(
            f"run {run.id} is being driven, but no control API answers: rewards.control is off, or its output says why"
        )
    return NotDriven(f"run {run.id} is not being driven now; go on with: burnish train --resume {run.id}")


def _address(run: Run) -> str:
    found = _read_address(run)
    if found.get("host") != socket.gethostname() or not _URL.fullmatch(str(found.get("url"))):
        raise not_driven(run)
    return str(found["url"])


def _read_address(run: Run) -> dict[str, Any]:
    try:
        tree = json.loads((run.path / ADDRESS).read_bytes())
    except (OSError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}


def _token(run: Run) -> str:
    """The secret, from a plain file of this user that nobody else can read."""
    path = run.path / TOKEN
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        raise not_driven(run) from None
    except OSError as error:
        raise ConfigError(
            "cannot read the token", [Problem(str(path), error.strerror or "", "a file of yours")]
        ) from None
    with os.fdopen(handle) as stream:
        info = os.fstat(handle)
        if not stat.S_ISREG(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o077:
            got = f"{stat.filemode(info.st_mode)} of user {info.st_uid}"
            allowed = f"-rw------- of user {os.geteuid()}"
            hint = "others may know the token: end the run and resume it"
            raise ConfigError("the token is not trusted", [Problem(str(path), got, allowed, hint)])
        return stream.read(256).strip()


def _error(status: int, tree: Mapping[str, Any]) -> BurnishError:
    entry = tree.get("error")
    entry = entry if isinstance(entry, Mapping) else {}
    message = str(entry.get("message") or f"status {status}")
    problems = [
        Problem(*(str(problem.get(name, "")) for name in ("field", "got", "allowed", "hint")))
        for problem in entry.get("problems", ())
        if isinstance(problem, Mapping)
    ]
    kind = ConfigError if status in (400, 409, 413, 415, 422) else InfrastructureError
    return kind(message, problems)
