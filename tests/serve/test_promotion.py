"""New weights live: digest check, canary score, switch, share, rollback by hand and by itself."""

import base64
import json

import numpy as np
import pytest
from safetensors.numpy import load, save

from burnish.policies.snapshot import ADAPTER_FILE
from burnish.policies.tiny import TinyPolicy
from burnish.serve.probe import Probe
from burnish.serve.refusal import unavailable


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
    assert kit.standings(client)[2]["lineage"]["run"] == "r2" and kit.standings(client)[1]["state"] == "held"
    assert [entry["event"] for entry in kit.events(directory)] == ["promoted"]


def test_the_canary_is_scored_by_the_runs_gold_rewards_and_a_worse_one_is_refused(kit, client, promote, directory):
    assert promote("good").status_code == 200
    reply = promote("bad")
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (409, "promotion_refused", "score")
    assert "is worse than 0" in error["message"]
    assert kit.version_of(client) == "tuned@2"
    assert [(entry["event"], entry["version"]) for entry in kit.events(directory)] == [("promoted", 2), ("refused", 3)]


def test_a_request_that_would_be_cut_is_refused_and_a_canary_example_is_cut_as_in_training(
    kit, client, promote, monkeypatch
):
    monkeypatch.setattr(TinyPolicy, "prompt_tokens", lambda self, text: (1 + len(text), 1), raising=False)
    reply = client.post("/v1/refine", json=kit.body(instruction="sharpen"))
    (problem,) = reply.json()["error"]["problems"]
    assert reply.status_code == 422
    assert problem == {"field": "instruction", "got": "8 tokens", "allowed": "at most 1", "hint": "shorten it"}
    examples = client.door.service.promoter._probe.examples
    assert examples and all(example.instruction for example in examples)
    assert promote("good").status_code == 200
    assert client.post("/v1/refine", json=kit.body(instruction="")).status_code == 200


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
    assert kit.version_of(client) == "tuned@1" and kit.standings(client)[2]["state"] == "refused"
    assert kit.events(directory)[-1]["reason"] == "the label is worse"
    again = admin("rollback")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "nothing_to_roll_back")
    assert client.post("/v1/refine", json=kit.body(model="tuned@2")).status_code == 422


def test_numbers_are_never_used_again(client, promote, admin):
    promote("good")
    admin("rollback")
    assert promote("good").json()["version"] == 3


def test_a_promotion_that_ends_early_leaves_nothing_loaded_and_no_files(client, promote, material, directory):
    client.get("/readyz")

    async def full(*given):
        raise unavailable("every replica is full")

    client.door.service.backend.generate = full
    assert promote("good").status_code == 503
    held = client.get("/v1/policies").json()
    assert material.version("good").digest not in json.dumps(held)
    assert material.version("good").digest not in client.door.service.backend._engine.holds()
    assert list((directory / "versions").iterdir()) == []


def test_a_version_that_a_replica_fails_to_load_is_refused_with_the_reason(kit, client, promote, directory):
    assert kit.version_of(client) == "tuned@1"

    async def failing(version):
        raise RuntimeError("CUDA out of memory")

    client.door.service.backend.load = failing
    reply = promote("good")
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (409, "promotion_refused", "replica")
    assert "RuntimeError: CUDA out of memory" in error["message"] and kit.version_of(client) == "tuned@1"
    assert list((directory / "versions").iterdir()) == []


def test_a_replica_that_does_not_forget_undoes_no_promotion(kit, client, promote):
    client.get("/readyz")

    async def hanging(digests):
        raise TimeoutError

    client.door.service.backend.keep = hanging
    assert promote("good").status_code == 200 and kit.version_of(client) == "tuned@2"


def test_an_upload_that_claims_weights_which_are_held_is_looked_at_all_the_same(kit, client, promote, material):
    record = json.loads((material.root / "bad" / "snapshot.json").read_bytes())
    record["policy_digest"] = material.version("plain").digest
    reply = promote("bad", snapshot=json.dumps(record).encode())
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "promotion_refused")
    assert reply.json()["error"]["param"] == "digest" and kit.version_of(client) == "tuned@1"


def test_the_same_weights_under_another_sampler_are_scored_anew(client, promote, material):
    promote("good")
    record = json.loads((material.root / "good" / "snapshot.json").read_bytes())
    record["sampler"]["num_steps"] = 1
    reply = promote("good", snapshot=json.dumps(record).encode())
    assert reply.status_code == 409 and reply.json()["error"]["param"] == "score"


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
    assert kit.version_of(client) == "tuned@1" and set(kit.standings(client)) == {1}


@pytest.mark.parametrize("adapter", [b"\x80\x04K\x01.", b"PK\x03\x04" + bytes(64), b"", bytes(64)])
def test_an_adapter_that_is_no_safetensors_file_is_never_opened_as_anything_else(promote, directory, adapter):
    reply = promote("good", adapter=adapter)
    assert reply.status_code == 422, reply.text
    assert not list((directory / "versions").glob("*")) and not list(directory.glob(".upload-*"))


@pytest.mark.parametrize("case", ["layers", "shapes", "one axis"])
def test_an_adapter_of_another_model_is_refused_by_name(kit, client, promote, material, case):
    tensors = load((material.root / "good" / "adapter" / ADAPTER_FILE).read_bytes())
    changed = {
        "layers": {
            f"transformer.nothing.{k}.lora_{s}.weight": np.zeros((2, 2), np.float32) for k in "01" for s in "AB"
        },
        "shapes": {name: np.zeros((len(tensor), 7), np.float32) for name, tensor in tensors.items()},
        "one axis": {name: np.zeros(3, np.float32) for name in tensors},
    }
    reply = promote("good", adapter=save(changed[case]))
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (409, "promotion_refused", "adapter")
    (problem,) = error["problems"]
    assert problem["got"] and "shapes" in problem["allowed"] and "this base" in problem["hint"]
    assert kit.version_of(client) == "tuned@1"


def test_an_adapter_beyond_the_limit_is_refused_while_it_streams(kit, serve, material, directory):
    client = serve(promote_bytes=1 << 10)
    sent = {
        "x-burnish-options": base64.b64encode(b'{"policy": "tuned"}').decode(),
        "x-burnish-snapshot": base64.b64encode(b"{}").decode(),
    }
    body = (bytes(1 << 9) for _ in range(4))
    reply = client.post("/v1/admin/promote", content=body, headers=sent | kit.bearer(client.door))
    assert reply.status_code == 413 and not list(directory.glob(".upload-*"))
