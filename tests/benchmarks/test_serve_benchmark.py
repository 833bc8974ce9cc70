"""The serving benchmark: its judgement on made-up tries, and, slow, the whole of it on a local Ray."""

import importlib

import pytest


@pytest.fixture
def bench(monkeypatch, request):
    """benchmarks/serve.py; the room of that name is burnish.serve."""
    import sys

    monkeypatch.delitem(sys.modules, "serve", raising=False)
    monkeypatch.syspath_prepend(str(request.config.rootpath / "benchmarks"))
    module = importlib.import_module("serve")
    yield module
    monkeypatch.delitem(sys.modules, "serve")


def made(bench, since, version="1", *, seconds=0.1, status=200, retry_after=""):
    return bench.Try(since, seconds, status, version, retry_after)


@pytest.fixture
def churn(bench):
    """A promotion from 1 to 2 between second 100 and 101, a kill at second 200."""
    history = bench.History([(0.0, 0.0, "1"), (100.0, 101.0, "2")])
    return lambda *tries, lost=0: bench.Churn(list(tries), history, lost, 200.0, [1.0])


@pytest.mark.parametrize(
    ("since", "version", "wrong"),
    [(50, "1", 0), (50, "2", 1), (99.95, "2", 0), (100.5, "1", 0), (100.5, "2", 0), (102, "2", 0), (102, "1", 1)],
)
def test_a_reply_by_a_version_that_was_not_active_is_found(bench, churn, since, version, wrong):
    assert churn(made(bench, since, version)).problems()["wrong version"] == wrong


def test_a_bare_500_or_a_503_without_its_header_is_found(bench, churn):
    tries = [made(bench, 1, status=s, retry_after=r) for s, r in ((500, "1"), (503, ""), (503, "1"), (429, "1"))]
    found = churn(*tries, lost=2).problems()
    assert (found["5xx other than 503 with Retry-After"], found["never answered"]) == (2, 2)


def test_latency_is_compared_inside_the_run(bench, churn):
    quiet = [made(bench, 10 + k) for k in range(30)]
    near = [made(bench, 101, "2", seconds=0.2)]
    restart = [made(bench, 205, "2", seconds=0.4)]
    assert churn(*quiet, *near, *restart).ratios() == {"promotions": pytest.approx(2), "restart": pytest.approx(4)}


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_clients_see_no_wrong_version_and_no_bare_error_while_versions_change_and_a_replica_dies(bench, tmp_path):
    page = tmp_path / "serve.md"
    code = bench.main(["--seconds", "60", "--repeats", "20", "--markdown", str(page)])
    assert code == 0, page.read_text()
