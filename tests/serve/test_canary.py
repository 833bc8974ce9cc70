"""A canary: its share, its score, what rolls it back by itself, and what does not."""

from burnish.serve.refusal import ReplicaDied, unavailable


def test_a_canary_gets_its_share_and_is_accepted(kit, client, promote, admin):
    reply = promote("good", canary=0.25)
    assert reply.json()["state"] == "canary"
    assert kit.until_state(client, 2, "canary")["share"] == 0.25
    answered = [kit.version_of(client) for _ in range(20)]
    assert (answered.count("tuned@2"), answered.count("tuned@1")) == (5, 15)
    assert kit.version_of(client, model="tuned@2") == "tuned@2"
    admin("canary", share=0.5)
    assert [kit.version_of(client) for _ in range(4)].count("tuned@2") == 2
    assert admin("canary", accept=True).json()["state"] == "active"
    assert kit.version_of(client) == "tuned@2" and kit.standings(client)[1]["state"] == "held"


def test_a_canary_that_scores_worse_is_rolled_back_by_itself_and_the_log_says_why(kit, client, promote, directory):
    promote("good")
    assert promote("bad", canary=0.5).json()["state"] == "canary"
    found = kit.until_state(client, 3, "refused")
    assert "canary score" in found["reason"] and "is worse than 0" in found["reason"]
    assert {kit.version_of(client) for _ in range(6)} == {"tuned@2"}
    last = kit.events(directory)[-1]
    assert (last["event"], last["version"], last["to"], last["reason"]) == ("rolled_back", 3, 2, found["reason"])
    assert 'burnish_version_changes_total{event="rolled_back"} 1.0' in client.get("/metrics").text


def test_a_canary_that_scores_well_stays_and_says_its_score(kit, client, promote):
    promote("good", canary=0.5)
    assert kit.scored(client, 2)["score"] == 0.0 and kit.standings(client)[2]["state"] == "canary"


def test_a_canary_whose_requests_fail_is_rolled_back(kit, client, promote):
    promote("good", canary=0.5)
    kit.scored(client, 2)
    service, generate = client.door.service, client.door.service.backend.generate

    async def failing(version, *given):
        if version.number == 2:
            raise RuntimeError("out of memory")
        return await generate(version, *given)

    service.backend.generate = failing
    statuses = [client.post("/v1/refine", json=kit.body()).status_code for _ in range(8)]
    assert set(statuses) == {200, 500} and statuses.count(500) <= 4
    assert "requests failed" in kit.until_state(client, 2, "refused")["reason"]


def test_replicas_that_are_gone_say_nothing_of_a_canary(kit, client, promote, directory):
    client.get("/readyz")
    service, generate, refused = client.door.service, client.door.service.backend.generate, []

    async def gone(*given):
        if len(refused) < 2:
            refused.append(1)
            raise unavailable("every replica is full")
        return await generate(*given)

    service.backend.generate = gone
    promote("good", canary=0.5)
    assert kit.scored(client, 2)["state"] == "canary" and len(refused) == 2
    assert "rolled_back" not in {entry["event"] for entry in kit.events(directory)}


def test_a_canary_whose_examples_kill_replicas_is_rolled_back(kit, client, promote, monkeypatch):
    monkeypatch.setattr("burnish.serve.promotion.FIRST_PAUSE", 0.0)
    client.get("/readyz")

    async def died(*given):
        raise ReplicaDied

    client.door.service.backend.generate = died
    promote("good", canary=0.5)
    assert "a replica died" in kit.until_state(client, 2, "refused")["reason"]


def test_a_second_promotion_during_a_canary_is_refused(client, promote):
    promote("good", canary=0.5)
    assert promote("good").json()["error"]["code"] == "promotion_refused"


def test_a_restart_keeps_versions_and_the_canary_on_trial(kit, serve, client, promote):
    promote("good", canary=0.5)
    again = serve()
    assert kit.standings(again)[2]["state"] == "canary"
    assert {kit.version_of(again) for _ in range(4)} == {"tuned@1", "tuned@2"}


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
        if kit.standings(again)[2]["state"] == "refused":
            break
    assert k >= 15 and "votes say worse" in kit.standings(again)[2]["reason"]
