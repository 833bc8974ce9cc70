"""The run store: one directory a run, its run.json, and the lock that lets one driver in.

Called by the training loop, the command line and whoever needs a run by its id. It knows nothing of checkpoints or
training; it never touches a path outside its root (ids are checked).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from burnish.data.errors import ConfigError, InfrastructureError, Problem
from burnish.platform.locks import RunLock, RunLockedError

FORMAT_VERSION = 1
CONFIG = "config.yaml"
"""The run's recipe, written last of what a new run is made of."""
PINS = "pins.json"
STATUSES = ("running", "done", "failed", "interrupted", "paused")
MAX_ID = 64
_ID = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{MAX_ID - 1}}}")


@dataclass(frozen=True)
class RunInfo:
    """What run.json holds.

    Args:
        id: recipe, seed, UTC seconds, four hex digits.
        recipe: the recipe's name.
        seed: the run's seed.
        status: one of STATUSES; "running" with a dead driver is an unfinished run.
        created: UTC, ISO 8601, seconds.
        host, pid: the latest driver.
        config_digest: digest of the recipe (see `config.py`).
        versions: package -> version, python, CPU, ATen CPU capability, thread count.
        mlflow_run_id: kept across resumes, None before tracking began.
        error: why the run failed, in one line.
        stages: what it was asked to run.
        reproducible: False once it went on with another recipe or on another kind of machine.
        start_from: the run whose base was copied, None = the run made its own.
        format_version: newer ones are refused.
    """

    id: str
    recipe: str
    seed: int
    status: str = "running"
    created: str = ""
    host: str = ""
    pid: int = 0
    config_digest: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    mlflow_run_id: str | None = None
    error: str | None = None
    start_from: str | None = None
    stages: Sequence[str] = ()
    reproducible: bool = True
    format_version: int = FORMAT_VERSION


class Run:
    """One run directory; `path` is where everything of the run goes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mutex = threading.Lock()

    @property
    def id(self) -> str:
        """The run's id, its directory's name."""
        return self.path.name

    @property
    def info(self) -> RunInfo:
        """run.json as it stands on disk.

        Raises:
            ConfigError: missing, unreadable or written by a newer burnish.
        """
        return _read_info(self.path / "run.json")

    def update(self, **changes: Any) -> RunInfo:
        """Change fields of run.json in one atomic step; safe from several threads of the driver."""
        with self._mutex:
            info = replace(self.info, **changes)
            if info.status not in STATUSES:
                raise ValueError(f"status must be one of {STATUSES}, got {info.status!r}")
            write_json(self.path / "run.json", asdict(info))
        return info

    def pins(self) -> set[str]:
        """Names of commits that nothing prunes, because somebody said so."""
        try:
            return set(json.loads((self.path / PINS).read_text()))
        except FileNotFoundError:
            return set()
        except ValueError as error:
            raise ConfigError("pins not readable", [Problem(str(self.path / PINS), str(error), "a list")]) from error

    def pin(self, commit: str, *, remove: bool = False) -> None:
        """Keep a commit of the GRPO stage whatever its age, or no longer.

        Raises:
            ConfigError: there is no such commit, or no such pin.
        """
        here = self.path / "stages" / "grpo" / "checkpoints"
        known = self.pins() if remove else {path.name for path in here.glob("step-*")}
        if commit not in known:
            allowed = ", ".join(sorted(known)) or "none: there is nothing yet"
            raise ConfigError(f"not {'pinned' if remove else 'a commit'}", [Problem("COMMIT", commit, allowed)])
        write_json(self.path / PINS, sorted(self.pins() - {commit} if remove else self.pins() | {commit}))

    def start(self) -> RunInfo:
        """Note that this process drives the run now; call it under the lock."""
        return self.update(status="running", host=socket.gethostname(), pid=os.getpid(), error=None)

    def lock(self) -> RunLock:
        """The exclusive lock of a driver, as a context manager (see `locks.py`)."""
        return RunLock(self.path)


class RunStore:
    """All runs below one root directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def create(
        self, recipe: str, seed: int, *, config_digest: str = "", versions: Mapping[str, str] | None = None
    ) -> Run:
        """Make a new run directory with its run.json.

        Raises:
            InfrastructureError: the directory cannot be made.
        """
        now = time.gmtime()
        try:
            path = self._fresh_directory(recipe, seed, now)
            created = time.strftime("%Y-%m-%dT%H:%M:%SZ", now)
            host, pid = socket.gethostname(), os.getpid()
            info = RunInfo(path.name, recipe, seed, "running", created, host, pid, config_digest, dict(versions or {}))
            write_json(path / "run.json", asdict(info))
        except OSError as error:
            raise InfrastructureError(f"could not make a run in {self.root}: {error}") from error
        return Run(path)

    def open(self, run_id: str) -> Run:
        """An existing run.

        Raises:
            ConfigError: a bad id, or no such run.
        """
        path = self.root / check_run_id(run_id)
        if path.is_symlink() or not (path / "run.json").is_file():
            known = ", ".join(info.id for info in self.infos()[-5:]) or "no run yet"
            raise ConfigError("run not found", [Problem("RUN", run_id, f"a run in {self.root}: {known}")])
        return Run(path)

    def infos(self) -> list[RunInfo]:
        """Every readable run, oldest first; directories that are no runs are passed over."""
        infos = []
        for path in self.root.iterdir() if self.root.is_dir() else ():
            if _ID.fullmatch(path.name) and not path.is_symlink() and (path / "run.json").is_file():
                try:
                    infos.append(_read_info(path / "run.json"))
                except ConfigError:
                    continue
        return sorted(infos, key=lambda info: (info.created, info.id))

    def latest_unfinished(self, recipe: str | None = None, seed: int | None = None) -> Run | None:
        """The newest run that is not done and that no live driver holds, for `--resume auto`; None if there is none."""
        for info in reversed(self.infos()):
            fits = recipe in (None, info.recipe) and seed in (None, info.seed)
            whole = (self.root / info.id / CONFIG).is_file()  # else it never began
            if fits and whole and info.status != "done" and not self.open(info.id).lock().held_elsewhere():
                return self.open(info.id)
        return None

    def prune(self, keep_last: int, keep: frozenset[str] | set[str] = frozenset()) -> list[str]:
        """Delete the oldest runs beyond `keep_last`; runs in `keep` or with a live driver stay. Returns the ids."""
        if keep_last < 1:
            raise ConfigError("prune refused", [Problem("keep_last", str(keep_last), ">= 1")])
        removed = []
        for info in self.infos()[:-keep_last]:
            if info.id not in keep and self._remove(info.id):
                removed.append(info.id)
        return removed

    def _remove(self, run_id: str) -> bool:
        """Delete one run unless a driver holds it."""
        run = self.open(run_id)
        try:
            with run.lock():
                grave = run.path.with_name(f".gone-{run_id}")
                shutil.rmtree(grave, ignore_errors=True)
                run.path.rename(grave)
        except RunLockedError:
            return False
        shutil.rmtree(grave, ignore_errors=True)
        return True

    def _fresh_directory(self, recipe: str, seed: int, now: time.struct_time) -> Path:
        stamp = f"-{seed}-{time.strftime('%Y%m%d%H%M%S', now)}-"
        room = MAX_ID - len(stamp) - 4
        name = re.sub(r"[^a-z0-9._-]+", "-", recipe.lower()).strip("-._")[:room].rstrip("-._") or "run"
        while True:
            unique = hashlib.blake2b(f"{os.getpid()}:{time.time_ns()}".encode(), digest_size=2).hexdigest()
            path = self.root / check_run_id(f"{name}{stamp}{unique}")
            try:
                path.mkdir(parents=True)
                return path
            except FileExistsError:
                continue


def check_run_id(run_id: str) -> str:
    """The id itself if it is `[a-z0-9][a-z0-9._-]{0,63}`.

    Raises:
        ConfigError: anything else, a path above all.
    """
    if not _ID.fullmatch(run_id):
        raise ConfigError("run id refused", [Problem("RUN", repr(run_id), _ID.pattern)])
    return run_id


def write_json(path: Path, tree: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write a JSON file so that a kill leaves the old or the new one."""
    write_text(path, json.dumps(tree, indent=1, sort_keys=True) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a kill leaves the old or the new one."""
    aside = path.with_name(f".tmp-{path.name}-{os.getpid()}-{threading.get_ident()}")
    try:
        with aside.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _read_info(path: Path) -> RunInfo:
    try:
        tree = json.loads(path.read_bytes())
        if tree["format_version"] > FORMAT_VERSION:
            got = str(tree["format_version"])
            raise ConfigError("run too new", [Problem(str(path), got, f"format_version <= {FORMAT_VERSION}")])
        return RunInfo(**tree)
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError("run not readable", [Problem(str(path), str(error), "a run.json")]) from error
