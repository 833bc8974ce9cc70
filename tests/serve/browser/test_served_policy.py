"""The page and a real server with a real, untrained tiny policy: nothing is faked between the brush and the pixels."""

import json
import socket
import time

import numpy as np
import pytest
from PIL import Image

from burnish.data.paste import alpha_uint8
from burnish.data.records import SamplerSpec
from burnish.policies.lora import AdapterConfig, add_adapter
from burnish.policies.pieces import RefinerConfig
from burnish.policies.snapshot import adapted_digest, new_policy, save_adapter, save_base, snapshot_record
from burnish.policies.tiny import TinyConfig
from burnish.serve.local import local_server
from burnish.serve.store import ServeConfig, Store
from burnish.serve.versions import ServedVersion, Versions


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A server's directory with one version of one policy."""
    root = tmp_path_factory.mktemp("server")
    policy, adapter = new_policy(TinyConfig()), AdapterConfig(rank=4, alpha=4.0)
    (root / "base").mkdir()
    base = save_base(policy, root / "base")
    add_adapter(policy.module, adapter)
    save_adapter(policy.module, root / "adapter")
    digest = adapted_digest(policy.module)
    common = {"family": "tiny", "base": base, "policy": digest, "adapter": adapter, "weights": "raw"}
    refiner = RefinerConfig().model_dump(mode="json")
    record = snapshot_record(**common, sampler=SamplerSpec("ode", 4), refiner=refiner)
    (root / "snapshot.json").write_text(json.dumps(record))
    versions = Versions("tuned")
    version = ServedVersion("tuned", 1, digest, str(root), str(root / "base"), True, {"run": "untrained"})
    versions.enter(version, now=time.time(), state="active", reason="served from the start")
    Store(root).write(versions)
    return root


@pytest.fixture(scope="module")
def origin(directory):
    """Where the server listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    config = ServeConfig(directory=str(directory), feedback=str(directory / "feedback"))
    stop = local_server(config, host="127.0.0.1", port=port)
    yield f"http://127.0.0.1:{port}"
    stop()


BOX = (192, 171, 230, 214)
"""Where the mouse draws a box, pixels of the photograph."""


@pytest.fixture
def refined(opened, photo):
    """A tab in which a box of the photograph was refined, with a reference and an instruction of two lines."""
    tab = opened()
    tab.give("#reference-file", photo)
    tab.press("r")
    tab.drag([tab.place("#paint", BOX[i] / 640, BOX[i + 1] / 427) for i in (0, 2)])
    tab.click("#instruction")
    tab.type("Restore the carving.\nKeep the colours.")
    tab.click("#refine")
    tab.until("!document.getElementById('result').hidden", 120.0)
    return tab


def test_a_served_policy_refines_the_box_and_touches_nothing_else(refined, origin, photograph, downloads, wait):
    assert refined.run("document.getElementById('facts').textContent").startswith("tuned@1 · seed 0 · 4 steps")
    refined.click("#download")
    wait((downloads / "temple-refined.png").exists, "the download")
    before, after = np.asarray(photograph), np.asarray(Image.open(downloads / "temple-refined.png"))
    x1, y1, x2, y2 = BOX
    mask = np.zeros((1, *before.shape[:2]), np.float32)
    mask[:, y1 - 2 : y2 + 2, x1 - 2 : x2 + 2] = 1
    outside = alpha_uint8(mask)[0] == 0
    np.testing.assert_array_equal(after[outside], before[outside])
    assert (after[y1:y2, x1:x2] != before[y1:y2, x1:x2]).mean() > 0.5
    own = (f"{origin}/", f"blob:{origin}/", "data:")
    assert [url for url in refined.requests if not url.startswith(own)] == [] and refined.troubles == []


def test_the_verdict_becomes_a_row_to_train_on(refined, directory):
    refined.click("[data-verdict=better]")
    refined.until("document.querySelector('[data-verdict=better]').disabled")
    (row,) = map(json.loads, (directory / "feedback" / "manifest.jsonl").read_text().splitlines())
    assert row["meta"]["verdict"] == "better" and row["instruction"] == "Restore the carving. Keep the colours."
