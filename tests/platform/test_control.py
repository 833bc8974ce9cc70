"""The control API lets in who brings the run's token, from this machine, with a body that makes sense."""

import ast
import json
import os
import runpy
import stat
import threading
import time
from pathlib import Path

import pytest
import requests

from burnish.platform.control import control_server
from burnish.platform.control_app import make_app

FakeDesk = runpy.run_path(str(Path(__file__).parent / "desks.py"))["FakeDesk"]
CHANGES = "/v1/rewards/changes"
SPEC = {"name": "pixels", "kind": "masked_pixel"}


class Client:
    """Requests to a served run; `ask` brings the token, `bare` brings nothing."""

    def __init__(self, path, url, warned):
        self.path, self.url, self.warned = path, url, warned
        self.token = (path / "control.token").read_text()
        self.session = requests.Session()

    def bare(self, method, route, **options):
        return self.session.request(method, self.url + route, timeout=10, **options)

    def ask(self, method, route, *, headers=None, **options):
        return self.bare(method, route, headers={"Authorization": f"Bearer {self.token}", **(headers or {})}, **options)

    def post(self, body, kind="application/json"):
        return self.ask("POST", CHANGES, data=body, headers={"Content-Type": kind})


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    path, warned = tmp_path_factory.mktemp("run"), []
    with control_server(path, FakeDesk(), warn=warned.append) as url:
        client = Client(path, url, warned)
        yield client
        client.session.close()


def routes():
    """(method, path) of everything that the application answers, and what frameworks like to answer besides."""
    found = [(method, route.path) for route in make_app(FakeDesk()).routes for method in route.methods]
    assert ("POST", CHANGES) in found and len(found) >= 4
    more = [("GET", path) for path in ("/", "/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect", "/x")]
    return sorted({*found, *more, ("HEAD", "/healthz"), ("OPTIONS", CHANGES), ("PUT", CHANGES)} - {("GET", "/healthz")})


@pytest.mark.parametrize(("method", "path"), routes())
def test_no_route_but_health_answers_without_the_token(served, method, path):
    path = path.replace("{change_id}", "c1")
    wrong = ["Bearer ", "Bearer x", f"Basic {served.token}", f"Bearer {served.token}x", served.token, "Bearer \xe4"]
    for headers in [{}, *({"Authorization": value} for value in wrong)]:
        reply = served.bare(method, path, headers=headers, data=b"{")
        assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")
        assert served.token not in reply.text


def test_no_page_of_documentation_is_served(served):
    for path in ("/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect"):
        assert served.ask("GET", path).status_code == 404


def test_health_is_open_and_says_nothing(served):
    assert served.bare("GET", "/healthz").json() == {"status": "ok"}


def test_a_change_is_handed_in_and_asked_about(served):
    reply = served.post(json.dumps({"action": "swap", "name": "pixels", "spec": SPEC, "shadow": 2, "why": "sharper"}))
    assert reply.status_code == 202
    found = served.ask("GET", f"{CHANGES}/{reply.json()['id']}").json()
    assert (found["action"], found["spec"], found["shadow"], found["why"]) == ("swap", SPEC, 2, "sharper")
    status = served.ask("GET", "/v1/rewards").json()
    assert status["rubric"]["version"] == 3 and status["changes"][-1]["id"] == reply.json()["id"]


@pytest.mark.parametrize(("path", "method", "status"), [
    (f"{CHANGES}/c999", "GET", 404), (f"{CHANGES}/%2e%2e%2fx", "GET", 404), (f"{CHANGES}/{'x' * 65}", "GET", 404),
    ("/nothing", "GET", 404), ("/v1/rewards/", "GET", 404), (CHANGES, "GET", 405), ("/v1/rewards", "DELETE", 405),
])  # fmt: skip
def test_what_is_not_there_is_said_in_json(served, path, method, status):
    reply = served.ask(method, path)
    assert reply.status_code == status and reply.json()["error"]["code"] == status


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "localhost.:1", "", "[::2]:80"])
def test_a_host_that_is_not_loopback_is_refused(served, host):
    assert served.ask("GET", "/v1/rewards", headers={"Host": host}).status_code in (400, 421)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "localhost:9", "[::1]:80", "[::1]"])
def test_a_forwarded_port_on_loopback_is_allowed(served, host):
    assert served.ask("GET", "/v1/rewards", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:8265"])
def test_a_browser_is_refused_even_with_the_token(served, origin):
    for method, path in [("GET", "/v1/rewards"), ("POST", CHANGES), ("GET", "/healthz"), ("OPTIONS", CHANGES)]:
        assert served.ask(method, path, headers={"Origin": origin}).status_code == 403


@pytest.mark.parametrize(("body", "status"), [
    (b"", 400), (b"{", 400), (b"\xff\xfe", 400), (b'{"action": "remove", "action": "add"}', 400),
    (b'{"weight": NaN}', 400), (b'{"weight": -Infinity}', 400), (b'{"weight": 1e999}', 400), (b"[" * 900_000, 400),
    (b'{"a":' * 17 + b"1" + b"}" * 17, 400), (b"9" * 5000, 400), (b"[]", 422), (b'"x"', 422), (b"{}", 422),
    (b'{"action": "fly"}', 422), (b'{"action": "rollback", "to_version": true}', 422),
    (b'{"action": "rollback", "x": 1}', 422), (b'{"action": "weight", "name": "a", "weight": "1"}', 422),
    (b'{"action": "remove", "name": "pixels", "why": "a\\u001b[2J"}', 422), (b"x" * (1 << 20), 400),
])  # fmt: skip
def test_a_body_that_makes_no_sense_is_refused(served, body, status):
    reply = served.post(body)
    assert reply.status_code == status and reply.json()["error"]["problems"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_body_of_another_type_is_refused(served, kind):
    assert served.post(b'{"action": "rollback"}', kind).status_code == 415
    assert served.post(b'{"action": "rollback"}', "Application/JSON; charset=utf-8").status_code == 202


def test_a_large_body_is_refused_before_it_is_parsed_declared_or_counted(served):
    assert served.post(b" " * ((1 << 20) + 1)).status_code == 413
    assert served.post(b" " * 65536 for _ in range(17)).status_code == 413
    assert served.bare("POST", CHANGES, data=b" " * ((1 << 20) + 1)).status_code == 401


def test_all_problems_of_a_change_come_at_once(served):
    spec = {"name": "Bad", "kind": "masked_pixl", "batch": 0}
    reply = served.post(json.dumps({"action": "add", "spec": spec, "shadow": -1, "nme": 1}))
    fields = {problem["field"] for problem in reply.json()["error"]["problems"]}
    assert reply.status_code == 422 and {"spec.name", "spec.batch", "shadow", "nme"} <= fields
    reply = served.post(json.dumps({"action": "remove", "name": "pixls"}))
    assert [problem["field"] for problem in reply.json()["error"]["problems"]] == ["name", "why"]


def test_an_error_that_nobody_foresaw_is_warned_of_and_tells_the_sender_nothing(served):
    reply = served.post(json.dumps({"action": "remove", "name": "boom"}))
    assert reply.status_code == 500 and "secret of the desk" not in reply.text
    deadline = time.monotonic() + 5  # the line comes just after the answer
    while not served.warned and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "secret of the desk" in served.warned[-1] and served.token not in "".join(served.warned)
    assert served.ask("GET", "/v1/rewards").status_code == 200


def test_it_listens_on_loopback_and_its_token_is_this_users_alone(served):
    found = json.loads((served.path / "control.json").read_text())
    assert served.url.startswith("http://127.0.0.1:") and found["url"] == served.url and found["pid"] == os.getpid()
    mode = (served.path / "control.token").stat().st_mode
    assert stat.S_ISREG(mode) and stat.S_IMODE(mode) == 0o600
    assert len(served.token) >= 43 and served.token not in (served.path / "control.json").read_text()


def test_files_of_a_dead_driver_are_replaced_and_all_is_gone_at_the_end(tmp_path):
    before = threading.active_count()
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / "control.token").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "control.json").write_text("{}")
    with control_server(tmp_path, FakeDesk()) as url:
        assert requests.get(f"{url}/healthz", timeout=10).ok and not (tmp_path / "control.token").is_symlink()
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"] and (
        tmp_path / "elsewhere"
    ).read_text() == "mine"
    assert threading.active_count() == before
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/healthz", timeout=10)


def test_a_server_that_cannot_start_is_a_warning(tmp_path):
    warned, before = [], threading.active_count()
    with control_server(tmp_path / "missing", FakeDesk(), warn=warned.append) as url:
        assert url == "" and "did not start" in warned[0]
    assert threading.active_count() == before


def test_an_error_of_the_run_passes_through_and_leaves_no_file(tmp_path):
    with pytest.raises(ZeroDivisionError), control_server(tmp_path, FakeDesk()):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_no_pickle_is_read_from_the_wire(root=Path(__file__).parents[2]):
    names = set()
    for path in [*(root / "platform").glob("control*.py"), root / "platform/changes.py"]:
        nodes = list(ast.walk(ast.parse(path.read_text())))
        names |= {alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names}
        names |= {n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module}
    assert "json" in names and {n.split(".")[0] for n in names} & {"pickle", "cloudpickle", "dill", "marshal"} == set()
