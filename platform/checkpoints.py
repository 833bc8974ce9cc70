"""Directories that are either wholly on disk or not there: checkpoints, snapshots, bases.

A commit is written aside, hashed into manifest.json, fsynced and renamed; a loader verifies every byte before anything
is parsed (a flipped byte in a weight file would otherwise load silently). Called by the training loop and whoever loads
weights. It never reads pickle.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from burnish.data.errors import CheckpointError, InfrastructureError, Problem
from burnish.platform.failpoints import fail_point
from burnish.platform.manifest import NewerFormatError, fsync, load_verified, plausible, seal

if TYPE_CHECKING:  # the command line and the kill tests start without torch
    import numpy as np
    import torch

MIN_KEEP = 2
_TMP = ".tmp-"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def commit(parent: Path, name: str, writer: Callable[[Path], object]) -> Path:
    """Write a directory so that a kill at any moment leaves the old state or the new one.

    Args:
        parent: directory of commits, made if missing; one process writes there at a time (the run's lock).
        name: the commit's name, `[a-z0-9][a-z0-9._-]{0,63}`. A damaged directory of that name is replaced.
        writer: fills the empty directory it is given with files and subdirectories, no links.

    Returns:
        parent / name.

    Raises:
        CheckpointError: a bad name, or a sound commit of that name exists.
        InfrastructureError: the disk refused (full, I/O error); earlier commits are untouched.
    """
    if not _NAME.fullmatch(name):
        raise CheckpointError("checkpoint refused", [Problem("name", repr(name), _NAME.pattern)])
    final, aside = parent / name, parent / f"{_TMP}{name}-{os.getpid()}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _refuse_sound(final)
        _remove(aside)
        aside.mkdir()
        fail_point("after-tmp")
        writer(aside)
        seal(aside)
        fail_point("before-rename")
        if final.exists():
            _remove(final)
        aside.rename(final)
        fail_point("after-rename")
        fsync(parent)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise InfrastructureError(f"could not write {final}: {error}; earlier checkpoints are intact") from error
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return final


def committed(parent: Path) -> list[Path]:
    """Committed directories, oldest first (by the number at the name's end, then by name); not verified."""
    if not parent.is_dir():
        return []
    found = [path for path in parent.iterdir() if path.is_dir() and _NAME.fullmatch(path.name)]
    return sorted(found, key=_order)


def latest_verified(parent: Path, *, on_damage: Callable[[CheckpointError], None] | None = None) -> Path | None:
    """The newest commit that verifies; None where nothing was ever committed.

    Args:
        parent: directory of commits.
        on_damage: told about each damaged commit that is passed over.

    Raises:
        CheckpointError: there are commits and all of them are damaged.
        NewerFormatError: the newest readable one was written by a newer burnish.
    """
    damaged: list[CheckpointError] = []
    for path in reversed(committed(parent)):
        try:
            load_verified(path)
            return path
        except NewerFormatError:
            raise
        except CheckpointError as error:
            damaged.append(error)
            if on_damage is not None:
                on_damage(error)
    if damaged:
        raise CheckpointError(f"every checkpoint in {parent} is damaged", [p for e in damaged for p in e.problems])
    return None


def prune(parent: Path, keep_last: int, keep: set[str] | frozenset[str] = frozenset()) -> list[str]:
    """Remove old commits; what looks damaged (manifest or a size wrong) does not count among those kept.

    Args:
        parent: directory of commits.
        keep_last: how many of the newest to keep, >= 2, so that a damaged newest has something to fall back to.
        keep: names that stay whatever their age (best, promoted, served).

    Returns:
        The names removed, oldest first.
    """
    if keep_last < MIN_KEEP:
        raise CheckpointError("prune refused", [Problem("keep_last", str(keep_last), f">= {MIN_KEEP}")])
    paths = committed(parent)
    newest = [path for path in paths if plausible(path)][-keep_last:]
    if not newest:
        return []
    fail_point("before-prune")
    removed = [p for p in paths if p not in newest and p.name not in keep and _order(p) < _order(newest[-1])]
    for path in removed:
        _remove(path)
    return [path.name for path in removed]


def sweep(parent: Path) -> list[str]:
    """Delete what killed processes left half-written; call it under the run's lock. Returns the names deleted."""
    left = sorted(path for path in parent.glob(f"{_TMP}*")) if parent.is_dir() else []
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
    return [path.name for path in left]


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor | np.ndarray]) -> None:
    """Write tensors as one safetensors file; views and shared storage are copied, devices are left.

    Args:
        path: the file, inside the directory that `commit` hands to its writer.
        tensors: name -> array of any shape and any dtype that safetensors knows.

    Raises:
        OSError: the disk refused (safetensors' own error does not say so by type).
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({name: _own(tensor) for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(errno.EIO, f"safetensors: {error}", str(path)) from error


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Name -> tensor on the CPU, in the file's dtypes; verify the directory first.

    Raises:
        CheckpointError: no such file, or no safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError("tensors not readable", [Problem(str(path), str(error), "a safetensors file")]) from error


def _own(tensor: torch.Tensor | np.ndarray) -> torch.Tensor:
    import torch

    source = tensor.detach() if isinstance(tensor, torch.Tensor) else torch.tensor(tensor)
    return source.to("cpu", copy=True).contiguous()


def _refuse_sound(final: Path) -> None:
    if not final.exists():
        return
    try:
        load_verified(final)
    except NewerFormatError:
        raise
    except CheckpointError:
        return
    raise CheckpointError("checkpoint refused", [Problem(str(final), "a sound commit", "a new name")])


def _remove(path: Path) -> None:
    """Delete a directory in one step as seen by readers: rename it out of the way, then delete."""
    if not path.exists():
        return
    grave = path.with_name(f"{_TMP}gone-{path.name.lstrip('.')}-{os.getpid()}")
    shutil.rmtree(grave, ignore_errors=True)
    path.rename(grave)
    shutil.rmtree(grave, ignore_errors=True)


def _order(path: Path) -> tuple[int, str]:
    number = re.search(r"(\d+)$", path.name)
    return (int(number[1]) if number else -1, path.name)
