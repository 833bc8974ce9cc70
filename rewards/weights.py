"""Weight files of the real rewards: where an option `weights` points to, what is missing there, which bytes they are.

Called when a reward is built. Reads local files, and asks the hub only where the option names a hub id and the hub is
allowed (HF_HUB_OFFLINE unset). Never runs what it reads: tensors come from safetensors, or from `torch.load` with
`weights_only=True`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.serialization
from safetensors import SafetensorError

from burnish.data.errors import ConfigError, Problem

Name = str | tuple[str, ...]
"""A file's path inside a directory of weights; a tuple = any one of these will do, the first found is taken."""

HUB_ID = re.compile(r"(?P<id>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[\w./-]+))?")
WEIGHTS = "a file or directory on this machine, or a hub id: owner/name or hf:owner/name, with @revision to pin it"
"""Words for the description of an option `weights`."""
CHUNK = 1 << 20
REFUSED = torch.serialization.pickle.PickleError
"""What `weights_only=True` raises; reached through torch, because no module here may import pickle."""
UNREADABLE = (OSError, EOFError, LookupError, RuntimeError, TypeError, ValueError, REFUSED, SafetensorError)


def files_digest(paths: Sequence[Path]) -> str:
    """Sha256 (hex) over name, size and bytes of the files, sorted by name; equal wherever the directory lies.

    Args:
        paths: existing files; a name is the path below the directory that all of them share.
    """
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    digest = hashlib.sha256()
    for name, path in sorted(names.items()):
        digest.update(f"{len(name.encode())}:{name}:{path.stat().st_size}:".encode())
        with path.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def require_files(directory: Path, names: Sequence[Name], *, kind: str) -> list[Path]:
    """The files of `names` in a directory, in that order.

    Args:
        directory: where to look.
        names: what is needed.
        kind: the reward's name in the table, for the error.

    Raises:
        ConfigError: files are missing; one problem for each.
    """
    choices = [(name,) if isinstance(name, str) else name for name in names]
    found = [next((directory / n for n in some if (directory / n).is_file()), None) for some in choices]
    missing = [some for some, path in zip(choices, found, strict=True) if path is None]
    if missing:
        problems = [
            Problem("options.weights", f"no {' or '.join(some)}", f"that file in {directory}", "put it there")
            for some in missing
        ]
        raise ConfigError(f"reward kind {kind!r}: {len(missing)} of {len(names)} weight files are missing", problems)
    return [path for path in found if path is not None]


def weights_dir(weights: str, names: Sequence[Name], *, kind: str) -> Path:
    """The local directory that an option `weights` points to, fetched from the hub where it is a hub id.

    What lies in it is not checked: see `require_files`.

    Args:
        weights: the option, see `WEIGHTS`; a path on this machine comes before a hub id.
        names: the files that are fetched.
        kind: the reward's name in the table, for the error.

    Raises:
        ConfigError: there is no such directory, or the hub cannot be reached and has not been before.
    """
    found = _local_or_hub(weights, names, kind=kind)
    if found.is_dir():
        return found
    raise _refusal(weights, names, kind=kind, allowed="a directory or a hub id")


def weights_file(weights: str, name: Name, *, kind: str) -> Path:
    """The one file that an option `weights` points to: itself, or `name` in a directory or a hub repository.

    Raises:
        ConfigError: there is none, or the hub cannot be reached and has not been before.
    """
    found = _local_or_hub(weights, [name], kind=kind)
    return found if found.is_file() else require_files(found, [name], kind=kind)[0]


def load_tensors(path: Path, *, kind: str) -> dict[str, Any]:
    """What a file of tensors holds, on the CPU: safetensors by its suffix, else torch's format, tensors only.

    Args:
        path: an existing file.
        kind: the reward's name in the table, for the error.

    Raises:
        ConfigError: it cannot be read, holds more than tensors and plain values, or is not a dictionary.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        problem = Problem("options.weights", f"{path} ({reason})", "safetensors, or a torch file of tensors only")
        raise ConfigError(f"reward kind {kind!r}: a weight file cannot be read", [problem]) from None
    if not isinstance(loaded, dict):
        problem = Problem("options.weights", f"{type(loaded).__name__} in {path}", "a dictionary of tensors")
        raise ConfigError(f"reward kind {kind!r}: a weight file has another layout", [problem])
    return loaded


def load_strict(model: torch.nn.Module, state: dict[str, Any], *, path: Path, kind: str, assign: bool = False) -> None:
    """Load tensors into a model; every key and shape must fit.

    Args:
        model: what they are for.
        state: name -> tensor.
        path: where they come from, for the error.
        kind: the reward's name in the table, for the error.
        assign: the model keeps the tensors themselves (needed where it was built on the meta device).

    Raises:
        ConfigError: another layout: names missing, unknown and misshapen keys.
    """
    try:
        model.load_state_dict(state, strict=True, assign=assign)
    except (RuntimeError, TypeError) as error:
        reason = "; ".join(line.strip()[:300] for line in str(error).splitlines()[:4])
        problem = Problem("options.weights", f"{path} ({reason})", f"the public key layout of {kind}")
        raise ConfigError(f"reward kind {kind!r}: a weight file has another layout", [problem]) from None


def is_local(weights: str) -> bool:
    """Whether an option `weights` is a path that exists on this machine."""
    return Path(weights).expanduser().exists()


def _local_or_hub(weights: str, names: Sequence[Name], *, kind: str) -> Path:
    if is_local(weights):
        return Path(weights).expanduser()
    match = HUB_ID.fullmatch(weights.removeprefix("hf:"))
    if match is None:
        raise _refusal(weights, names, kind=kind, allowed=WEIGHTS)
    return _from_hub(match["id"], match["revision"], weights, names, kind=kind)


def _from_hub(repository: str, revision: str | None, weights: str, names: Sequence[Name], *, kind: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError

    patterns = [n for name in names for n in ((name,) if isinstance(name, str) else name)]
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except (OSError, ValueError, HTTPError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        allowed = f"{WEIGHTS}; the hub says: {reason}"
        raise _refusal(weights, names, kind=kind, allowed=allowed) from error


def _refusal(weights: str, names: Sequence[Name], *, kind: str, allowed: str) -> ConfigError:
    wanted = ", ".join(name if isinstance(name, str) else " or ".join(name) for name in names)
    hint = f"put {wanted} into a directory of this machine and name that directory"
    problem = Problem("options.weights", repr(weights), allowed, hint)
    return ConfigError(f"reward kind {kind!r}: its weights are not found", [problem])
