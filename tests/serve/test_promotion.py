"""New weights live: digest check, canary score, switch, share, rollback by hand and by itself."""

import base64
import json
import time

import numpy as np
import pytest

from burnish.serve.probe import Probe
from burnish.serve.refusal import Refusal


@pytest.fixture
def promote(kit, client, material, directory):
    """Promote a snapshot by name; gives the reply."""

    def send(name, *, snapshot=None, adapter=None, headers=None, **options):
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
def admin(kit, client):
    """Call an admin route with its token."""
    return lambda path, **body: client.post(f"/v1/admin/{path}", json=body, headers=kit.bearer(client.door))


def version_of(kit, client, **fields):
    reply = client.post("/v1/refine", json=kit.body(**fields))
    assert reply.status_code == 200, reply.text
    return reply.headers["x-burnish-model"]


def standings(client):
    (tuned, _) = client.get("/v1/policies").json()["policies"]
    return {entry["version"]: entry for entry in tuned["versions"]}


def until_state(client, number, state):
    end = time.monotonic() + 30.0
    while (found := standings(client)[number])["state"] != state:
        assert time.monotonic() < end, found
        time.sleep(0.02)
    return found


def scored(client, number):
    end = time.monotonic() + 30.0
    while (found := standings(client)[number])["score"] is None:
        assert time.monotonic() < end, found
        time.sleep(0.02)
    return found


def events(directory):
    return [json.loads(line) for line in (directory / "events.jsonl").read_text().splitlines()]


def test_a_better_version_is_taken_live_and_the_old_one_kept(kit, client, promote, material, directory):
    before = client.post("/v1/refine", json=kit.body()).json()
    reply = promote("good", lineage={"run": "r2", "iterations": 4})
    assert reply.status_code == 200 and reply.json()["state"] == "active" and reply.json()["version"] == 2
    assert reply.json()["digest"] == material.version("good").digest and reply.json()["score"] == 0.0
    after = client.post("/v1/refine", json=kit.body()).json()
    assert (after["model"], after["digest"]) == ("tuned@2", reply.json()["digest"])
    assert after["images"][0]["b64"] != before["images"][0]["b64"]
    pinned = client.post("/v1/refine", json=kit.body(model="tuned@1")).json()
    assert pinned["images"] == before["images"]
    assert standings(client)[2]["lineage"]["run"] == "r2" and standings(client)[1]["state"] == "held"
    assert [entry["event"] for entry in events(directory)] == ["promoted"]


def test_the_canary_is_scored_by_the_runs_gold_rewards_and_a_worse_one_is_refused(kit, client, promote, directory):
    assert promote("good").status_code == 200
    reply = promote("bad")
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (409, "promotion_refused", "score")
    assert "is worse than 0" in error["message"]
    assert version_of(kit, client) == "tuned@2"
    assert [(entry["event"], entry["version"]) for entry in events(directory)] == [("promoted", 2), ("refused", 3)]


class Watching:
    """A gold reward that keeps what it is shown."""

    direction = 1

    def __init__(self):
        self.seen = []

    def score(self, images, examples):
        self.seen.append((images[0].copy(), examples[0]))
        return np.zeros(len(images), np.float32)


def test_canary_rewards_see_what_the_policy_made_before_paste_back(client, promote, material):
    client.get("/readyz")
    promoter, reward = client.door.service.promoter, Watching()
    (example, *_), ((spec, _),) = promoter._probe.examples, promoter._probe.rewards
    promoter._probe = Probe((example,), ((spec, reward),))
    assert promote("good").status_code == 200
    for name, (image, view) in zip(("good", "plain"), reward.seen, strict=True):
        refiner = material.refiner(name)
        (piece,) = refiner.focus.cut_out(example)
        np.testing.assert_array_equal(image, refiner.generate([refiner.policy.encode(piece.view)], seeds=[0])[0])
        assert (image != refiner.refine(example))[:, 0].any(), "paste-back would have restored the first row"
        np.testing.assert_array_equal(view.target, example.target)
        np.testing.assert_array_equal(view.mask, piece.view.mask)


def test_rolling_back_returns_the_version_before_and_there_is_an_end_to_it(kit, client, promote, admin, directory):
    promote("good")
    reply = admin("rollback", reason="the label is worse")
    assert (reply.json()["rolled_back"], reply.json()["model"]) == ("tuned@2", "tuned@1")
    assert version_of(kit, client) == "tuned@1" and standings(client)[2]["state"] == "refused"
    assert events(directory)[-1]["reason"] == "the label is worse"
    again = admin("rollback")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "nothing_to_roll_back")
    assert client.post("/v1/refine", json=kit.body(model="tuned@2")).status_code == 422


def test_numbers_are_never_used_again(client, promote, admin):
    promote("good")
    admin("rollback")
    assert promote("good").json()["version"] == 3


def test_a_canary_gets_its_share_and_is_accepted(kit, client, promote, admin):
    reply = promote("good", canary=0.25)
    assert reply.json()["state"] == "canary"
    assert until_state(client, 2, "canary")["share"] == 0.25
    answered = [version_of(kit, client) for _ in range(20)]
    assert (answered.count("tuned@2"), answered.count("tuned@1")) == (5, 15)
    assert version_of(kit, client, model="tuned@2") == "tuned@2"
    admin("canary", share=0.5)
    assert [version_of(kit, client) for _ in range(4)].count("tuned@2") == 2
    assert admin("canary", accept=True).json()["state"] == "active"
    assert version_of(kit, client) == "tuned@2" and standings(client)[1]["state"] == "held"


def test_a_canary_that_scores_worse_is_rolled_back_by_itself_and_the_log_says_why(kit, client, promote, directory):
    promote("good")
    assert promote("bad", canary=0.5).json()["state"] == "canary"
    found = until_state(client, 3, "refused")
    assert "canary score" in found["reason"] and "is worse than 0" in found["reason"]
    assert {version_of(kit, client) for _ in range(6)} == {"tuned@2"}
    last = events(directory)[-1]
    assert (last["event"], last["version"], last["to"], last["reason"]) == ("rolled_back", 3, 2, found["reason"])
    assert 'burnish_version_changes_total{event="rolled_back"} 1.0' in client.get("/metrics").text


def test_a_canary_that_scores_well_stays_and_says_its_score(client, promote):
    promote("good", canary=0.5)
    assert scored(client, 2)["score"] == 0.0 and standings(client)[2]["state"] == "canary"


def test_a_canary_whose_requests_fail_is_rolled_back(kit, client, promote):
    promote("good", canary=0.5)
    scored(client, 2)
    service, generate = client.door.service, client.door.service.backend.generate

    async def failing(version, *given):
        if version.number == 2:
            raise RuntimeError("out of memory")
        return await generate(version, *given)

    service.backend.generate = failing
    statuses = [client.post("/v1/refine", json=kit.body()).status_code for _ in range(8)]
    assert set(statuses) == {200, 500} and statuses.count(500) <= 4
    assert "requests failed" in until_state(client, 2, "refused")["reason"]


def test_replicas_that_are_gone_say_nothing_of_a_canary(client, promote, directory):
    client.get("/readyz")
    service, generate, refused = client.door.service, client.door.service.backend.generate, []

    async def gone(*given):
        if len(refused) < 2:
            refused.append(1)
            raise Refusal(503, "unavailable", "a replica died", retry=0)
        return await generate(*given)

    service.backend.generate = gone
    promote("good", canary=0.5)
    assert scored(client, 2)["state"] == "canary" and len(refused) == 2
    assert "rolled_back" not in {entry["event"] for entry in events(directory)}


def test_an_upload_that_claims_weights_which_are_held_is_looked_at_all_the_same(kit, client, promote, material):
    record = json.loads((material.root / "bad" / "snapshot.json").read_bytes())
    record["policy_digest"] = material.version("plain").digest
    reply = promote("bad", snapshot=json.dumps(record).encode())
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "promotion_refused")
    assert reply.json()["error"]["param"] == "digest" and version_of(kit, client) == "tuned@1"


def test_the_same_weights_under_another_sampler_are_scored_anew(client, promote, material):
    promote("good")
    record = json.loads((material.root / "good" / "snapshot.json").read_bytes())
    record["sampler"]["num_steps"] = 1
    reply = promote("good", snapshot=json.dumps(record).encode())
    assert reply.status_code == 409 and reply.json()["error"]["param"] == "score"


def test_a_second_promotion_during_a_canary_is_refused(client, promote):
    promote("good", canary=0.5)
    assert promote("good").json()["error"]["code"] == "promotion_refused"


def test_the_base_is_not_promoted_and_an_unknown_policy_is_named(promote):
    assert promote("good", policy="base").status_code == 409
    assert promote("good", policy="other").json()["error"]["param"] == "policy"


def changed(material, **fields):
    return json.dumps(json.loads((material.root / "good" / "snapshot.json").read_bytes()) | fields).encode()


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"policy_digest": "0" * 64}, 409, "digest"),
        ({"base_digest": "0" * 64}, 422, "snapshot.base_digest"),
        ({"family": "kontext"}, 422, "snapshot.family"),
        ({"adapter": {"rank": 5000}}, 422, "snapshot.adapter.rank"),
        ({"format_version": 99}, 422, None),
        ({"sampler": {"kind": "ode", "num_steps": 5000}}, 422, "snapshot.sampler.num_steps"),
    ],
)
def test_a_snapshot_that_does_not_fit_is_refused(kit, client, promote, material, directory, fields, status, param):
    reply = promote("good", snapshot=changed(material, **fields))
    assert reply.status_code == status, reply.text
    assert param is None or reply.json()["error"]["param"] == param
    assert version_of(kit, client) == "tuned@1" and set(standings(client)) == {1}


@pytest.mark.parametrize("adapter", [b"\x80\x04K\x01.", b"PK\x03\x04" + bytes(64), b"", bytes(64)])
def test_an_adapter_that_is_no_safetensors_file_is_never_opened_as_anything_else(promote, directory, adapter):
    reply = promote("good", adapter=adapter)
    assert reply.status_code == 422, reply.text
    assert not list((directory / "versions").glob("*")) and not list(directory.glob(".upload-*"))


def test_an_adapter_beyond_the_limit_is_refused_while_it_streams(kit, serve, material, directory):
    client = serve(promote_bytes=1 << 10)
    sent = {
        "x-burnish-options": base64.b64encode(b'{"policy": "tuned"}').decode(),
        "x-burnish-snapshot": base64.b64encode(b"{}").decode(),
    }
    body = (bytes(1 << 9) for _ in range(4))
    reply = client.post("/v1/admin/promote", content=body, headers=sent | kit.bearer(client.door))
    assert reply.status_code == 413 and not list(directory.glob(".upload-*"))


def test_a_restart_keeps_versions_and_the_canary_on_trial(kit, serve, client, promote):
    promote("good", canary=0.5)
    again = serve()
    assert standings(again)[2]["state"] == "canary"
    assert {version_of(kit, again) for _ in range(4)} == {"tuned@1", "tuned@2"}


def test_votes_of_users_give_a_canary_up(kit, serve, material, tmp_path, directory):
    client = serve(feedback=str(tmp_path / "feedback"))
    versions = client.door.open().versions
    versions.enter(material.version("good", number=2), now=0.0, state="canary", share=0.5)
    client.door.service.store.write(versions)
    again = serve(feedback=str(tmp_path / "feedback2"))
    for k in range(20):
        reply = again.post("/v1/refine", json=kit.body(seed=k)).json()
        verdict = "worse" if reply["version"] == 2 else "better"
        for _ in range(3):  # only the first word on a request counts
            again.post("/v1/feedback", json={"request_id": reply["id"], "verdict": verdict})
        if standings(again)[2]["state"] == "refused":
            break
    assert k >= 15 and "votes say worse" in standings(again)[2]["reason"]
