import json
import logging
import runpy
import socket
import time
from datetime import timedelta
from pathlib import Path

import pytest

from burnish.data.errors import ConfigError, InfrastructureError
from burnish.rewards.endpoint import EndpointOptions
from burnish.rewards.replies import MalformedReply
from burnish.rewards.transport import Transport

FakeJudge = runpy.run_path(str(Path(__file__).with_name("fake_judge.py")))["FakeJudge"]
CANARY = "sk-Canary7f3a9"
FAST = {"timeout": 5.0, "deadline": 9.0, "backoff": 0.001, "breaker_failures": 100, "ready_seconds": 5.0}
CLOSED = {"requests": 0, "retries": 0, "failures": 0, "malformed": 0, "breaker_open": 0}


@pytest.fixture
def judge():
    with FakeJudge() as server:
        yield server


@pytest.fixture
def connect(judge):
    return lambda **changes: Transport(
        EndpointOptions.model_validate({"url": judge.score_url, **FAST, **changes}), url=judge.score_url
    )


def parse(reply):
    found = json.loads(reply)["scores"] if reply.startswith(b"{") else None
    if found is None:
        raise MalformedReply("no scores")
    return found


def ask(transport, **changes):
    body = json.dumps({"images": []}).encode()
    return transport.ask(body, kind="application/json", parse=parse, **changes)


def passes(transport, *, seconds):
    """Let time pass for the breaker."""
    transport._breaker._state_storage.opened_at -= timedelta(seconds=seconds)


def numbers(transport):
    return {name: value for name, value in transport.counters.take().items() if value}


@pytest.mark.parametrize("mode", ["429", "500", "502", "503", "504"])
def test_what_passes_is_asked_again(mode, judge, connect):
    judge.script, transport = [mode, mode], connect()
    assert ask(transport) == []
    assert numbers(transport) == {"requests": 3, "retries": 2} and transport.counters.take() == CLOSED


@pytest.mark.parametrize(("mode", "requests"), [("500", 3), ("429", 3), ("404", 1), ("401", 1), ("echo", 1)])
def test_what_does_not_heal_is_missing_and_counted(mode, requests, judge, connect):
    judge.mode, transport = mode, connect()
    assert ask(transport) is None
    assert numbers(transport).items() >= {"requests": requests, "failures": 1}.items()


def test_waits_double_and_have_no_jitter(judge, connect, monkeypatch):
    waits = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)
    judge.mode = "500"
    ask(connect(attempts=4, backoff=0.05))
    assert waits == [0.05, 0.1, 0.2]


def test_retry_after_is_honoured_up_to_the_deadline(judge, connect, monkeypatch):
    waits = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)
    judge.mode, judge.retry_after = "429", "7"
    ask(connect(deadline=60.0))
    assert waits == [7.0, 7.0]
    judge.retry_after, transport = "61", connect(deadline=60.0)
    assert ask(transport) is None and len(waits) == 2 and numbers(transport) == {"requests": 1, "failures": 1}


@pytest.mark.parametrize("mode", ["slow", "drip"])
def test_neither_a_hung_nor_a_dripping_answer_outlasts_the_deadline(mode, judge, connect):
    judge.mode, transport, started = mode, connect(timeout=0.15, deadline=0.4), time.monotonic()
    assert ask(transport) is None
    assert time.monotonic() - started < 2 and numbers(transport)["failures"] == 1


def test_a_hung_attempt_is_followed_by_another(judge, connect):
    judge.script, transport = ["slow"], connect(timeout=0.3)
    assert ask(transport) == [] and numbers(transport) == {"requests": 2, "retries": 1}


def test_a_dead_endpoint_is_missing(connect):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/score"
    transport = Transport(EndpointOptions.model_validate({"url": address, **FAST}), url=address)
    assert ask(transport) is None and numbers(transport) == {"requests": 3, "retries": 2, "failures": 1}


@pytest.mark.parametrize("mode", ["malformed", "large", "packed"])
def test_a_malformed_reply_is_asked_for_once_more(mode, judge, connect):
    judge.script, transport = [mode], connect(max_reply_bytes=1024)
    assert ask(transport) == [] and numbers(transport) == {"requests": 2, "malformed": 1}
    judge.mode = mode
    assert ask(transport) is None and numbers(transport) == {"requests": 2, "malformed": 2}


def test_a_redirect_is_not_followed(judge, connect):
    judge.mode, transport = "redirect", connect()
    assert ask(transport) is None and [r.path for r in judge.requests] == ["/score"]
    with pytest.raises(ConfigError, match="redirect"):
        transport.probe(b"{}", kind="application/json")


def test_the_breaker_opens_then_asks_nobody_then_tries_one(judge, connect):
    transport = connect(attempts=1, breaker_failures=3, breaker_reset=60.0)
    judge.mode = "500"
    assert [ask(transport, rows=4) for _ in range(5)] == [None] * 5
    assert numbers(transport) == {"requests": 3, "failures": 3, "breaker_open": 8}
    passes(transport, seconds=61)
    assert [ask(transport), ask(transport)] == [None, None]
    assert numbers(transport) == {"requests": 1, "failures": 1, "breaker_open": 1}
    judge.mode = "healthy"
    passes(transport, seconds=61)
    assert [ask(transport), ask(transport)] == [[], []] and numbers(transport) == {"requests": 2}


def test_when_it_half_opens_one_request_decides_for_all_that_wait(judge, connect):
    transport = connect(attempts=1, breaker_failures=1, breaker_reset=60.0)
    judge.mode = "500"
    ask(transport)
    passes(transport, seconds=61)
    assert transport.each(lambda _: ask(transport), range(8)) == [None] * 8
    assert numbers(transport) == {"requests": 2, "failures": 2, "breaker_open": 7}


def test_only_failures_in_a_row_open_the_breaker(judge, connect):
    transport = connect(attempts=1, breaker_failures=2)
    judge.script = ["500", "healthy", "500", "malformed", "healthy", "500"]
    assert [ask(transport) for _ in range(5)] == [None, [], None, [], None]
    judge.mode = "malformed"
    assert [ask(transport) for _ in range(3)] == [None] * 3  # nonsense is an answer: it opens nothing
    assert numbers(transport)["malformed"] == 7


@pytest.mark.parametrize("most", [1, 3])
def test_no_more_than_n_requests_are_open_at_once(most, judge, connect):
    judge.mode, judge.expected, transport = "full", most, connect(max_in_flight=most)
    assert transport.each(lambda _: ask(transport), range(9 if most > 1 else 3))
    assert judge.peak == most


@pytest.mark.parametrize("mode", ["healthy", "echo", "401", "500", "slow", "malformed", "redirect"])
def test_the_token_is_sent_and_shown_nowhere(mode, judge, connect, monkeypatch, caplog, capfd):
    monkeypatch.setenv("JUDGE_TOKEN", CANARY)
    caplog.set_level(logging.DEBUG)
    judge.mode, transport, shown = mode, connect(token_env="JUDGE_TOKEN", timeout=0.4, attempts=1), []
    ask(transport)
    try:
        transport.probe(b"{}", kind="application/json")
    except (ConfigError, InfrastructureError) as error:
        shown = [str(error), repr(error), str(error.__reduce__())]
    assert judge.requests[0].headers["Authorization"] == f"Bearer {CANARY}"
    objects = [repr(transport), repr(vars(transport)), repr(transport.options), transport.options.model_dump_json()]
    assert all(CANARY[:6] not in text for text in (*shown, *objects, caplog.text, *capfd.readouterr()))


@pytest.mark.parametrize("value", [None, "", "two words", f"{CANARY}\nX-Evil: 1", f"{CANARY}\u00fc"])
def test_a_token_that_is_missing_or_cannot_be_sent_is_named_by_its_variable(value, judge, connect, monkeypatch):
    monkeypatch.delenv("JUDGE_TOKEN", raising=False)
    if value is not None:
        monkeypatch.setenv("JUDGE_TOKEN", value)
    for call in (ask, lambda transport: transport.probe(b"{}", kind="application/json")):
        with pytest.raises(ConfigError, match="JUDGE_TOKEN") as caught:
            call(connect(token_env="JUDGE_TOKEN"))
        assert CANARY not in str(caught.value) and caught.value.__cause__ is None
    assert judge.requests == []


def test_no_token_no_netrc_and_no_proxy_of_the_machine_is_used(judge, connect, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login me password {CANARY}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert ask(connect()) == []
    monkeypatch.delenv("HTTP_PROXY")
    assert ask(connect(trust_env=True)) == []
    assert all("Authorization" not in request.headers for request in judge.requests)


@pytest.mark.parametrize("mode", ["healthy", "malformed", "429", "500", "503"])
def test_an_endpoint_that_answers_or_is_busy_is_ready(mode, judge, connect):
    judge.mode = mode
    connect().probe(b'{"images": []}', kind="application/json")
    assert len(judge.requests) == 1


def test_a_refusal_is_told_in_the_endpoints_own_words_without_the_token(judge, connect, monkeypatch):
    monkeypatch.setenv("JUDGE_TOKEN", CANARY)
    judge.mode = "echo"
    with pytest.raises(ConfigError, match=r"HTTP 400; it says: .*<hidden>.*text/x"):
        connect(token_env="JUDGE_TOKEN").probe(b"{}", kind="text/x")


def test_an_endpoint_that_does_not_answer_is_not_ready(judge, connect):
    judge.mode = "slow"
    with pytest.raises(InfrastructureError, match=r"127.0.0.1.*no answer within 0.2 s"):
        connect(ready_seconds=0.2).probe(b"{}", kind="application/json")
