"""One run in an object store: files by their sha256, and numbered commits that say which of them a run has.

Called by `mirror.py`. A commit is written last and only where no commit of that number stands (a conditional write), so
a reader sees an old commit or a new one, and of two writers one is refused. It knows no run and parses no weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from burnish.data.errors import CheckpointError, ConfigError, InfrastructureError, Problem
from burnish.platform.manifest import FileEntry, NewerFormatError, sha256_of

FORMAT_VERSION = 1


class TakenError(Exception):
    """A commit of this number stands already, and somebody else wrote it."""


@dataclass(frozen=True)
class Commit:
    """What a run was at one moment.

    Args:
        number: counts from 1.
        writer: who wrote it, a random name of one copy of the run directory.
        files: relative POSIX path -> size and sha256.
    """

    number: int
    writer: str
    files: Mapping[str, FileEntry]


class Bucket:
    """Commits and files of one run below an fsspec URL.

    Args:
        url: where runs are kept, for example s3://bucket/runs or a directory.
        options: what fsspec's file system takes, for example `{"endpoint_url": …}`; keys belong into the environment.
        run_id: the run's directory there.

    Raises:
        ConfigError: no such protocol, or its package is missing.
        InfrastructureError: of every method: the store cannot be reached.
    """

    def __init__(self, url: str, options: Mapping[str, Any], run_id: str) -> None:
        self._fs, root = open_url(url, options)
        self._root = f"{root}/{run_id}"

    def commits(self) -> list[int]:
        """Numbers of the commits there, oldest first; they may be damaged."""
        names = [Path(path).name for path in self._list("commits")]
        return sorted(int(name.removesuffix(".json")) for name in names if name.removesuffix(".json").isdigit())

    def read(self, number: int) -> Commit:
        """A commit whose own bytes are sound; its files are not looked at.

        Raises:
            CheckpointError: missing, cut off or changed; NewerFormatError where a newer burnish wrote it.
        """
        raw = self._get(self._commit(number))
        try:
            if raw is None:
                raise ValueError("no such commit")
            return _parse(raw)
        except NewerFormatError:
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                "commit not readable", [Problem(self._commit(number), str(error), "whole")]
            ) from error

    def write(self, commit: Commit) -> None:
        """Write a commit, where there is none of its number; its files must be there already.

        Raises:
            TakenError: somebody else's stands there.
        """
        path, raw = self._commit(commit.number), _bytes(commit)
        with _reaching(path):
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            try:
                _create(self._fs, path, raw)
                return
            except FileExistsError:
                pass
        if self._get(path) != raw:  # else our own, whose answer was lost on the way
            raise TakenError(path)

    def missing(self, files: Mapping[str, FileEntry], *, but: Collection[str] = ()) -> dict[str, FileEntry]:
        """Those of a commit's files whose content is not there yet, or only in part, or has a sha256 of `but`."""
        listing = listed(self._fs, f"{self._root}/objects")
        held = {(name, item["size"]) for item in listing if (name := Path(item["name"]).name) not in but}
        return {name: entry for name, entry in files.items() if (entry.sha256, entry.size) not in held}

    def put(self, entry: FileEntry, content: Path | bytes) -> None:
        """Upload a file under its sha256.

        Args:
            entry: size and sha256.
            content: where it lies, or its bytes.

        Raises:
            FileNotFoundError: it does not lie there any more.
        """
        path = self._object(entry)
        with _reaching(path):
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            if isinstance(content, bytes):
                self._fs.pipe_file(path, content)
            else:
                with content.open("rb"):  # a file that is gone is said to be gone before the store is asked
                    self._fs.put_file(str(content), path)

    def fetch(self, entry: FileEntry, to: Path) -> None:
        """Download a file and check its sha256.

        Raises:
            CheckpointError: it is not there, or has other bytes.
        """
        path = self._object(entry)
        to.parent.mkdir(parents=True, exist_ok=True)
        with _reaching(path):
            if not self._fs.exists(path):
                raise CheckpointError("file missing", [Problem(path, "nothing", f"{entry.size} bytes")])
            self._fs.get_file(path, str(to))
        if (found := sha256_of(to)) != entry.sha256:
            raise CheckpointError("file damaged", [Problem(path, f"sha256 {found[:12]}…", f"{entry.sha256[:12]}…")])

    def prune(self, keep_last: int) -> None:
        """Remove all but the newest `keep_last` sound commits, then files that none of them names.

        For the one writer only, and only while the newest commit is its own.
        """
        kept: list[Commit] = []
        for number in reversed(self.commits()):
            try:
                if len(kept) < keep_last:
                    kept.append(self.read(number))
                    continue
            except NewerFormatError:
                raise
            except CheckpointError:
                pass
            with _reaching(self._commit(number)):
                self._fs.rm_file(self._commit(number))
        named = {entry.sha256 for commit in kept for entry in commit.files.values()}
        for path in self._list("objects"):
            if Path(path).name not in named:
                with _reaching(path):
                    self._fs.rm_file(path)

    def _commit(self, number: int) -> str:
        return f"{self._root}/commits/{number:08d}.json"

    def _object(self, entry: FileEntry) -> str:
        return f"{self._root}/objects/{entry.sha256}"

    def _list(self, folder: str) -> list[str]:
        return [item["name"] for item in listed(self._fs, f"{self._root}/{folder}")]

    def _get(self, path: str) -> bytes | None:
        with _reaching(path):
            return self._fs.cat_file(path) if self._fs.exists(path) else None


def run_ids(url: str, options: Mapping[str, Any]) -> list[str]:
    """Ids of the runs below a URL.

    Raises:
        ConfigError: no such protocol, or its package is missing.
        InfrastructureError: the store cannot be reached.
    """
    fs, root = open_url(url, options)
    return [Path(item["name"]).name for item in listed(fs, root)]


def open_url(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path in it.

    Raises:
        ConfigError: no such protocol, or its package is missing.
    """
    try:
        # Listings are asked for anew each time: another machine may have written meanwhile.
        fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True, **options)
    except (ImportError, ValueError, TypeError) as error:
        hint = "pip install -c constraints.txt -e '.[cloud]' for s3:// and gs://"
        raise ConfigError("mirror refused", [Problem("checkpoints.mirror", url, str(error), hint)]) from error
    return fs, root.rstrip("/")


def listed(fs: Any, path: str) -> list[dict[str, Any]]:
    """What lies in a folder, sorted by `name`, each with its `size` in bytes; nothing where there is none."""
    with _reaching(path):
        try:
            return sorted(fs.ls(path, detail=True), key=lambda item: item["name"])
        except FileNotFoundError:
            return []


def _create(fs: Any, path: str, raw: bytes) -> None:
    """Write a file where there is none; FileExistsError where there is one."""
    if isinstance(fs, LocalFileSystem):  # there fsspec looks first and then writes
        with open(path, "xb") as stream:
            stream.write(raw)
    else:
        fs.pipe_file(path, raw, mode="create")


@contextmanager
def _reaching(path: str) -> Iterator[None]:
    """Failures of a store, of whatever type its package raises, as one."""
    try:
        yield
    except (FileNotFoundError, CheckpointError):
        raise
    except Exception as error:
        raise InfrastructureError(f"could not transfer {path}: {type(error).__name__}: {error}") from error


def _bytes(commit: Commit) -> bytes:
    body = json.dumps({"format_version": FORMAT_VERSION, **asdict(commit)}, sort_keys=True)
    return f"{hashlib.sha256(body.encode()).hexdigest()}\n{body}\n".encode()


def _parse(raw: bytes) -> Commit:
    digest, _, body = raw.decode().partition("\n")
    if hashlib.sha256(body.removesuffix("\n").encode()).hexdigest() != digest:
        raise ValueError("changed bytes")
    tree = json.loads(body)
    if tree["format_version"] > FORMAT_VERSION:
        found = f"format_version {tree['format_version']}"
        problem = Problem(f"commit {tree['number']}", found, f"<= {FORMAT_VERSION}", "update burnish")
        raise NewerFormatError("the mirror was written by a newer burnish", [problem])
    files = {name: FileEntry(int(entry["size"]), str(entry["sha256"])) for name, entry in tree["files"].items()}
    return Commit(int(tree["number"]), str(tree["writer"]), files)
