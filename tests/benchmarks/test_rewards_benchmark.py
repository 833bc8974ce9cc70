"""The reward benchmark at a size of seconds: its counts hold there too; its CPU ratio is read at full size only."""

import importlib
import json

import pytest

from burnish.rewards.encoders import ConvEncoder

SMALL = {"name": "toy_semantic", "kind": "toy_semantic", "batch": 4, "options": {"size": 24}}


@pytest.fixture
def bench(monkeypatch, request):
    """benchmarks/rewards.py; the room of that name is burnish.rewards."""
    import sys

    monkeypatch.delitem(sys.modules, "rewards", raising=False)
    monkeypatch.syspath_prepend(str(request.config.rootpath / "benchmarks"))
    module = importlib.import_module("rewards")
    yield module
    monkeypatch.delitem(sys.modules, "rewards")


def test_counts_hold_at_a_small_size_and_nothing_stays_patched(bench, tmp_path):
    page, features = tmp_path / "rewards.md", ConvEncoder.features
    bench.main(
        ["--spec", json.dumps(SMALL), "--images", "20", "--examples", "3", "--repeats", "1", "--markdown", str(page)]
    )
    text = page.read_text()
    assert "PASS: at most ceil(N/batch) + 1 = 6 calls" in text
    assert "PASS: a target or reference is embedded once: 3 for 3 images" in text
    assert "NOT SHOWN: an iteration with rewards at most 1.1 of one without" in text
    assert ConvEncoder.features is features


def test_the_rows_of_small_requests_make_full_batches(bench):
    given = bench.material(bench.DEFAULT, images=7, examples=2)
    assert [len(group.trajectories) for group in given.requests(3)] == [3, 3, 1]
    batches = bench.full_batches(given, 3, batch=4)
    assert [images.shape[0] for images, _ in batches] == [4, 3]
    assert [e.id for _, examples in batches for e in examples] == ["e0"] * 3 + ["e1"] * 3 + ["e0"]


def test_a_reward_that_may_not_cross_groups_is_not_judged(bench, monkeypatch):
    class Leaning(bench.reward_class("toy_semantic")):
        def score(self, images, examples):
            assert len({e.id for e in examples}) == 1
            return super().score(images, examples)

    monkeypatch.setitem(bench.reward_class.__globals__["TABLE"], "toy_leaning", Leaning)
    spec = bench.RewardSpec(name="toy_leaning", kind="toy_leaning", batch=4)
    page = bench.Page("test")
    bench.model_calls(page, bench.material(spec, images=4, examples=1), spec, repeats=1)
    assert "NOT SHOWN" in page.lines[-1] and page.failed == 0
