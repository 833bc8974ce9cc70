import base64
import io
import json
import re
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from burnish.data.errors import ConfigError, InfrastructureError
from burnish.data.images import to_uint8
from burnish.rewards.batches import score_batches
from burnish.rewards.protocol import HasCounters, Reward, is_remote
from burnish.rewards.remote import HttpOptions, HttpReward, encode_image

FakeJudge = runpy.run_path(str(Path(__file__).with_name("fake_judge.py")))["FakeJudge"]
PAGE = (Path(__file__).parents[2] / "docs" / "judges.md").read_text()
FAST = {"timeout": 5.0, "deadline": 9.0, "backoff": 0.001, "attempts": 2, "ready_seconds": 5.0}


@pytest.fixture
def judge():
    with FakeJudge() as server:
        yield server


@pytest.fixture
def build(judge):
    return lambda **changes: HttpReward(HttpOptions.model_validate({"url": judge.score_url, **FAST, **changes}))


def counted(reward):
    return {name: value for name, value in reward.take_counters().items() if value}


def pixels(text):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


@pytest.mark.parametrize("body", ["json", "safetensors"])
def test_scores_are_what_the_service_says_in_the_rows_order(body, build, example, outputs):
    values = build(body=body, rows_per_request=5).score(outputs, [example] * 16)
    assert values.dtype == np.float32 and values.shape == (16,)
    assert values == pytest.approx([to_uint8(image).mean() / 255 for image in outputs])


def test_it_keeps_the_protocol_and_is_remote(build):
    reward = build(lowest=-5.0, highest=5.0)
    assert isinstance(reward, Reward) and isinstance(reward, HasCounters) and is_remote(reward)
    assert reward.range == (-5.0, 5.0) and HttpReward.range == (0.0, 1.0)


def test_a_json_request_holds_all_that_the_page_says(build, judge, example, outputs):
    build().score(outputs[:2], [example] * 2)
    sent = judge.requests[0].json()
    assert set(sent) == {"protocol", "rows", "examples", "images", "arrays"} and sent["rows"] == [0, 0]
    assert sent["examples"] == [{"id": "e0", "instruction": "restore it", "references": ["detail", "style"]}]
    assert set(sent["arrays"]) == {f"example0.{n}" for n in ("image", "mask", "target", "reference0", "reference1")}
    assert (pixels(sent["images"][1]) == to_uint8(outputs[1]).transpose(1, 2, 0)).all()
    assert (pixels(sent["arrays"]["example0.mask"]) == to_uint8(example.mask)[0]).all()


def test_a_safetensors_request_holds_the_same(build, judge, example, outputs):
    other = replace(example, id="other", target=None, references=())
    build(body="safetensors").score(outputs[:3], [example, other, example])
    sent, tensors = judge.requests[0].json(), judge.requests[0].tensors()
    assert sent["rows"] == [0, 1, 0] and [e["id"] for e in sent["examples"]] == ["e0", "other"]
    assert (tensors["images"] == to_uint8(outputs[:3])).all() and tensors["images"].dtype == np.uint8
    assert (tensors["example0.reference1"] == to_uint8(example.references[1].image)).all()
    assert {name for name in tensors if name.startswith("example1")} == {"example1.image", "example1.mask"}


@pytest.mark.parametrize("body", ["json", "safetensors"])
def test_what_is_not_to_be_sent_stays_here(body, build, judge, example, outputs):
    reward = build(body=body, **{f"send_{name}": False for name in ("image", "mask", "target", "references")})
    reward.score(outputs[:1], [example])
    sent = judge.requests[0].json()
    assert sent["examples"][0]["references"] == []
    assert not sent.get("arrays") and b"example0." not in judge.requests[0].body


def test_padding_rows_and_equal_outputs_are_asked_about_once(build, judge, example, outputs):
    reward = build()
    whole = score_batches(reward, outputs[:3], example=example, name="http", batch=16)
    assert [len(request.images()) for request in judge.requests] == [3]
    repeated = reward.score(outputs[[0, 1, 0, 2, 1]], [example] * 5)
    assert repeated.tolist() == whole[[0, 1, 0, 2, 1]].tolist() and len(judge.requests[1].images()) == 3
    reward.score(outputs[[0, 0]], [example, replace(example, instruction="another")])
    assert len(judge.requests[2].images()) == 2


def test_an_image_that_is_not_finite_is_missing_alone_and_not_sent(build, judge, example, outputs):
    broken = outputs[:3].copy()
    broken[1, 0, 0, 0] = np.nan
    values = build().score(broken, [example] * 3)
    assert np.isnan(values).tolist() == [False, True, False] and len(judge.requests[0].images()) == 2
    assert np.isnan(build().score(broken[1:2], [example])).all() and len(judge.requests) == 1


@pytest.mark.parametrize("mode", ["malformed", "short", "nan", "text", "beyond"])
def test_a_malformed_reply_is_asked_for_again_then_missing(mode, build, judge, example, outputs):
    judge.script, reward = [mode], build()
    assert np.isfinite(reward.score(outputs[:3], [example] * 3)).all()
    assert counted(reward) == {"requests": 2, "malformed": 1}
    judge.mode = mode
    assert np.isnan(reward.score(outputs[:3], [example] * 3)).all()
    assert counted(reward) == {"requests": 2, "malformed": 2}


@pytest.mark.parametrize(("mode", "failures"), [("500", 1), ("429", 1), ("404", 1), ("null", 0)])
def test_a_failure_or_a_null_is_missing_never_0(mode, failures, build, judge, example, outputs):
    judge.mode, reward = mode, build()
    assert np.isnan(reward.score(outputs[:3], [example] * 3)).all()
    assert reward.take_counters()["failures"] == failures


def test_one_failed_request_costs_only_its_rows(build, judge, example, outputs):
    judge.script = ["404"]
    values = build(rows_per_request=2, max_in_flight=1).score(outputs[:6], [example] * 6)
    assert np.isnan(values).tolist() == [True, True, False, False, False, False]


def test_a_slow_service_is_missing_after_its_deadline(build, judge, example, outputs):
    judge.mode = "slow"
    assert np.isnan(build(timeout=0.1, deadline=0.3).score(outputs[:1], [example])).all()


def test_while_the_breaker_is_open_rows_are_missing_and_counted(build, judge, example, outputs):
    judge.mode, reward = "500", build(attempts=1, breaker_failures=2)
    for _ in range(5):
        assert np.isnan(reward.score(outputs[:4], [example] * 4)).all()
    assert counted(reward) == {"requests": 2, "failures": 2, "breaker_open": 12}


def test_readiness_is_asked_in_the_requests_form(build, judge):
    for body in ("json", "safetensors"):
        build(body=body).check_ready()
    assert [request.images()[0].shape for request in judge.requests] == [(32, 32, 3)] * 2
    judge.mode = "401"
    with pytest.raises(ConfigError, match="HTTP 401"):
        build().check_ready()
    judge.mode = "slow"
    with pytest.raises(InfrastructureError, match="cannot be reached"):
        build(ready_seconds=0.1).check_ready()


def test_a_range_upside_down_is_refused():
    with pytest.raises(ValidationError, match="above lowest"):
        HttpOptions(url="https://host/", lowest=1.0, highest=1.0)


@pytest.mark.parametrize(("long_side", "size"), [(None, (40, 20)), (64, (40, 20)), (10, (10, 5)), (1, (1, 1))])
def test_images_are_shrunk_to_their_long_side_never_grown(long_side, size):
    image = np.full((3, 20, 40), 0.5, np.float32)
    found = Image.open(io.BytesIO(encode_image(image, form="jpeg", long_side=long_side)))
    assert found.size == size and found.format == "JPEG" and abs(int(np.asarray(found)[0, 0, 0]) - 128) <= 2


def test_the_service_on_the_page_understands_a_request(build, judge, example, outputs):
    names = {}
    exec(compile(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1], "service.py", "exec"), names)
    expected = build().score(outputs[:3], [example] * 3)
    reply = names["score"](json.loads(judge.requests[0].body))
    assert len(reply["scores"]) == len(expected) and all(0 <= value <= 1 for value in reply["scores"])
    assert reply["scores"][0] == pytest.approx(1.0)  # the first output is the target
