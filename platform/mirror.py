"""A run's second home: each commit goes to an object store in the background.

The ledger says that something was committed; a thread uploads what is new and then writes the numbered commit that
names it all (see `bucket.py`). The store must answer when a run starts; after that training never waits for it, and
fails only where another copy went on with the same run. `restoring.py` brings a run back.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from burnish.data.errors import BurnishError, CheckpointError, InfrastructureError, Problem, RefusedError
from burnish.platform.bucket import Bucket, Commit, TakenError
from burnish.platform.control_schema import ADDRESS, TOKEN
from burnish.platform.failpoints import fail_point
from burnish.platform.manifest import MANIFEST, FileEntry, NewerFormatError, read_manifest, sha256_of
from burnish.platform.runs import Run, write_json
from burnish.platform.sections import CheckpointConfig

KEEP_LAST = 2
STATE = ".mirror.json"
RETRY_SECONDS = 2.0
CLOSE_SECONDS = 60.0
MAX_VANISHED = 3
"""Tries in a row that may find a file pruned under them; after that it is a failure like any other."""
_OURS = frozenset({"lock", ADDRESS, TOKEN})
"""Files that mean something on this machine only."""


@dataclass(frozen=True)
class Claim:
    """Which commit of a mirror this copy of a run stands on.

    Args:
        writer: the random name of the driver that wrote last; each has its own, for a copied directory copies this too.
        number: the newest commit that it wrote or came from; 0 = none yet.
        damaged: sha256 of files that a restore found damaged in the store: they are sent anew.
    """

    writer: str
    number: int = 0
    damaged: tuple[str, ...] = ()


class NoMirror:
    """A run that stays where it is."""

    def commit(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Mirror:
    """The second home of one run, written by the driver that holds its lock.

    Args:
        bucket: the run's part of the store.
        run: what is mirrored.
        say: shows a line when the store stops answering, and another when it answers again.

    Raises:
        RefusedError: another copy of the run went on from where this one stands.
        InfrastructureError: the store cannot be reached.
    """

    def __init__(self, bucket: Bucket, run: Run, say: Callable[[str], None]) -> None:
        self._bucket, self._run, self._say = bucket, run, say
        self._claim = read_claim(run.path)
        self._check()
        self._claim = replace(self._claim, writer=secrets.token_hex(8))
        write_claim(run.path, self._claim)
        self._ask = threading.Condition()
        self._wanted = self._closing = self._failing = False
        self._vanished, self._crowded = 0, False
        self._refused: RefusedError | None = None
        self._thread = threading.Thread(target=self._serve, name="mirror", daemon=True)
        self._thread.start()

    def commit(self) -> None:
        """The run has something new; several calls before the thread comes to it count as one.

        Raises:
            RefusedError: another copy of the run went on meanwhile.
        """
        if self._refused is not None:
            raise self._refused
        with self._ask:
            self._wanted = True
            self._ask.notify()

    def close(self) -> None:
        """Send the run as it is now; says what was refused, or could not be sent within `CLOSE_SECONDS`."""
        with self._ask:
            self._wanted = self._closing = True
            self._ask.notify()
        self._thread.join(CLOSE_SECONDS)
        if self._refused is not None:
            self._say(str(self._refused))
        elif self._thread.is_alive() or self._failing:
            self._say(
                f"the mirror stands at commit {self._claim.number} and lacks the end of the run; it is whole here"
            )

    def _check(self) -> None:
        """Refuse a copy that somebody overtook; stand on what is ours, or nobody's because it cannot be read."""
        newer = [number for number in self._bucket.commits() if number > self._claim.number]
        for number in newer:
            try:
                writer = self._bucket.read(number).writer
            except NewerFormatError:
                raise
            except CheckpointError:
                continue
            if writer != self._claim.writer:
                raise _overtaken(self._run, number)
        if newer:  # the driver died, or the store's answer was lost, before it was noted
            self._stand_on(newer[-1])

    def _serve(self) -> None:
        while self._next():
            try:
                self._send()
            except RefusedError as error:
                self._refused = error
                return
            except (BurnishError, OSError) as error:
                self._again(error)
            else:
                if self._failing:
                    self._say(f"the mirror has commit {self._claim.number}")
                self._failing, self._vanished = False, 0

    def _next(self) -> bool:
        """Wait for something to send; False when all is sent and the run ends."""
        with self._ask:
            self._ask.wait_for(lambda: self._wanted or self._closing)
            wanted, self._wanted = self._wanted, False
            return wanted

    def _again(self, error: Exception) -> None:
        """Try the newest state once more; a checkpoint that was pruned while it was sent is no failure yet."""
        self._vanished = self._vanished + 1 if isinstance(error, FileNotFoundError) else MAX_VANISHED
        if self._vanished >= MAX_VANISHED:
            if not self._failing:
                self._say(f"the mirror waits, training goes on: {error}")
            self._failing = True
            time.sleep(RETRY_SECONDS)
        with self._ask:
            self._wanted = True

    def _send(self) -> None:
        files, contents = _contents(self._run.path)
        for name, entry in self._bucket.missing(files, but=self._claim.damaged).items():
            self._bucket.put(entry, contents[name])
            damaged = tuple(sha256 for sha256 in self._claim.damaged if sha256 != entry.sha256)
            self._claim = replace(self._claim, damaged=damaged)
        fail_point("mirror")
        self._check()  # a number that is free again, because the other copy pruned it, is no place for ours
        commit = Commit(self._claim.number + 1, self._claim.writer, files)
        try:
            self._bucket.write(commit)
        except TakenError as error:
            raise _overtaken(self._run, commit.number) from error
        self._stand_on(commit.number)
        self._check()
        self._prune()

    def _prune(self) -> None:
        """Old commits that a store does not let go are said once, and are no reason to send anything again."""
        try:
            self._bucket.prune(KEEP_LAST)
        except (BurnishError, OSError) as error:
            if not self._crowded:
                self._say(f"old commits of the mirror stay: {error}")
            self._crowded = True

    def _stand_on(self, number: int) -> None:
        self._claim = replace(self._claim, number=number)
        write_claim(self._run.path, self._claim)


def open_mirror(config: CheckpointConfig, run: Run, say: Callable[[str], None]) -> Mirror | NoMirror:
    """The mirror that a recipe asks for."""
    if config.mirror is None:
        return NoMirror()
    return Mirror(Bucket(config.mirror, config.mirror_options, run.id), run, say)


def read_claim(path: Path) -> Claim:
    """Where a run directory stands; a new name, written down, where it never had a mirror."""
    try:
        tree = json.loads((path / STATE).read_text())
        return Claim(tree["writer"], tree["number"], tuple(tree.get("damaged", ())))
    except FileNotFoundError:
        claim = Claim(secrets.token_hex(8))
        write_claim(path, claim)
        return claim
    except (ValueError, TypeError, KeyError) as error:
        raise InfrastructureError(f"{path / STATE} is damaged: {error}") from error


def write_claim(path: Path, claim: Claim) -> None:
    """Note where a run directory stands."""
    write_json(path / STATE, asdict(claim))


def _overtaken(run: Run, number: int) -> RefusedError:
    problem = Problem("checkpoints.mirror", f"commit {number} of another copy", "this copy's", f"look at {run.path}")
    return RefusedError(f"run {run.id} went on elsewhere; move this copy away to take the other one", [problem])


def _contents(path: Path) -> tuple[dict[str, FileEntry], dict[str, Path | bytes]]:
    """What a run consists of now: entries, and where their bytes are. Only sealed directories are left on disk."""
    entries: dict[str, FileEntry] = {}
    contents: dict[str, Path | bytes] = {}
    for folder, files in _folders(path):
        prefix = folder.relative_to(path)
        if (folder / MANIFEST).is_file():
            sealed = read_manifest(folder).files
            own = FileEntry((folder / MANIFEST).stat().st_size, sha256_of(folder / MANIFEST))
            for name, entry in {**sealed, MANIFEST: own}.items():
                entries[(prefix / name).as_posix()], contents[(prefix / name).as_posix()] = entry, folder / name
            continue
        for file in files:
            raw = file.read_bytes()
            name = (prefix / file.name).as_posix()
            entries[name], contents[name] = FileEntry(len(raw), hashlib.sha256(raw).hexdigest()), raw
    return entries, contents


def _folders(path: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Directories from the bottom up, hidden ones left out, with their plain files; below a sealed one none is given.

    The run's own files come last: metrics and journal only grow, so they hold all that a commit before them counts on.
    """
    if not (path / MANIFEST).is_file():
        for folder in (p for p in _children(path) if p.is_dir()):
            yield from _folders(folder)
    yield path, [p for p in _children(path) if p.is_file() and p.name not in _OURS]


def _children(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if not p.name.startswith(".") and not p.is_symlink())
