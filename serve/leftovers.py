"""What nobody needs any more in a server's directory: versions given up, and what a crash left of an upload.

Called by the promoter. It removes names in this directory only: a run's own files, linked or not, stay where they are.
"""

from __future__ import annotations

import shutil
from collections.abc import Set
from pathlib import Path

VERSIONS = "versions"
"""The folder of the versions, in a server's directory."""
UPLOAD = ".upload-"
"""How the folder of an upload begins that is being received."""


def sweep_versions(directory: Path, *, needed: Set[str]) -> list[str]:
    """Remove the folders of all versions but the needed ones; names of what went.

    Args:
        directory: the server's.
        needed: names of folders below `versions/`.
    """
    root = directory / VERSIONS
    found = list(root.iterdir()) if root.is_dir() else []
    return _removed([place for place in found if place.name not in needed])


def sweep_uploads(directory: Path) -> list[str]:
    """Remove what was being received when the server died; call it before a new one is. Names of what went."""
    return _removed(list(directory.glob(f"{UPLOAD}*")))


def _removed(places: list[Path]) -> list[str]:
    for place in places:
        shutil.rmtree(place, ignore_errors=True)
    return sorted(place.name for place in places if not place.exists())
