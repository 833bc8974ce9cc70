import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from pydantic import ValidationError

from burnish.rewards.endpoint import EndpointOptions
from burnish.rewards.replies import retry_seconds

CANARY = "sk-Canary7f3a9"
REFUSED = [
    "http://example.com",
    "http://10.0.0.5/v1",
    "http://0x7f.1/",
    "http://2130706433/",
    "http://127.1/",
    "http://0177.0.0.1/",
    "https://0x7f000001/",
    "https://2130706433/",
    "https://169.254.169.254/latest",
    "https://[fe80::1]/",
    "https://[::]/",
    "https://224.0.0.1/",
    "https://[::ffff:169.254.169.254]/",
    "https://user@host/",
    "https://user:pw@host/",
    "https://127.0.0.1@evil.example/",
    "https://host/#x",
    "https://host/?api_key=x",
    "https://host/?access_token=x",
    "file:///etc/passwd",
    "gopher://host/",
    "ftp://host/",
    "//host/path",
    "host/path",
    "https://",
    "https://host:port/",
    "https://host:99999/",
    "https://ho%73t/",
    "https://h\xf6st/",
    "https://127\u30020\u30020\u30021/",
    "https://host\\@evil.example/",
    "http://localhost.evil.example/",
    "http://[::ffff:10.0.0.1]/",
    "https://-host/",
    "https://[1/",
]


@pytest.mark.parametrize("url", [*REFUSED, "", "https://host/a b", "https://host/\n", "http://127.0.0.1 /"])
def test_an_address_that_is_not_plainly_one_is_refused(url):
    with pytest.raises(ValidationError) as caught:
        EndpointOptions(url=url)
    assert [detail["loc"] for detail in caught.value.errors()] == [("url",)]


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com/v1",
        "https://10.0.0.5:8443/v1",
        "https://vlm_judge/v1?api-version=2025-01-01",
        "http://localhost:8000/v1",
        "http://127.0.0.2/score",
        "http://[::1]:8000/score",
    ],
)
def test_https_anywhere_and_http_on_this_machine_are_allowed(url):
    assert EndpointOptions(url=url).url == url


def test_http_to_another_machine_has_to_be_asked_for():
    assert EndpointOptions(url="http://vlm:8000/v1", allow_insecure=True)
    with pytest.raises(ValidationError):
        EndpointOptions(url="http://169.254.169.254/", allow_insecure=True)


@pytest.mark.parametrize(
    "options",
    [{"token_env": CANARY}, {"token": CANARY}, {"api_key": {"value": CANARY}}, {"headers": {"X-Key": CANARY}}]
    + [{"url": url.format(CANARY)} for url in ("https://u:{}@h/", "https://h/?key={}", "https://h/#{}", "https://[{}")],
)
def test_a_secret_in_the_options_is_refused_and_not_shown(options):
    with pytest.raises(ValidationError) as caught:
        EndpointOptions.model_validate_json(json.dumps({"url": "https://h/", **options}))
    assert CANARY not in str(caught.value) + repr(caught.value.errors())


def test_retry_after_may_be_a_date_and_nonsense_asks_for_nothing():
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 28 < retry_seconds(later) <= 30 and retry_seconds("12") == 12
    assert [retry_seconds(word) for word in (None, "", "soon", "-5", "1e9", "nan")] == [0.0] * 6
