"""Where changes of the rubric are handed in while a run goes on, and where their state can be read.

The control API's thread hands in; the training loop takes out, between iterations. It lives as long as the driver, so
a change survives a learner that had to be rebuilt. It never touches a reward.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from burnish.data.errors import ConfigError, Problem
from burnish.platform.changes import Change
from burnish.platform.rubric_edits import edited
from burnish.platform.rubric_log import RubricLog

FINAL = ("active", "refused")
"""States that a change does not leave."""


@dataclass
class Request:
    """A change and how far it got.

    Args:
        id: its name in the API.
        change: what was asked for.
        requested: UTC time.
        state: queued, preparing, shadowing, active or refused.
        reason: why it was refused.
        iteration: the first iteration it holds for, once that is known.
    """

    id: str
    change: Change
    requested: str
    state: str = "queued"
    reason: str = ""
    iteration: int | None = None

    def to_json(self) -> dict[str, Any]:
        """For the API and the journal."""
        return {**{k: v for k, v in vars(self).items() if k != "change"}, **self.change.to_json()}


class RewardDesk:
    """Thread-safe: one thread hands in and reads, another takes out and reports.

    Args:
        run_id: named in every status.
        closed: why nothing can be handed in, "" = open.
    """

    def __init__(self, run_id: str, *, closed: str = "") -> None:
        self._run_id, self._closed = run_id, closed
        self._requests: dict[str, Request] = {}
        self._log: RubricLog | None = None
        self._iteration = 0
        self._lock = threading.Lock()

    def submit(self, change: Change) -> str:
        """Hand in a change; returns its id.

        Raises:
            ConfigError: it does not fit the present rubric, or the run takes none. The run goes on undisturbed.
        """
        with self._lock:
            if self._closed:
                raise ConfigError("the change is refused", [Problem("run", self._run_id, self._closed)])
            # Behind an unfinished change the rubric is not known yet: this one is then checked when its turn comes.
            if self._log is not None and all(r.state in FINAL for r in self._requests.values()):
                edited(self._log, change)
            request = Request(secrets.token_hex(4), change, datetime.now(UTC).isoformat(timespec="seconds"))
            self._requests[request.id] = request
            return request.id

    def status(self) -> Mapping[str, Any]:
        """The rubric that holds now, what is shadowed, and all changes: JSON."""
        with self._lock:
            state = None if self._log is None else self._log.at(self._iteration)
            return {
                "run": self._run_id,
                "iteration": self._iteration,
                "rubric": None if state is None else vars(state.rubric),
                "rewards": []
                if state is None
                else [
                    _reward(spec, version, "active", self._iteration)
                    for spec, version in zip(state.config.rewards, state.rewards, strict=True)
                ],
                "shadows": []
                if state is None
                else [
                    {**_reward(s.spec, s.version, "shadow", self._iteration), "against": s.against}
                    for s in state.shadows
                ],
                "changes": [request.to_json() for request in self._requests.values()],
            }

    def change(self, change_id: str) -> Mapping[str, Any] | None:
        """One change, None if there is no such id."""
        with self._lock:
            request = self._requests.get(change_id)
            return None if request is None else request.to_json()

    def publish(self, log: RubricLog, iteration: int) -> None:
        """The loop says where it stands."""
        with self._lock:
            self._log, self._iteration = RubricLog(list(log.states), log.required), iteration

    def take(self, ready: Callable[[Change], bool] = lambda change: True) -> Request | None:
        """The oldest change that nobody has begun, of those that can begin now."""
        with self._lock:
            return next((r for r in self._requests.values() if r.state == "queued" and ready(r.change)), None)

    def report(self, request: Request, state: str, *, reason: str = "", iteration: int | None = None) -> None:
        """The loop says how far a change got."""
        with self._lock:
            request.state, request.reason = state, reason
            request.iteration = request.iteration if iteration is None else iteration

    def close(self, reason: str) -> list[Request]:
        """Take nothing more; returns what was not brought to its end."""
        with self._lock:
            self._closed = reason
            return [r for r in self._requests.values() if r.state not in FINAL]

    def adopt(self, request: Request) -> None:
        """A change that an earlier driver had begun."""
        with self._lock:
            self._requests[request.id] = request

    def find(self, change_id: str) -> Request | None:
        """The request itself, for the loop."""
        with self._lock:
            return self._requests.get(change_id)

    def again(self) -> None:
        """What was being prepared is queued again: the stage begins anew."""
        with self._lock:
            for request in self._requests.values():
                if request.state == "preparing":
                    request.state = "queued"


def _reward(spec: Any, version: Any, state: str, iteration: int) -> dict[str, Any]:
    found = {"name": spec.name, "kind": spec.kind, "weight": spec.weight_at(iteration), "gold": spec.gold}
    return {**found, "version": version.version, "digest": version.digest, "state": state}
