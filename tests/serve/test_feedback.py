"""What users say, as examples that a recipe's data source reads."""

import json

import numpy as np
import pytest

from burnish.data.errors import DataError
from burnish.data.layout import SPLITS, DataConfig
from burnish.data.sources import make_source


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "feedback"


@pytest.fixture
def client(serve, folder):
    return serve(feedback=str(folder))


def said(client, reply, **fields):
    return client.post("/v1/feedback", json={"request_id": reply["id"], **fields})


def holds(source, split):
    try:
        return source.count(split) > 0
    except DataError:
        return False


def rows(folder):
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def test_feedback_is_off_unless_a_directory_is_configured(kit, shared):
    reply = shared.post("/v1/refine", json=kit.body()).json()
    assert said(shared, reply, verdict="better").status_code == 404


def test_a_liked_picture_becomes_an_example_with_it_as_target(kit, client, folder):
    shown = [{"kind": "style", "image": kit.text(kit.encoded(kit.noise(20, 12, seed=3)))}]
    reply = client.post("/v1/refine", json=kit.body(references=shown, instruction="two\nlines\u200b", seed=9)).json()
    assert said(client, reply, verdict="better").status_code == 201
    sources = {"sources": [{"kind": "manifest", "path": str(folder / "manifest.jsonl")}]}
    source = make_source(DataConfig.model_validate_json(json.dumps(sources)))
    example = next(source.example(split, 0) for split in SPLITS if holds(source, split))
    np.testing.assert_array_equal(
        (example.target * 255).round().transpose(1, 2, 0), kit.decoded(reply["images"][0]["b64"])
    )
    np.testing.assert_array_equal((example.image * 255).round().transpose(1, 2, 0), kit.noise())
    assert example.mask.sum() == 12 * 12 and [r.kind for r in example.references] == ["style"]
    assert example.instruction == "two lines" and rows(folder)[0]["meta"]["seed"] == 9


def test_a_corrected_picture_is_the_target_and_a_disliked_one_is_none(kit, client, folder):
    first, second = (client.post("/v1/refine", json=kit.body(seed=k)).json() for k in (1, 2))
    right = kit.noise(seed=5)
    assert said(client, first, corrected=kit.text(kit.encoded(right))).status_code == 201
    assert said(client, second, verdict="worse").status_code == 201
    corrected, worse = rows(folder)
    np.testing.assert_array_equal(kit.decoded((folder / corrected["target"]).read_bytes()), right)
    assert "target" not in worse and worse["meta"]["verdict"] == "worse" and worse["meta"]["policy"] == "tuned@1"


def test_a_later_word_takes_the_place_of_the_earlier_one(kit, client, folder):
    one, two = (client.post("/v1/refine", json=kit.body(seed=k)).json() for k in (1, 2))
    for reply, verdict in ((one, "better"), (two, "better"), (one, "worse")):
        said(client, reply, verdict=verdict)
    assert [(row["id"], row["meta"]["verdict"]) for row in rows(folder)] == [
        (two["id"], "better"),
        (one["id"], "worse"),
    ]


def test_neither_verdict_nor_picture_or_one_that_does_not_fit_is_refused(kit, client):
    reply = client.post("/v1/refine", json=kit.body()).json()
    odd = kit.text(kit.encoded(kit.noise(41, 32)))
    refused = [said(client, reply), said(client, reply, corrected=odd), said(client, reply, verdict="fine")]
    assert [found.status_code for found in refused] == [422] * 3
    problem = refused[1].json()["error"]["problems"][0]
    assert "of the size of the picture" in problem.pop("hint")
    assert problem == {"field": "corrected", "got": "41x32", "allowed": "40x32"}


def test_the_directory_is_bounded(kit, serve, folder):
    client = serve(feedback=str(folder), feedback_bytes=1 << 20)
    (folder / "filler").write_bytes(bytes((1 << 20) - 1000))
    reply = client.post("/v1/refine", json=kit.body()).json()
    assert said(client, reply, verdict="better").json()["error"]["code"] == "feedback_full"
    assert [path.name for path in folder.iterdir()] == ["filler"]


def test_requests_are_remembered_within_bounds(kit, client, monkeypatch):
    from burnish.serve import feedback

    monkeypatch.setattr(feedback, "REMEMBERED", 50_000)
    replies = [client.post("/v1/refine", json=kit.body(seed=k)).json() for k in range(3)]
    assert [said(client, reply, verdict="better").status_code for reply in replies] == [404, 404, 201]
