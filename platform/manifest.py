"""manifest.json: size and sha256 of every file of a committed directory, and the check that they still hold.

Called by `checkpoints.py` before any loader sees a file: a flipped byte in a weight file would otherwise load silently.
It reads JSON and bytes, never pickle.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from burnish.data.errors import CheckpointError, Problem
from burnish.platform.failpoints import armed, die, fail_point

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
_CHUNK = 1 << 20


class NewerFormatError(CheckpointError):
    """The directory was written by a newer burnish; nothing falls back past it."""


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and sha256 (hex) of one file."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a committed directory holds: relative POSIX path -> entry; manifest.json itself is not listed."""

    format_version: int
    files: Mapping[str, FileEntry]

    @property
    def digest(self) -> str:
        """sha256 (hex) over the manifest's bytes: one name for the whole directory's content."""
        return hashlib.sha256(_manifest_bytes(self)).hexdigest()


def read_manifest(path: Path) -> Manifest:
    """The manifest of a committed directory; its own bytes are checked, the files are not.

    Raises:
        CheckpointError: missing or damaged.
        NewerFormatError: written, undamaged, by a newer burnish.
    """
    file = path / MANIFEST
    try:
        if file.is_symlink():
            raise CheckpointError(f"checkpoint {path} is damaged", [Problem(str(file), "a link", "a plain file")])
        raw = file.read_bytes()
        tree = json.loads(raw)
        _refuse_newer(file, dict(tree))
        files = {name: FileEntry(int(e["size"]), str(e["sha256"])) for name, e in tree["files"].items()}
        manifest = Manifest(tree["format_version"], files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        got = "no file" if isinstance(error, FileNotFoundError) else f"unreadable ({type(error).__name__})"
        raise CheckpointError(f"checkpoint {path} is damaged", [Problem(str(file), got, "a manifest")]) from error
    if raw != _manifest_bytes(manifest):
        raise CheckpointError(f"checkpoint {path} is damaged", [Problem(str(file), "changed bytes", "as written")])
    return manifest


def load_verified(path: Path) -> Manifest:
    """Check every file of a committed directory against its manifest, before anything parses it.

    Raises:
        CheckpointError: missing, extra, changed or shortened files, each named; links; a damaged manifest.
        NewerFormatError: format_version is newer than this burnish knows.
    """
    manifest = read_manifest(path)
    found = {entry.relative_to(path).as_posix(): entry for entry in _entries(path)}
    extra = sorted(found.keys() - manifest.files.keys())
    problems = [Problem(str(path / name), "a file that the manifest does not list", "no such file") for name in extra]
    for name, entry in sorted(manifest.files.items()):
        problems.extend(_file_problems(path / name, entry, exists=name in found))
    if problems:
        raise CheckpointError(f"checkpoint {path} is damaged", problems)
    return manifest


def plausible(path: Path) -> bool:
    """A cheap look: the manifest is sound and the sizes fit; the bytes are not read."""
    try:
        files = read_manifest(path).files
        return all((path / name).stat().st_size == entry.size for name, entry in files.items())
    except NewerFormatError:
        return True
    except (CheckpointError, OSError):
        return False


def seal(path: Path) -> None:
    """fsync and hash every file below `path`, write the manifest, fsync the directories.

    Raises:
        CheckpointError: there is a link among the files.
        OSError: the disk refused.
    """
    files: dict[str, FileEntry] = {}
    for entry in sorted(_entries(path)):
        if entry.is_symlink():
            raise CheckpointError("checkpoint refused", [Problem(str(entry), "a link", "plain files")])
        if armed("mid-file"):
            os.truncate(entry, entry.stat().st_size // 2)
            die()
        fsync(entry)
        files[entry.relative_to(path).as_posix()] = FileEntry(entry.stat().st_size, sha256_of(entry))
    (path / MANIFEST).write_bytes(_manifest_bytes(Manifest(FORMAT_VERSION, files)))
    fsync(path / MANIFEST)
    fail_point("after-manifest")
    for folder in [*(p for p in path.rglob("*") if p.is_dir()), path]:
        fsync(folder)


def fsync(path: Path) -> None:
    """Force a file or a directory to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(file: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()


def _refuse_newer(file: Path, tree: dict[str, object]) -> None:
    """Every format keeps `format_version` and `digest`: a flipped version number is not taken for a newer one."""
    version = tree["format_version"]
    if isinstance(version, int) and version > FORMAT_VERSION and tree.pop("digest", None) == _tree_digest(tree):
        problem = Problem(str(file), str(version), f"format_version <= {FORMAT_VERSION}", "update burnish")
        raise NewerFormatError(f"checkpoint {file.parent} is too new", [problem])


def _manifest_bytes(manifest: Manifest) -> bytes:
    """The file's one possible text; it carries its own digest, so that damage to it is not blamed on another file."""
    files = {name: {"size": e.size, "sha256": e.sha256} for name, e in manifest.files.items()}
    tree: dict[str, object] = {"format_version": manifest.format_version, "files": files}
    return (json.dumps({**tree, "digest": _tree_digest(tree)}, sort_keys=True, indent=1) + "\n").encode()


def _tree_digest(tree: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def _entries(path: Path) -> Iterator[Path]:
    return (p for p in path.rglob("*") if (p.is_symlink() or not p.is_dir()) and p != path / MANIFEST)


def _file_problems(file: Path, entry: FileEntry, *, exists: bool) -> Iterator[Problem]:
    if not exists:
        yield Problem(str(file), "no file", f"{entry.size} bytes")
    elif file.is_symlink() or not file.is_file():
        yield Problem(str(file), "no plain file", "a plain file")
    elif file.stat().st_size != entry.size:
        yield Problem(str(file), f"{file.stat().st_size} bytes", f"{entry.size} bytes")
    elif sha256_of(file) != entry.sha256:
        yield Problem(str(file), "other bytes", f"sha256 {entry.sha256[:12]}…")
