"""A run, and a mirror of it in an S3-compatible server on loopback or in a directory."""

import uuid

import fsspec
import pytest
from moto.server import ThreadedMotoServer

from burnish.platform.bucket import Bucket
from burnish.platform.checkpoints import commit
from burnish.platform.mirror import open_mirror
from burnish.platform.runs import RunStore
from burnish.platform.sections import CheckpointConfig


@pytest.fixture(scope="session")
def server():
    """An S3-compatible server on a free port of loopback."""
    found = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="session")
def keys():
    """What a store's package reads from the environment."""
    return {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture
def s3(server, keys, monkeypatch):
    """Where a mirror is: a fresh bucket."""
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    host, port = server.get_host_and_port()
    options = {"endpoint_url": f"http://{host}:{port}"}
    name = f"bucket-{uuid.uuid4().hex}"
    fsspec.filesystem("s3", **options, skip_instance_cache=True).mkdir(name)
    return CheckpointConfig(mirror=f"s3://{name}/runs", mirror_options=options)


@pytest.fixture(params=["s3", "directory"])
def config(request, tmp_path):
    """Where a mirror is: a fresh bucket, or a fresh directory."""
    if request.param == "directory":
        return CheckpointConfig(mirror=(tmp_path / "mirror").as_uri())
    return request.getfixturevalue("s3")


@pytest.fixture
def step():
    """Commit a step of a run."""

    def make(run, number):
        parent = run.path / "stages" / "grpo" / "checkpoints"
        return commit(parent, f"step-{number:06d}", lambda path: (path / "state.json").write_text(f"{number}"))

    return make


@pytest.fixture
def run(tmp_path, step):
    """A run with a sealed base, a commit and lines of metrics."""
    made = RunStore(tmp_path / "runs").create("small", 3)
    (made.path / "metrics.jsonl").write_text('{"step": 1}\n')
    (made.path / "control.json").write_text("this machine's")
    commit(made.path, "base", lambda path: (path / "weights").write_bytes(b"w" * 1000))
    step(made, 1)
    return made


@pytest.fixture
def kept():
    """Have a mirror that has a run as it is; gives its bucket."""

    def make(config, run):
        said = []
        mirror = open_mirror(config, run, said.append)
        mirror.commit()
        mirror.close()
        assert said == []
        return Bucket(config.mirror, config.mirror_options, run.id)

    return make
