"""The client trusts only its own run's files, and says plainly why a run cannot be reached."""

import json
import os
import runpy
from pathlib import Path

import pytest

from burnish.data.errors import ConfigError, InfrastructureError
from burnish.platform.control import control_server
from burnish.platform.control_client import ControlClient, NotDriven
from burnish.platform.runs import RunStore

FakeDesk = runpy.run_path(str(Path(__file__).parent / "desks.py"))["FakeDesk"]


@pytest.fixture
def run(tmp_path):
    return RunStore(tmp_path / "runs").create("tiny", 0)


def plant(run, **changes):
    """Files as a driver would leave them, with changes."""
    found = {"url": "http://127.0.0.1:9", "pid": os.getpid(), "host": os.uname().nodename, **changes}
    (run.path / "control.json").write_text(json.dumps(found))
    (run.path / "control.token").write_text("t" * 43)
    (run.path / "control.token").chmod(0o600)


def test_a_change_is_handed_in_and_waited_for(run):
    told = []
    with control_server(run.path, FakeDesk()), ControlClient(run) as client:
        found = client.wait(client.submit({"action": "rollback", "why": "back"}), told.append)
        assert (found["state"], found["iteration"], found["why"]) == ("active", 9, "back")
        assert [entry["state"] for entry in told] == ["queued", "preparing", "active"]
        assert client.status()["iteration"] == 7


def test_a_refusal_carries_every_problem(run):
    with control_server(run.path, FakeDesk()), ControlClient(run) as client:
        with pytest.raises(ConfigError) as refused:
            client.submit({"action": "remove", "name": "pixls"})
        assert [problem.field for problem in refused.value.problems] == ["name", "why"]
        with pytest.raises(ConfigError, match="finite"):
            client.submit({"action": "weight", "name": "pixels", "weight": float("nan")})
        with pytest.raises(InfrastructureError, match="no such change"):
            client.change("c9")


def test_a_run_without_a_driver_says_how_to_go_on(run):
    with pytest.raises(NotDriven, match=f"--resume {run.id}"):
        ControlClient(run)
    plant(run)  # a driver that was killed: its port is closed
    with ControlClient(run) as client, pytest.raises(NotDriven, match=f"--resume {run.id}"):
        client.status()


def test_a_driver_that_ends_while_a_change_is_waited_for_is_noticed(run):
    with control_server(run.path, FakeDesk(states=("queued",))):
        client = ControlClient(run)
        change_id = client.submit({"action": "rollback"})
    with client, pytest.raises(NotDriven):
        client.wait(change_id, lambda entry: None)


@pytest.mark.parametrize(
    "url", ["http://evil.example:80", "https://127.0.0.1:1", "http://127.0.0.1:1@evil.example", ""]
)
def test_the_token_goes_to_loopback_only(run, url):
    plant(run, url=url)
    with pytest.raises(NotDriven):
        ControlClient(run)


def test_a_proxy_of_the_environment_never_sees_the_token(run, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with control_server(run.path, FakeDesk()), ControlClient(run) as client:
        assert client.status()["run"] == "r"


def test_a_run_on_another_machine_is_named(run):
    plant(run, host="elsewhere")
    with run.lock(), pytest.raises(NotDriven, match="being driven on elsewhere"):
        ControlClient(run)


def test_a_driver_whose_api_did_not_start_is_named(run):
    with run.lock(), pytest.raises(NotDriven, match="no control API answers"):
        ControlClient(run)


def test_a_token_that_others_can_read_is_refused(run):
    plant(run)
    (run.path / "control.token").chmod(0o640)
    with pytest.raises(ConfigError, match="not trusted"):
        ControlClient(run)


def test_a_token_behind_a_link_is_refused(run):
    plant(run)
    (run.path / "control.token").rename(run.path / "token")
    (run.path / "control.token").symlink_to("token")
    with pytest.raises(ConfigError, match="cannot read the token"):
        ControlClient(run)


def test_a_wrong_token_is_an_error_that_does_not_show_it(run):
    with control_server(run.path, FakeDesk()):
        (run.path / "control.token").write_text("x" * 43)
        with ControlClient(run) as client, pytest.raises(InfrastructureError) as refused:
            client.status()
        assert "x" * 43 not in str(refused.value)
