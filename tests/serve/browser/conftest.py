"""A browser, the page's API without a policy, and pictures to give it."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image


def beside(name: str) -> ModuleType:
    """A module beside this file."""
    spec = importlib.util.spec_from_file_location(f"page_{name}", Path(__file__).parent / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def fake_api() -> ModuleType:
    """The module `fake_api.py` beside this file."""
    return beside("fake_api")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One browser for all tests."""
    module = beside("chromium")
    if module.PROGRAM is None:
        pytest.skip("no Chromium on this machine")
    with module.started(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="session")
def wait(chromium: Any) -> Callable[..., None]:
    """Wait until something outside the page is so."""
    return sys.modules["page_chromium"].wait


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    """Where the browser puts what it downloads."""
    return tmp_path / "downloads"


@pytest.fixture
def tab(chromium: Any, downloads: Path) -> Any:
    """A tab that knows nothing of the tests before."""
    chromium.fresh(downloads)
    return chromium


@pytest.fixture
def fake(fake_api: ModuleType) -> Any:
    """What the API does and has seen."""
    return fake_api.Fake()


@pytest.fixture
def origin(fake_api: ModuleType, fake: Any) -> Iterator[str]:
    """Where the API and the page are."""
    url, stop = fake_api.serve(fake)
    yield url
    stop()


@pytest.fixture(scope="session")
def photograph() -> Image.Image:
    """A real photograph: 640 x 427."""
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image("china.jpg"))


@pytest.fixture
def photo(photograph: Image.Image, tmp_path: Path) -> Path:
    """The photograph as a file."""
    file = tmp_path / "temple.png"
    photograph.save(file)
    return file


@pytest.fixture
def opened(tab: Any, origin: str, photo: Path) -> Callable[..., Any]:
    """Open the page and, unless told otherwise, the photograph in it."""

    def start(*, url: str = origin, image: Path | None = photo, **window: Any) -> Any:
        tab.open(url, **window)
        tab.until("!document.getElementById('policy').disabled")
        if image is not None:
            tab.give("#file", image)
            tab.until("document.getElementById('drop').hidden")
        return tab

    return start
