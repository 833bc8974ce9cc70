"""`burnish serve` on a real Ray: one edit and one promotion, and the same application from a Serve config file."""

import base64
import io
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import openai
import pytest
import requests
import yaml
from PIL import Image

from burnish.data.seeding import normal
from burnish.platform import serving
from burnish.serve.client import Client
from burnish.serve.schema import HEADER_MODEL
from burnish.serve.store import Store

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

MANIFEST = Path(__file__).parents[2] / "clusters" / "kuberay" / "rayservice.yaml"
BOX = (24, 16, 40, 32)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture
def ready():
    """Start a command and wait until the server at a port can answer; its URL. It is ended, and leaves nothing."""
    started = []

    def start(command, port, log, **environment):
        with log.open("w") as stream:
            process = subprocess.Popen(
                command,
                env=os.environ | environment,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's job in the back ignores it
            )
        started.append((process, log))
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 240
        while True:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            try:
                if requests.get(f"{url}/readyz", timeout=5).status_code == 200:
                    return url
            except requests.RequestException:
                pass
            time.sleep(0.5)

    yield start
    for process, log in started:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        assert "Traceback" not in log.read_text(), log.read_text()[-3000:]


def picture():
    pixels = np.clip(128 + 40 * normal((48, 64, 3), 0, "served"), 0, 255).astype(np.uint8)
    return pixels, encoded(Image.fromarray(pixels))


def encoded(image):
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def edited(url):
    """What the public client gets for a picture with a mask: (pixels, the version that made them)."""
    mask = np.full((48, 64, 4), 255, np.uint8)
    mask[BOX[1] : BOX[3], BOX[0] : BOX[2], 3] = 0
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    reply = client.images.with_raw_response.edit(
        model="tuned",
        image=("in.png", picture()[1], "image/png"),
        mask=("mask.png", encoded(Image.fromarray(mask)), "image/png"),
        prompt="sharpen",
    )
    raw = base64.b64decode(reply.parse().data[0].b64_json)
    return np.asarray(Image.open(io.BytesIO(raw)).convert("RGB")), reply.headers[HEADER_MODEL]


def check_edit(url, version):
    pixels, (made, by) = picture()[0], edited(url)
    far = np.ones((48, 64), bool)
    far[BOX[1] - 12 : BOX[3] + 12, BOX[0] - 12 : BOX[2] + 12] = False
    assert by == version and made.shape == pixels.shape
    assert (made[far] == pixels[far]).all() and (made != pixels).any()
    assert (edited(url)[0] == made).all()


def test_burnish_serve_answers_the_public_client_and_takes_new_weights_live(smoke, ready, tmp_path):
    port, place = free_port(), tmp_path / "server"
    command = [sys.executable, "-m", "burnish.platform.cli", "serve", smoke.id, "--runs-dir", str(smoke.path.parent)]
    url = ready([*command, "--directory", str(place), "--port", str(port)], port, tmp_path / "log")
    check_edit(url, "tuned@1")
    snapshot, _, lineage, _ = serving.source_of(smoke.id, smoke.path.parent, "step-000003")
    admin = Client(url, token=Store(place).token("admin"))
    assert admin.promote(snapshot, policy="tuned", lineage=lineage)["state"] == "active"
    check_edit(url, "tuned@2")


@pytest.mark.slow
def test_a_serve_config_file_runs_the_same_application(smoke, ready, tmp_path):
    place, port = tmp_path / "server", free_port()
    serving.prepare(place, source=smoke.id, runs_dir=smoke.path.parent, checkpoint="last", name="tuned")
    Store(place).token("admin")
    manifest = yaml.safe_load(MANIFEST.read_text())
    config = yaml.safe_load(manifest["spec"]["serveConfigV2"])
    config["proxy_location"], config["http_options"] = "HeadOnly", {"host": "127.0.0.1", "port": port}
    (application,) = config["applications"]
    application["args"] |= {"directory": str(place), "replicas": 1, "cpus": 0.5, "gpus": 0}
    del application["args"]["hosts"]  # loopback, by default
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "ray.serve.scripts", "run", str(tmp_path / "serve.yaml")]
    url = ready(command, port, tmp_path / "log", RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")
    check_edit(url, "tuned@1")
