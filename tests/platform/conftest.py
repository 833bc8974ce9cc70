from collections.abc import Callable
from pathlib import Path

import pytest

MINIMAL = """
name: small
rewards:
  rewards:
    - {name: pixels, kind: masked_pixel}
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Callable[[str], str]:
    """Write a minimal recipe with more lines; gives its path."""

    def write(more: str = "", *, name: str = "recipe.yaml") -> str:
        path = tmp_path / name
        path.write_text(MINIMAL + more)
        return str(path)

    return write
