"""The thin client against a server on a socket, and against one that fails."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest

from burnish.data.errors import ConfigError, InfrastructureError
from burnish.serve.client import Client
from burnish.serve.local import local_server
from burnish.serve.store import Store


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture
def address(kit, directory, tmp_path):
    """A server on loopback, in a thread of this process."""
    port = free_port()
    config = kit.config_of(directory, feedback=str(tmp_path / "feedback"))
    stop = local_server(config, host="127.0.0.1", port=port)
    yield f"http://127.0.0.1:{port}"
    stop()


def test_refining_promoting_and_rolling_back_over_a_socket(kit, material, directory, address):
    client = Client(address, token=Store(directory).token("admin"))
    picture = kit.encoded(kit.noise())
    first = client.refine(picture, box=[4, 4, 12, 12], references=[("style", picture)], seed=2)
    assert kit.decoded(first.images[0]).shape == (32, 40, 3) and first.reply["model"] == "tuned@1"
    lineage = {"run": "r", "iterations": 4}
    assert client.promote(material.root / "good", policy="tuned", lineage=lineage)["model"] == "tuned@2"
    assert client.refine(picture, box=[4, 4, 12, 12]).reply["version"] == 2
    assert client.rollback(reason="test")["model"] == "tuned@1"
    client.feedback(first.reply["id"], "better")
    assert [policy["name"] for policy in client.policies()] == ["tuned", "base"]
    with pytest.raises(ConfigError) as refused:
        client.refine(picture, box=[0, 0, 99, 99])
    assert refused.value.problems[0].field == "box"


def test_a_port_that_is_taken_is_said(kit, directory, address):
    with pytest.raises(InfrastructureError, match="cannot be had"):
        local_server(kit.config_of(directory), host="127.0.0.1", port=int(address.rpartition(":")[2]))


class Failing(BaseHTTPRequestHandler):
    """Answers with what stands in `script`, then with an empty answer; notes the keys it saw."""

    script: ClassVar[list[tuple[int, dict[str, str]]]] = []
    keys: ClassVar[list[str]] = []

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.keys.append(self.headers["idempotency-key"])
        status, headers = self.script.pop(0) if self.script else (200, {})
        if status == 0:
            self.connection.close()
            return
        body = json.dumps({"images": [], "model": "m"} if status == 200 else {"error": "x"}).encode()
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """Say nothing."""


@pytest.fixture
def failing():
    Failing.script, Failing.keys = [], []
    with HTTPServer(("127.0.0.1", 0), Failing) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield Failing, Client(f"http://127.0.0.1:{server.server_port}", tries=4)
        server.shutdown()
        thread.join()


def test_what_may_pass_is_sent_again_under_the_same_key(failing):
    handler, client = failing
    handler.script[:] = [(503, {"retry-after": "0"}), (429, {"retry-after": "0"}), (0, {})]
    assert client.refine(b"x").reply == {"model": "m"}
    assert len(handler.keys) == 4 and len(set(handler.keys)) == 1
    client.refine(b"x")
    assert len(set(handler.keys)) == 2


def test_a_date_in_retry_after_is_waited_for_a_second_and_a_foreign_answer_is_no_servers(failing, monkeypatch):
    handler, client = failing
    paused = []
    monkeypatch.setattr("burnish.serve.client.time.sleep", paused.append)
    handler.script[:] = [(503, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}), (503, {"retry-after": "99999"})]
    client.refine(b"x")
    assert paused == [1.0, 60.0]
    with pytest.raises(InfrastructureError, match="no server of burnish answers: status 200"):
        client.rollback()


def test_an_endless_failure_is_said_and_a_redirect_is_not_followed(failing):
    handler, client = failing
    handler.script[:] = [(503, {"retry-after": "0"})] * 4
    with pytest.raises(InfrastructureError, match="did not answer: status 503"):
        client.refine(b"x")
    handler.script[:] = [(302, {"location": "http://127.0.0.1:1/"})]
    with pytest.raises(InfrastructureError, match="no server of burnish answers"):
        client.refine(b"x")
