"""A tiny policy in three versions, and servers of it in this process."""

import base64
import contextlib
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from starlette.testclient import TestClient

from burnish.serve.backend import LocalBackend
from burnish.serve.door import Door
from burnish.serve.engine import Engine, load_version

URL = "http://127.0.0.1"


@pytest.fixture(scope="session")
def kit() -> ModuleType:
    """The module `kit.py` beside this file."""
    spec = importlib.util.spec_from_file_location("serve_kit", Path(__file__).parent / "kit.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def material(kit: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Base and snapshots on disk."""
    return kit.make_material(tmp_path_factory.mktemp("material"))


@pytest.fixture(scope="session")
def template(kit: ModuleType, material: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A server's directory that tests copy."""
    return kit.make_directory(tmp_path_factory.mktemp("template") / "server", material)


@pytest.fixture
def directory(template: Path, tmp_path: Path) -> Path:
    """A server's directory of this test."""
    import shutil

    return Path(shutil.copytree(template, tmp_path / "server"))


@pytest.fixture
def serve(kit: ModuleType, directory: Path) -> Iterator[Callable[..., TestClient]]:
    """Start a server in this process: options are those of `ServeConfig`, and `load` of the engine."""
    with contextlib.ExitStack() as stack:

        def start(*, load: Any = load_version, **options: Any) -> TestClient:
            config = kit.config_of(directory, **options)
            door = Door(config, lambda: LocalBackend(Engine(batch=config.batch, load=load)))
            client = TestClient(door, base_url=URL, raise_server_exceptions=False)
            client.door = door  # type: ignore[attr-defined]
            return stack.enter_context(client)

        yield start


@pytest.fixture
def client(serve: Callable[..., TestClient]) -> TestClient:
    """A server with defaults."""
    return serve()


@pytest.fixture(scope="module")
def shared(kit: ModuleType, template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A server for tests that change nothing in it."""
    import shutil

    place = Path(shutil.copytree(template, tmp_path_factory.mktemp("shared") / "server"))
    door = Door(kit.config_of(place), lambda: LocalBackend(Engine(batch=1)))
    with TestClient(door, base_url=URL, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def promote(kit: ModuleType, client: Any, material: Any) -> Callable[..., Any]:
    """Promote a snapshot by name; gives the reply."""

    def send(name: str, *, snapshot: Any = None, adapter: Any = None, headers: Any = None, **options: Any) -> Any:
        place = material.root / name
        record = (place / "snapshot.json").read_bytes() if snapshot is None else snapshot
        body = (place / "adapter" / "pytorch_lora_weights.safetensors").read_bytes() if adapter is None else adapter
        sent = {
            "x-burnish-options": base64.b64encode(json.dumps({"policy": "tuned", **options}).encode()).decode(),
            "x-burnish-snapshot": base64.b64encode(record).decode(),
            **kit.bearer(client.door),
        }
        return client.post("/v1/admin/promote", content=body, headers=sent | (headers or {}))

    return send


@pytest.fixture
def admin(kit: ModuleType, client: Any) -> Callable[..., Any]:
    """Call an admin route with its token."""
    return lambda path, **body: client.post(f"/v1/admin/{path}", json=body, headers=kit.bearer(client.door))
