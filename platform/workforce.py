"""How many workers a run has, and how many somebody wants: handed in while it goes on, obeyed between two iterations.

The control API's thread hands in; the training loop obeys. How many workers there are changes the speed and no byte, so
nothing of it is journalled.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from burnish.data.errors import ConfigError, Problem
from burnish.platform.executor import Executor

ROLES = ("rollout", "reward")
"""Pools that may change their size; the learner's ranks hold state together, so a resume changes those."""
MOST = 4096


class Workforce:
    """Thread-safe: one thread hands in and reads, another obeys.

    Args:
        tell: gets a line for people when sizes change.
    """

    def __init__(self, tell: Callable[[str], None] = lambda line: None) -> None:
        self._tell, self._lock = tell, threading.Lock()
        self._wanted: dict[str, int] = {}
        self._pending: dict[str, int] = {}
        self._working: dict[str, int] = {}

    def ask(self, wanted: Mapping[str, object]) -> dict[str, dict[str, int]]:
        """Want other sizes; returns `status`.

        Args:
            wanted: "rollout" and "reward" -> number of workers.

        Raises:
            ConfigError: an unknown role or no such number; every problem.
        """
        problems = [
            Problem(str(role)[:64], repr(count)[:64], f"{' or '.join(ROLES)}: 1 … {MOST}")
            for role, count in wanted.items()
            if role not in ROLES or isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST
        ]
        if not wanted:
            problems = [Problem("workers", "nothing", f"{' or '.join(ROLES)}: 1 … {MOST}")]
        with self._lock:
            for role in wanted if not problems else ():
                if role not in self._working:
                    problems.append(
                        Problem(role, "no such pool in this run now", ", ".join(self._working) or "none yet")
                    )
            if problems:
                raise ConfigError("the change is refused", problems)
            self._pending |= {role: int(str(count)) for role, count in wanted.items()}
        return self.status()

    def status(self) -> dict[str, dict[str, int]]:
        """Role -> {"working": take calls now, "wanted": asked for}."""
        with self._lock:
            wanted = self._working | self._wanted | self._pending
            return {r: {"working": count, "wanted": wanted[r]} for r, count in sorted(self._working.items())}

    def obey(self, executor: Executor) -> None:
        """Between two iterations: bring the executor to the wanted sizes. Nothing is waited for and no call is lost."""
        with self._lock:
            pending, self._pending = self._pending, {}
            self._wanted |= pending
        for role, count in pending.items():
            executor.resize(role, count)
            self._tell(f"{role} workers: {count} from now on")
        sizes = executor.sizes()
        with self._lock:
            self._working = {role: sizes[role] for role in ROLES if role in sizes}
