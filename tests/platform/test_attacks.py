"""What means harm: payloads that run when they are unpickled, open sockets, secrets in files."""

import ipaddress
import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import requests
import torch

from burnish.data.errors import BurnishError
from burnish.data.readers import read_rows
from burnish.platform.checkpoints import load_tensors
from burnish.platform.config import load_recipe
from burnish.policies.families import FAMILIES
from burnish.policies.lora_files import read_lora
from burnish.policies.snapshot import load_base, new_policy, save_base
from burnish.rewards.weights import load_tensors as load_weights

CANARY = "canary-3f9c71d0e5"


class Payload:
    """Makes a file where it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


@pytest.fixture
def payload(tmp_path):
    """Bytes that make a file when they are unpickled, and the place of that file."""
    marker = tmp_path / "it-ran"
    raw = pickle.dumps(Payload(marker), protocol=2)
    pickle.loads(raw).close()
    assert marker.exists()
    marker.unlink()
    yield raw
    assert not marker.exists()


@pytest.mark.parametrize("name", ["adapter_model.bin", "lora.safetensors", "lora.pt"])
def test_an_adapter_that_is_a_pickle_is_refused_and_does_not_run(payload, tmp_path, name):
    (tmp_path / name).write_bytes(payload)
    with pytest.raises(BurnishError, match="start_from"):
        read_lora(tmp_path / name, torch.nn.Linear(1, 1))


@pytest.mark.parametrize("name", ["ensemble.pt", "model.bin", "model.safetensors"])
def test_reward_weights_that_are_a_pickle_are_refused_and_do_not_run(payload, tmp_path, name):
    (tmp_path / name).write_bytes(payload)
    with pytest.raises(BurnishError, match=r"options\.weights"):
        load_weights(tmp_path / name, kind="csd")


def test_a_checkpoint_that_is_a_pickle_is_refused_and_does_not_run(payload, tmp_path):
    (tmp_path / "optimizer.safetensors").write_bytes(payload)
    with pytest.raises(BurnishError, match="not readable"):
        load_tensors(tmp_path / "optimizer.safetensors")


def test_a_base_that_is_a_pickle_is_refused_and_does_not_run(payload, tmp_path):
    save_base(new_policy(load_recipe("smoke").policy.config), tmp_path)
    (weights,) = (tmp_path / "transformer").glob("*.safetensors")
    weights.unlink()
    (tmp_path / "transformer" / "diffusion_pytorch_model.bin").write_bytes(payload)
    with pytest.raises((BurnishError, OSError)):
        load_base(tmp_path)


@pytest.mark.parametrize("trick", ["pickled weights", "code of its own", "another pipeline"])
def test_a_model_folder_runs_nothing_of_its_own(payload, tiny_models, tmp_path, trick):
    folder = tmp_path / "model"
    shutil.copytree(tiny_models / "kontext", folder)
    index = json.loads((folder / "model_index.json").read_text())
    if trick == "pickled weights":
        (weights,) = (folder / "transformer").glob("*.safetensors")
        weights.unlink()
        (folder / "transformer" / "diffusion_pytorch_model.bin").write_bytes(payload)
    else:
        code = f"open({str(tmp_path / 'it-ran')!r}, 'w').close()\nclass Evil:\n    pass\n"
        for place in (folder, folder / "transformer"):
            (place / "evil.py").write_text(code)
            (place / "pipeline.py").write_text(code)
        index |= {"transformer": ["evil", "Evil"]} if trick == "code of its own" else {"_class_name": ["evil", "Evil"]}
        (folder / "model_index.json").write_text(json.dumps(index))
    entry = FAMILIES["kontext"]
    with pytest.raises(BurnishError, match=r"policy\.path"):
        entry.build(entry.config.model_validate({"path": str(folder), "max_sequence_length": 16}))


@pytest.mark.parametrize("suffix", ["pkl", "pyd", "pth", "npy"])
def test_a_shard_whose_members_are_pickles_is_refused_and_does_not_run(payload, tmp_path, suffix):
    (tmp_path / "member").write_bytes(payload)
    with tarfile.open(tmp_path / "shard.tar", "w") as shard:
        shard.add(tmp_path / "member", f"0001.{suffix}")
    with pytest.raises(BurnishError):
        read_rows("webdataset", tmp_path / "shard.tar")


def listening(pid):
    """Addresses that a process and its children listen on."""
    found = []
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        found += [c.laddr for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    return found


def test_a_run_listens_on_loopback_alone_and_writes_no_secret(burnish, tmp_path):
    secrets = {"MLFLOW_TRACKING_PASSWORD": CANARY, "AWS_SECRET_ACCESS_KEY": CANARY, "RAY_AUTH_TOKEN": CANARY}
    child = burnish("smoke", "--tracking.enabled", "true", fail_point="journal:1:hang", **secrets)
    deadline = time.monotonic() + 200
    while psutil.Process(child.process.pid).status() != psutil.STATUS_STOPPED:
        assert child.process.is_alive() and time.monotonic() < deadline, child.text
        time.sleep(0.1)
    addresses = listening(child.process.pid)
    assert addresses and all(ipaddress.ip_address(address.ip).is_loopback for address in addresses)
    token = (child.run.path / "control.token").read_text().strip()
    os.kill(child.process.pid, signal.SIGCONT)
    os.kill(child.process.pid, signal.SIGINT)
    assert child.wait() == 130, child.text
    assert token and leaks(tmp_path, CANARY) == leaks(tmp_path, token) == []


@pytest.fixture
def server(smoke, tmp_path):
    """`burnish serve` of the smoke run in a process of its own, with a user token: (process, URL)."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "burnish.platform.cli", "serve", smoke.id, "--runs-dir", str(smoke.path.parent)]
    command += ["--directory", str(tmp_path / "server"), "--port", str(port), "--executor", "local"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env=os.environ | {"BURNISH_USER_TOKEN": CANARY}, stdout=log, stderr=log)
    yield process, f"http://127.0.0.1:{port}"
    process.send_signal(signal.SIGINT)
    process.wait(60)


def is_up(url):
    with suppress(requests.RequestException):
        return requests.get(f"{url}/readyz", timeout=5).status_code == 200
    return False


def test_a_server_listens_on_loopback_alone_and_writes_no_token(server, tmp_path):
    process, url = server
    deadline = time.monotonic() + 120
    while not is_up(url):
        assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
        time.sleep(0.2)
    addresses = listening(process.pid)
    assert addresses and all(ipaddress.ip_address(address.ip).is_loopback for address in addresses)
    token = (tmp_path / "server" / "admin.token").read_text().strip()
    for given, status in ((CANARY, 403), (token + "x", 401), (token, 409)):
        headers = {"authorization": f"Bearer {given}"}
        reply = requests.post(f"{url}/v1/admin/rollback", json={}, headers=headers, timeout=30)
        assert reply.status_code == status and given not in reply.text
    assert not {CANARY, token} & set(psutil.Process(process.pid).cmdline())
    assert leaks(tmp_path, CANARY) == [] and leaks(tmp_path, token) == [str(tmp_path / "server" / "admin.token")]


def leaks(folder: Path, secret):
    """Files below a folder that hold a secret."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
