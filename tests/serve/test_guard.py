"""Who may speak and how much: tokens, hosts, origins, bodies. Routes are read from the application itself."""

import pytest

from burnish.serve import guard

OPEN = {"/", "/healthz", "/readyz"}


def routes(client):
    """(method, path) of everything that the application answers."""
    document = client.get("/openapi.json").json()["paths"]
    return [(m.upper(), path) for path, methods in document.items() for m in methods] + [
        ("GET", "/"),
        ("GET", "/openapi.json"),
    ]


@pytest.fixture
def closed(serve, directory):
    """A server whose users need a token too; the header of each."""
    from burnish.serve.store import Store

    tokens = {name: {"Authorization": f"Bearer {Store(directory).token(name)}"} for name in ("user", "admin")}
    client = serve()
    found = client.get("/openapi.json", headers=tokens["admin"])
    client.listed = [(m.upper(), p) for p, methods in found.json()["paths"].items() for m in methods]
    return client, tokens


WRONG = [
    {},
    {"Authorization": "Bearer "},
    {"Authorization": "Bearer wrong"},
    {"Authorization": "Basic YWRtaW46YWRtaW4="},
    {"Authorization": "Bearer \u00fc".encode("latin-1").decode("latin-1")},
]


@pytest.mark.parametrize("headers", WRONG)
def test_every_route_that_is_not_open_refuses_a_missing_or_wrong_token(closed, headers):
    client, _ = closed
    for method, path in [*client.listed, ("GET", "/openapi.json"), ("GET", "/nowhere")]:
        raw = {name: value.encode("latin-1") for name, value in headers.items()}
        reply = client.request(method, path, headers=raw)
        assert (reply.status_code == 401) == (path not in OPEN), (path, reply.status_code)
        assert path in OPEN or reply.headers["www-authenticate"] == "Bearer"


def test_a_users_token_opens_user_routes_and_no_admin_route(closed):
    client, tokens = closed
    found = {path: client.request(m, path, headers=tokens["user"]).status_code for m, path in client.listed}
    assert {path for path, status in found.items() if status == 403} == {p for p in found if p.startswith("/v1/admin/")}
    assert 401 not in found.values() and 500 not in found.values()


def test_the_admin_token_opens_both(closed):
    client, tokens = closed
    found = [client.request(m, path, headers=tokens["admin"]).status_code for m, path in client.listed]
    assert not {401, 403, 500} & set(found)


def test_without_a_users_token_only_admin_routes_ask_for_one(shared):
    found = {path: shared.request(method, path).status_code for method, path in routes(shared)}
    assert {path for path, status in found.items() if status == 401} == {p for p in found if "/admin/" in p}
    assert 500 not in found.values()


def test_two_tokens_at_once_are_none(closed):
    client, tokens = closed
    twice = [("Authorization", tokens["admin"]["Authorization"])] * 2
    assert client.get("/v1/models", headers=twice).status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "127.0.0.1:x", "localhost:80:80", "[::1"])
def test_another_host_is_misdirected(shared, host):
    assert shared.get("/healthz", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000"])
def test_this_host_is_answered_under_its_names(shared, host):
    assert shared.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1.evil.example", "http://127.0.0.1:81"]
)
def test_a_page_of_another_origin_is_refused(shared, origin):
    reply = shared.get("/v1/models", headers={"origin": origin})
    assert reply.status_code == 403 and reply.json()["error"]["param"] == "Origin"


def test_this_servers_page_may_call_user_routes_but_no_admin_route(closed):
    client, tokens = closed
    own = {"origin": "http://127.0.0.1", **tokens["admin"]}
    assert client.get("/v1/models", headers=own).status_code == 200
    assert client.post("/v1/admin/rollback", headers=own).status_code == 403


def test_other_methods_and_paths_are_said_to_be_unknown(shared):
    assert shared.get("/v1/refine").status_code == 405
    for path in ("/v1/refine/", "/nowhere", "/v1/../etc/passwd", "/%2e%2e/etc/passwd", "/static/..%2f..%2fetc/passwd"):
        reply = shared.get(path)
        assert reply.status_code == 404 and reply.json()["error"]["code"] == "not_found"


def pieces(count, size=1 << 20):
    for _ in range(count):
        yield bytes(size)


def test_a_body_that_is_too_large_is_refused_whether_it_says_so_or_not(shared):
    declared = {"content-type": "application/json", "content-length": str((32 << 20) + 1)}
    began = shared.post("/v1/refine", content=b"{}", headers=declared)
    counted = shared.post("/v1/refine", content=pieces(33), headers={"content-type": "application/json"})
    assert [began.status_code, counted.status_code] == [413, 413]
    assert {reply.json()["error"]["code"] for reply in (began, counted)} == {"too_large"}


def test_an_oversized_picture_is_refused_by_its_bytes_before_it_is_opened(kit, shared):
    files = {"image": kit.encoded(kit.noise()) + bytes(21 << 20)}
    reply = shared.post("/v1/refine", files=files)
    assert reply.status_code == 413 and reply.json()["error"]["param"] == "image"
    nested = kit.body(image=kit.text(bytes(21 << 20)))
    assert shared.post("/v1/refine", json=nested).status_code in (413, 422)


def test_a_slow_body_is_given_up(shared, monkeypatch):
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.0)
    assert shared.post("/v1/refine", content=pieces(3)).status_code == 408


def test_an_id_of_the_clients_is_taken_if_it_is_plain(shared):
    taken, other = (shared.get("/healthz", headers={"x-request-id": name}) for name in ("a_b-1", "a b<script>"))
    assert taken.headers["x-request-id"] == "a_b-1" and other.headers["x-request-id"] != "a b<script>"


def test_an_error_nobody_foresaw_says_nothing_of_itself(kit, serve, directory):
    def broken(version):
        raise RuntimeError("the secret is hunter2")

    client = serve(load=broken, max_seconds=2.0)
    reply = client.post("/v1/refine", json=kit.body())
    assert reply.status_code == 503 and "hunter2" not in reply.text
    assert client.get("/readyz").status_code == 503


def test_the_admin_token_is_readable_by_its_owner_alone_and_kept(directory, client):
    from burnish.serve.store import Store

    first = Store(directory).token("admin")
    assert (directory / "admin.token").stat().st_mode & 0o777 == 0o600
    assert Store(directory).token("admin") == first and len(first) >= 32


@pytest.mark.parametrize("name", ["admin", "user"])
def test_a_token_that_was_cut_off_opens_nothing(kit, serve, directory, monkeypatch, name):
    from burnish.data.errors import ConfigError
    from burnish.serve.door import USER_TOKEN, tokens_of

    (directory / f"{name}.token").touch()
    config = kit.config_of(directory)
    with pytest.raises(ConfigError, match=r"got 0 characters, allowed at least 16"):
        tokens_of(config)
    (directory / f"{name}.token").write_text("x" * 32)
    monkeypatch.setenv(USER_TOKEN, "short")
    with pytest.raises(ConfigError, match=USER_TOKEN):
        tokens_of(config)


FOREIGN = ["Refine.example.com:8443", "127.0.0.1"]


def test_a_server_that_others_can_reach_does_not_start_without_a_users_token(kit, serve, directory):
    from burnish.data.errors import ConfigError
    from burnish.serve.local import local_server

    with pytest.raises(ConfigError, match=r"hosts: got refine.example.com, allowed a user token, in BURNISH_USER"):
        serve(hosts=FOREIGN)
    with pytest.raises(ConfigError, match=r"user\.token"):
        local_server(kit.config_of(directory, hosts=FOREIGN), host="127.0.0.1", port=0)


def test_a_server_answers_under_its_hosts_however_these_are_written(kit, serve, directory, monkeypatch):
    from burnish.serve.door import USER_TOKEN

    monkeypatch.setenv(USER_TOKEN, "x" * 32)
    client = serve(hosts=FOREIGN)
    assert client.door.service.config.hosts == ("refine.example.com", "127.0.0.1")
    for host in ("Refine.example.com:8443", "refine.example.com"):
        assert client.get("/healthz", headers={"host": host}).status_code == 200
        assert client.get("/v1/models", headers={"host": host}).status_code == 401
    with pytest.raises(ValueError, match="a host name"):
        kit.config_of(directory, hosts=["::1"])


def test_nothing_is_no_token_even_where_a_token_is_empty(kit, serve):
    client = serve()
    client.get("/readyz")
    client.door._guard._tokens = guard.Tokens("", "")
    for headers in WRONG[:2]:
        assert client.post("/v1/admin/rollback", json={}, headers=headers).status_code == 401
        assert client.get("/v1/policies", headers=headers).status_code == 401
