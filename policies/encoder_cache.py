"""What frozen encoders made, on disk by content: an example is read by VAE and text encoder once, by whichever run.

A key covers the encoders' weights and settings, the kind of device, and every input. Processes and runs may share a
folder: files appear whole, and one that cannot be read is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from burnish.policies.digests import arrays_digest, base_digest

Arrays = dict[str, np.ndarray]
FORMAT = "2"
"""Part of every key: another one where the same inputs are no longer encoded to the same arrays."""


class EncoderCache:
    """Arrays by the content they were made from.

    Args:
        folder: where files go; made when the first is written.
        modules: the frozen encoders by name.
        settings: everything else that the arrays depend on.
    """

    def __init__(self, folder: Path, modules: Mapping[str, torch.nn.Module], settings: Mapping[str, str]) -> None:
        self._folder = folder
        self._modules = modules
        self._settings = {**settings, "torch": torch.__version__, "format": FORMAT}
        self._owner: str | None = None

    def get(self, kind: str, text: str, images: Mapping[str, np.ndarray], make: Callable[[], Arrays]) -> Arrays:
        """The arrays made of `text` and `images`, read or made now.

        Args:
            kind: which encoding of them.
            text: an instruction, or "".
            images: any arrays by name.
            make: encodes; it must depend on nothing else.
        """
        key = arrays_digest(dict(images), prefix=json.dumps([self.owner, kind, text]))
        path = self._folder / key[:2] / f"{key}.safetensors"
        try:
            return {name: tensor.float().numpy() for name, tensor in load_file(path).items()}
        except (OSError, SafetensorError):
            made = make()
            self._write(path, made)
            return made

    @property
    def owner(self) -> str:
        """Digest of the encoders and their settings."""
        if self._owner is None:
            digests = {name: base_digest(module) for name, module in sorted(self._modules.items())}
            self._owner = hashlib.sha256(json.dumps([digests, self._settings], sort_keys=True).encode()).hexdigest()
        return self._owner

    def _write(self, path: Path, arrays: Arrays) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        os.close(handle)
        try:
            save_file({key: _narrow(array) for key, array in arrays.items()}, name)
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)


def _narrow(array: np.ndarray) -> torch.Tensor:
    """bfloat16 where that loses nothing, as for all that a bfloat16 encoder made: half the disk."""
    wide = torch.from_numpy(np.ascontiguousarray(array))
    narrow = wide.bfloat16()
    return narrow if torch.equal(narrow.float(), wide) else wide
