"""Which split a row belongs to: said by the row, by the name of its file, or dealt by a hash of its id."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from burnish.data.seeding import key_bytes

_WORDS = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "heldout",
    "heldout": "heldout",
}


def splits_of_files(files: Sequence[Path]) -> dict[Path, str | None]:
    """The split that each file's name, or else its folder's, starts with: train-00000 -> train, validation/… -> dev.

    None for all of them where the names tell no two splits apart: their rows are then dealt by id, so that a data set
    that only has a part named train can be evaluated on.
    """
    found = {file: _split_of_name(file.stem) or _split_of_name(file.parent.name) for file in files}
    return found if len(set(found.values()) - {None}) > 1 else dict.fromkeys(files)


def _split_of_name(name: str) -> str | None:
    return _WORDS.get(name.lower().replace("_", "-").replace(".", "-").partition("-")[0])


def split_of_id(identity: str) -> str:
    """The split that a row without one is dealt to: 70 % train, 10 % dev, 20 % heldout, by a hash of its id."""
    share = key_bytes(("manifest-split", identity))[0]
    return "train" if share < 179 else "dev" if share < 205 else "heldout"
