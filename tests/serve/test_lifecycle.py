"""A request's life: repeats, company in a batch, a client that leaves, a deadline, a full queue, a server that ends."""

import asyncio
import threading
import time
from types import SimpleNamespace

import pytest

from burnish.serve.idempotency import Answer, Repeats


@pytest.fixture
def gate(kit):
    made = kit.Gate()
    yield made
    made.open.set()


class Call(threading.Thread):
    """A request in a thread of its own."""

    def __init__(self, client, body, **headers):
        super().__init__(daemon=True)
        self._client, self._body, self._headers = client, body, headers
        self.reply = None
        self.start()

    def run(self):
        self.reply = self._client.post("/v1/refine", json=self._body, headers=self._headers)

    def done(self):
        self.join(30.0)
        assert self.reply is not None
        return self.reply


def until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_repeat_with_its_key_gets_the_first_answer_without_the_work(kit, serve, gate):
    gate.open.set()
    client, key = serve(load=gate.load), {"idempotency-key": "k-1"}
    first, again = (client.post("/v1/refine", json=kit.body(), headers=key) for _ in range(2))
    assert first.content == again.content and len(gate.forwards) == 2
    assert "x-burnish-replayed" not in first.headers and again.headers["x-burnish-replayed"] == "true"
    assert first.headers["x-burnish-digest"] == again.headers["x-burnish-digest"]


def test_a_key_with_another_body_is_a_conflict_and_a_bad_key_is_refused(kit, client):
    client.post("/v1/refine", json=kit.body(), headers={"idempotency-key": "k"})
    assert client.post("/v1/refine", json=kit.body(seed=1), headers={"idempotency-key": "k"}).status_code == 409
    assert client.post("/v1/refine", json=kit.body(), headers={"idempotency-key": "k/../k"}).status_code == 422


def test_a_form_sent_again_with_another_boundary_is_the_same_request(kit, client):
    files, key = {"image": kit.encoded(kit.noise())}, {"idempotency-key": "k"}
    replies = [client.post("/v1/refine", files=files, data={"box": "2,2,9,9"}, headers=key) for _ in range(2)]
    assert replies[0].content == replies[1].content and replies[1].headers["x-burnish-replayed"] == "true"


def test_a_repeat_that_comes_while_the_first_is_in_work_waits_for_it(kit, serve, gate):
    client = serve(load=gate.load)
    first = Call(client, kit.body(), **{"idempotency-key": "k"})
    until(lambda: gate.forwards)
    second = Call(client, kit.body(), **{"idempotency-key": "k"})
    until(lambda: client.door.service.busy == 2)
    gate.open.set()
    assert first.done().content == second.done().content and len(gate.forwards) == 2


def test_a_refused_request_is_not_remembered(kit, client):
    key = {"idempotency-key": "k"}
    late = kit.body(deadline=time.time() - 1)
    assert [client.post("/v1/refine", json=late, headers=key).status_code for _ in range(2)] == [408, 408]


@pytest.mark.parametrize(("ahead", "allowed"), [(-5.0, 408), (0.4, 408), (30.0, 200)])
def test_a_deadline_is_kept(kit, serve, gate, ahead, allowed):
    client = serve(load=gate.load)
    if allowed == 200:
        gate.open.set()
    reply = client.post("/v1/refine", json=kit.body(deadline=time.time() + ahead))
    assert reply.status_code == allowed
    assert allowed == 200 or reply.json()["error"]["param"] == "deadline"


def test_work_that_nobody_waits_for_ends_at_its_next_step(kit, serve, gate):
    client = serve(load=gate.load)
    gate.open.set()
    client.post("/v1/refine", json=kit.body())
    gate.open.clear()
    late = Call(client, kit.body(steps=50, deadline=time.time() + 2.0))
    until(lambda: len(gate.forwards) == 3)
    assert late.done().status_code == 408
    gate.open.set()
    assert client.post("/v1/refine", json=kit.body()).status_code == 200
    assert len(gate.forwards) <= 6


def test_a_full_queue_refuses_at_once_and_what_was_accepted_finishes(kit, serve, gate):
    client = serve(load=gate.load, queue=3)
    accepted = [Call(client, kit.body(seed=k)) for k in range(3)]
    until(lambda: client.door.service.busy == 3)
    refused = [client.post("/v1/refine", json=kit.body()) for _ in range(9)]
    assert client.door.service.busy == 3  # none waited for those before it
    assert {reply.status_code for reply in refused} == {429}
    assert {reply.headers["retry-after"] for reply in refused} == {"1", "2", "3", "4"}  # not all come back at once
    assert client.get("/healthz").status_code == 200
    gate.open.set()
    assert [call.done().status_code for call in accepted] == [200] * 3


async def orphans_as_askers_leave():
    """Two ask for one work and leave one after the other; then somebody waits for its end."""
    repeats, ends = Repeats(), asyncio.Event()

    async def work():
        await ends.wait()
        return Answer(b"", {})

    askers = [asyncio.ensure_future(repeats.answer("k", "body", work)) for _ in range(2)]
    found = []
    for asker in askers:
        await asyncio.sleep(0)
        asker.cancel()
        await asyncio.wait([asker])
        found.append((repeats.orphans(), repeats.orphans(but="k")))
    ends.set()
    await repeats.answer("k", "body", work)
    return [*found, repeats.orphans()]


def test_work_that_goes_on_after_its_asker_left_keeps_its_place_in_the_queue(kit, serve):
    assert asyncio.run(orphans_as_askers_leave()) == [(0, 0), (1, 0), 0]
    client = serve(queue=3)
    client.get("/readyz")
    client.door.service.repeats = SimpleNamespace(orphans=lambda but: 3)
    assert client.post("/v1/refine", json=kit.body()).status_code == 429


def test_company_in_a_batch_changes_no_byte(kit, serve, gate):
    client = serve(load=gate.load, batch=3)
    gate.open.set()
    alone = [client.post("/v1/refine", json=kit.body(seed=k)).json()["images"] for k in range(3)]
    gate.open.clear()
    first = Call(client, kit.body(seed=9))
    until(lambda: client.door.service.busy == 1)
    calls = [Call(client, kit.body(seed=k)) for k in range(3)]
    until(lambda: client.door.service.busy == 4)
    time.sleep(0.2)
    before = len(gate.forwards)
    gate.open.set()
    assert [call.done().json()["images"] for call in calls] == alone
    assert first.done().status_code == 200 and set(gate.forwards) == {3}
    assert len(gate.forwards) - before < 2 * 4


def test_a_server_that_ends_lets_no_new_request_in_and_finishes_the_others(kit, serve, gate):
    client = serve(load=gate.load)
    call = Call(client, kit.body())
    until(lambda: gate.forwards)
    client.door.service.draining = True
    reply = client.post("/v1/refine", json=kit.body())
    assert reply.status_code == 503 and reply.headers["retry-after"] == "1"
    assert client.get("/readyz").status_code == 503 and client.get("/healthz").status_code == 200
    gate.open.set()
    assert call.done().status_code == 200


def test_a_replica_that_hangs_makes_the_server_unready_for_a_moment(client):
    client.get("/readyz")

    async def hanging():
        raise TimeoutError

    client.door.service.backend.holds = hanging
    reply = client.get("/readyz")
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert reply.json()["error"]["code"] == "unavailable"


def test_a_restarted_server_goes_on_with_its_versions(kit, serve, client, directory, material):
    before = client.post("/v1/refine", json=kit.body()).json()["images"]
    again = serve()
    assert again.post("/v1/refine", json=kit.body()).json()["images"] == before
    assert again.get("/v1/policies").json() == client.get("/v1/policies").json()
