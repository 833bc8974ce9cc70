"""What Ray Serve is given, how replicas are asked, and what stands round the proxy; live ones: tests/benchmarks."""

import asyncio
import json

import pytest
from pydantic import ValidationError

from burnish.data.errors import CheckpointError
from burnish.serve.door import Door
from burnish.serve.proxy import Answering, middlewares

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
"""Ray Serve's import warns of pydantic."""


def test_the_application_is_built_from_plain_values_and_refuses_unknown_ones(directory):
    from burnish.serve.deploy import build

    app = build({"directory": str(directory), "replicas": 2, "queue": 8})
    ingress = app._bound_deployment
    assert (ingress.name, ingress.num_replicas) == ("Ingress", 1)
    (replicas,) = ingress.init_args
    assert (replicas._bound_deployment.name, replicas._bound_deployment.num_replicas) == ("Replica", 2)
    with pytest.raises(ValidationError, match="replica"):
        build({"directory": str(directory), "replica": 2})


class RayActorError(Exception):
    """By its name a replica's death."""


class Handle:
    """Serve's handle: every call of all replicas is answered with `answers`, as far as they are there in time."""

    def __init__(self, *answers):
        self.answers, self.waited = answers, []

    def broadcast(self, method, *args):
        return self

    def results(self, *, timeout_s, return_exceptions):
        self.waited.append(timeout_s)
        return list(self.answers)


def backend_of(*answers):
    from burnish.serve.deploy import ReplicaBackend

    return ReplicaBackend(Handle(*answers))


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), TimeoutError(), CheckpointError("no")])
def test_a_live_replica_that_cannot_load_a_version_is_heard(error):
    with pytest.raises(type(error)):
        asyncio.run(backend_of("digest", error).load("version"))


def test_only_a_dead_replica_is_left_out():
    assert asyncio.run(backend_of("digest", RayActorError()).load("version")) == ["digest"]


def test_a_look_at_the_replicas_occupies_its_thread_for_seconds_only():
    from burnish.serve.deploy import PUSH_SECONDS

    backend = backend_of(["digest"])
    assert asyncio.run(backend.holds()) == [["digest"]]
    assert backend._handle.waited[0] < 5.0 < PUSH_SECONDS


def test_a_door_holds_plain_values_until_it_is_opened(kit, directory):
    def never():
        raise AssertionError("built too early")

    door = Door(kit.config_of(directory), never)
    assert door.service is None


async def silent(scope, receive, send):
    """Serve's proxy when the ingress dies: no answer at all."""


async def twice(scope, receive, send):
    """Serve's proxy: it adds the id that the guard has written."""
    headers = [(b"x-request-id", b"a"), (b"x-other", b"b"), (b"x-request-id", b"a")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


def sent_by(app):
    messages = []

    async def send(message):
        messages.append(message)

    asyncio.run(Answering(app)({"type": "http"}, None, send))
    return messages


def test_a_request_whose_ingress_died_is_told_to_come_again():
    start, body = sent_by(silent)
    assert start["status"] == 503 and (b"retry-after", b"1") in start["headers"]
    assert json.loads(body["body"])["error"]["code"] == "unavailable"


def test_an_answer_passes_and_names_its_request_once():
    start, body = sent_by(twice)
    assert start["headers"] == [(b"x-request-id", b"a"), (b"x-other", b"b")] and body["body"] == b"ok"
    assert [entry.cls for entry in middlewares()] == [Answering]
