import base64
import io
import json
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from burnish.data.errors import ConfigError
from burnish.data.images import to_uint8
from burnish.rewards.batches import score_batches
from burnish.rewards.judge import Judge, JudgeOptions, chat_url
from burnish.rewards.judge_rubrics import RUBRICS
from burnish.rewards.protocol import HasCounters, Reward, is_remote

FakeJudge = runpy.run_path(str(Path(__file__).with_name("fake_judge.py")))["FakeJudge"]
FAST = {"timeout": 5.0, "deadline": 9.0, "backoff": 0.001, "attempts": 2, "ready_seconds": 5.0}
BOX = np.s_[:, 8:20, 4:16]  # the example's region
GROWN = np.s_[:, 5:23, 1:19]  # with a quarter of its side around it


@pytest.fixture
def server():
    with FakeJudge() as judge:
        yield judge


@pytest.fixture
def build(server):
    return lambda **changes: Judge(
        JudgeOptions.model_validate({"url": server.chat_url, "model": "m", **FAST, **changes})
    )


def counted(reward):
    return {name: value for name, value in reward.take_counters().items() if value}


def light(image):
    return to_uint8(image).mean() / 255


def captions(request):
    return [part["text"] for part in request.json()["messages"][1]["content"] if part["type"] == "text"]


def same(shown, image):
    return (shown == to_uint8(image).transpose(1, 2, 0)).all()


@pytest.mark.parametrize("rubric", RUBRICS)
def test_each_rubric_becomes_a_number_in_0_to_1_in_the_rows_order(rubric, build, example, outputs):
    values = build(rubric=rubric).score(outputs, [example] * 16)
    assert values.dtype == np.float32
    assert values == pytest.approx([light(image[GROWN]) for image in outputs], abs=1e-4)


def test_it_keeps_the_protocol_and_is_remote(build):
    reward = build()
    assert isinstance(reward, Reward) and isinstance(reward, HasCounters) and is_remote(reward)


def test_a_request_is_a_chat_completion(build, server, example, outputs):
    build(temperature=0.9, max_tokens=None, body={"seed": 7}).score(outputs[:1], [example])
    (request,), sent = server.requests, server.requests[0].json()
    assert request.path == "/v1/chat/completions" and set(sent) == {"model", "messages", "temperature", "seed"}
    assert [m["role"] for m in sent["messages"]] == ["system", "user"] and sent["temperature"] == 0.9
    assert sent["messages"][0]["content"] == RUBRICS["overall"].system


def test_the_target_and_the_output_are_cut_to_the_region_and_its_margin(build, server, example, outputs):
    build().score(outputs[5:6], [example])
    target, output = server.requests[0].images()
    assert same(target, example.target[GROWN]) and same(output, outputs[5][GROWN])
    build(margin=0.0).score(outputs[5:6], [example])
    assert same(server.requests[1].images()[1], outputs[5][BOX])
    build(crop="frame").score(outputs[5:6], [example])
    assert same(server.requests[2].images()[1], outputs[5])


@pytest.mark.parametrize(
    ("rubric", "changes", "shown"),
    [
        ("overall", {}, ["the target", "the output"]),
        ("text", {"target": None}, ["kind detail", "kind style", "the output"]),
        ("six", {}, ["kind detail", "kind style", "the output"]),
        ("six", {"references": (), "image": None, "mask": None}, ["the output"]),
        ("five", {}, ["the input", "the output"]),
    ],
)
def test_each_rubric_is_shown_what_it_compares(rubric, changes, shown, build, server, example, outputs):
    build(rubric=rubric).score(outputs[:1], [replace(example, **changes)])
    instruction, *found = captions(server.requests[0])
    assert "<<<\nrestore it\n>>>" in instruction and len(server.requests[0].images()) == len(shown) == len(found)
    for number, (caption, words) in enumerate(zip(found, shown, strict=True), start=1):
        assert caption.startswith(f"Image {number}: ") and words in caption


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({"rubric": "overall"}, {"target": None, "references": ()}),
        ({"rubric": "text"}, {"target": None, "references": ()}),
        ({"rubric": "five"}, {"mask": np.zeros((1, 24, 24), np.float32)}),
        ({"rubric": "six", "criterion": "lighting_consistency"}, {}),
    ],
)
def test_where_a_rubric_does_not_apply_nobody_is_asked(options, changes, build, server, example, outputs):
    values = build(**options).score(outputs[:2], [replace(example, **changes)] * 2)
    assert np.isnan(values).all() and server.requests == []


def test_examples_of_several_groups_are_judged_by_their_own(build, server, example, outputs):
    other = replace(example, id="other", target=None, references=())
    values = build().score(outputs[:4], [example, other, example, other])
    assert np.isnan(values).tolist() == [False, True, False, True] and len(server.requests) == 2


def test_padding_rows_are_asked_about_once(build, server, example, outputs):
    values = score_batches(build(), outputs[:3], example=example, name="judge", batch=16)
    assert np.isfinite(values).all() and len(server.requests) == 3


def test_one_criterion_can_be_the_reward(build, example, outputs):
    values = build(rubric="five", criterion="detail").score(outputs[:1], [example])
    assert values[0] == pytest.approx(light(outputs[0][GROWN]), abs=1e-4)


@pytest.mark.parametrize("mode", ["malformed", "refusal", "prose"])
def test_a_reply_out_of_form_is_asked_for_again_then_missing(mode, build, server, example, outputs):
    server.script, reward = [mode], build()
    assert np.isfinite(reward.score(outputs[:1], [example])).all() and len(server.requests) == 2
    server.mode = mode
    assert np.isnan(reward.score(outputs[:1], [example])).all()
    assert reward.take_counters()["malformed"] == 3 and len(server.requests) == 4


@pytest.mark.parametrize("mode", ["429", "500", "404"])
def test_a_failed_request_is_missing_alone(mode, build, server, example, outputs):
    server.script, reward = [mode, mode], build(max_in_flight=1, attempts=2)
    values = reward.score(outputs[:4], [example] * 4)
    lost = 2 if mode == "404" else 1  # 404 is not asked again: the second one meets the next row
    assert np.isnan(values).tolist() == [True] * lost + [False] * (4 - lost)


def test_tokens_and_cost_are_counted_also_of_malformed_replies(build, server, example, outputs):
    reward = build(price_in=2.0, price_out=10.0)
    reward.score(outputs[:3], [example] * 3)
    counts = counted(reward)
    assert counts.pop("cost") == pytest.approx(3 * (100 * 2 + 10 * 10) / 1e6)
    assert counts == {"requests": 3, "prompt_tokens": 300, "completion_tokens": 30}
    server.mode = "prose"
    reward.score(outputs[:1], [example])
    assert counted(reward) == {"requests": 2, "malformed": 2}


def test_no_more_than_n_rows_are_in_flight(build, server, example, outputs):
    server.mode, server.expected = "full", 2
    build(max_in_flight=2).score(outputs[:8], [example] * 8)
    assert server.peak == 2


def test_a_judge_that_answers_500_for_20_iterations_is_left_alone(build, server, example, outputs):
    server.mode, reward = "500", build(max_in_flight=1, attempts=1, breaker_failures=3)
    for _ in range(20):
        assert np.isnan(reward.score(outputs[:4], [example] * 4)).all()
    assert counted(reward) == {"requests": 3, "failures": 3, "breaker_open": 77}


def test_images_are_data_urls_of_the_asked_form_and_size(build, server, example, outputs):
    build(image_format="jpeg", long_side=16, crop="frame").score(outputs[:1], [example])
    content = server.requests[0].json()["messages"][1]["content"]
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    assert all(url.startswith("data:image/jpeg;base64,") for url in urls)
    assert Image.open(io.BytesIO(base64.b64decode(urls[0].partition(",")[2]))).size == (16, 16)


def test_readiness_is_one_small_request_with_an_image(build, server):
    build().check_ready()
    assert len(server.requests) == 1 and server.requests[0].images()[0].shape == (32, 32, 3)
    server.mode = "404"
    with pytest.raises(ConfigError, match=r"/v1/chat/completions refuses: HTTP 404; it says: .*no"):
        build().check_ready()


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://h/v1", "https://h/v1/chat/completions"),
        ("https://h/v1/", "https://h/v1/chat/completions"),
        ("https://h/v1/chat/completions", "https://h/v1/chat/completions"),
        ("https://h/d?api-version=1", "https://h/d/chat/completions?api-version=1"),
    ],
)
def test_the_address_is_the_base_or_the_whole(url, address):
    assert chat_url(url) == address


@pytest.mark.parametrize(
    "options",
    [
        {"criterion": "beauty"},
        {"rubric": "five", "criterion": "text"},
        {"rubric": "ten"},
        {"model": ""},
        {"body": {"stream": True}},
        {"body": {"messages": []}},
        {"body": {"api_key": "x"}},
        {"temperature": "0"},
    ],
)
def test_options_that_do_not_fit_are_refused(options):
    with pytest.raises(ValidationError):
        JudgeOptions.model_validate_json(json.dumps({"url": "https://h/v1", "model": "m", **options}))
