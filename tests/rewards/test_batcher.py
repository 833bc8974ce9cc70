import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest

from burnish.data.errors import InfrastructureError
from burnish.data.records import RubricVersion
from burnish.data.seeding import generator
from burnish.rewards.batcher import Batcher
from burnish.rewards.batches import RewardError
from burnish.rewards.order import RewardOrder
from burnish.rewards.pixels import MaskedPixel
from burnish.rewards.rubric import RewardSpec
from burnish.rewards.server import RewardServer
from burnish.rewards.table import TABLE

LONG = 60.0
"""Seconds that no test waits: what takes them fails the suite's time limit."""


def _order(*kinds, version=1, batch=16):
    specs = tuple(RewardSpec(name=kind, kind=kind, batch=batch) for kind in kinds)
    return RewardOrder(RubricVersion(version, "d"), specs)


@pytest.fixture
def batcher():
    """Make a batcher of an empty server; all are closed afterwards."""
    made = []

    def build(window=0.02):
        made.append(Batcher(RewardServer(), window=window))
        return made[-1]

    yield build
    for one in made:
        one.close()


@pytest.fixture
def watched(monkeypatch):
    """A reward in the table that keeps (thread, batch size, ids) of every call that is not a canary's."""
    calls = []

    def score(self, images, examples):
        if not examples[0].id.startswith("canary"):
            calls.append((threading.get_ident(), len(images), {e.id for e in examples}))
        return MaskedPixel.score(self, images, examples)

    monkeypatch.setitem(TABLE, "watched", type("Watched", (MaskedPixel,), {"score": score}))
    return calls


def _together(batcher, requests):
    """Every request from a thread of its own; what each gets or raises."""
    with ThreadPoolExecutor(len(requests)) as pool:
        futures = [pool.submit(batcher.score, *request) for request in requests]
    return [future.exception() or future.result() for future in futures]


def test_callers_get_their_own_scores_with_the_bytes_of_each_alone(batcher, make_group, outputs):
    sizes = generator(0, "batcher-sizes").integers(1, 9, 16)
    groups = [make_group(np.roll(outputs, k, axis=0)[:size], id=f"e{k}") for k, size in enumerate(sizes)]
    order = _order("masked_pixel", "toy_semantic", batch=4)
    found = _together(batcher(), [(group, order) for group in groups])
    for group, scores in zip(groups, found, strict=True):
        alone = RewardServer().score(group, order)
        assert scores.example_id == group.example.id
        assert all(scores.raw[name].tobytes() == alone.raw[name].tobytes() for name in alone.raw)


def test_small_requests_fill_batches_and_one_thread_makes_the_calls(batcher, watched, make_group, outputs):
    groups = [make_group(outputs[k % 16][None], id=f"e{k}") for k in range(40)]
    _together(batcher(0.2), [(group, _order("watched")) for group in groups])
    assert len(watched) == 3 and {size for _, size, _ in watched} == {16}
    assert len({thread for thread, _, _ in watched}) == 1 and watched[0][0] != threading.get_ident()


def test_a_full_batch_does_not_wait_for_the_window(batcher, make_group, outputs):
    scores = batcher(LONG).score(make_group(outputs), _order("masked_pixel", batch=8))
    assert scores.costs["masked_pixel"]["calls"] == 2


def test_what_is_not_full_waits_for_the_window_and_no_longer(batcher, make_group, outputs):
    started = time.monotonic()
    scores = batcher(0.05).score(make_group(outputs[:3]), _order("masked_pixel"))
    assert time.monotonic() - started >= 0.05 and scores.costs["masked_pixel"]["padded"] == 13


def test_rows_of_one_request_may_be_scored_in_several_calls(batcher, watched, make_group, outputs):
    groups = [make_group(outputs[:3], id=f"e{k}") for k in range(8)]
    found = _together(batcher(0.2), [(group, _order("watched", batch=4)) for group in groups])
    assert len(watched) == 6 and sum(s.costs["watched"]["padded"] for s in found) == 0


def test_two_rubrics_in_flight_never_share_a_call(batcher, watched, make_group, outputs):
    requests = [
        (make_group(outputs[:1], id=f"{version}.{k}"), _order("watched", version=version, batch=4))
        for k in range(8)
        for version in (1, 2)
    ]
    found = _together(batcher(), requests)
    assert [s.rubric for s in found] == [order.rubric for _, order in requests]
    assert all(len({name.split(".")[0] for name in ids}) == 1 for _, _, ids in watched)


def test_an_error_is_raised_in_the_caller_whose_request_it_is(batcher, monkeypatch, make_group, outputs):
    def score(self, images, examples):
        if any(e.id == "e1" for e in examples):
            raise ValueError("no")
        return MaskedPixel.score(self, images, examples)

    monkeypatch.setitem(TABLE, "picky", type("Picky", (MaskedPixel,), {"score": score}))
    groups = [make_group(outputs[:3], id=f"e{k}") for k in range(4)]
    found = _together(batcher(), [(group, _order("picky")) for group in groups])
    assert [type(end).__name__ for end in found] == ["Scores", "RewardError", "Scores", "Scores"]


class Strange(Exception):
    """Nothing that a reward is known to raise."""


def test_an_error_that_nobody_expects_reaches_the_caller_and_the_next_is_served(
    batcher, monkeypatch, make_group, outputs
):
    def score(self, images, examples):
        if examples[0].id == "bad":
            raise Strange("never seen")
        return MaskedPixel.score(self, images, examples)

    monkeypatch.setitem(TABLE, "strange", type("Odd", (MaskedPixel,), {"score": score}))
    one = batcher()
    with pytest.raises(Strange):
        one.score(make_group(outputs, id="bad"), _order("strange"))
    assert one.score(make_group(outputs), _order("strange")).valid["strange"].all()


def test_a_reward_can_be_prepared_while_another_scores(batcher, monkeypatch, make_group, outputs):
    scoring, prepared = threading.Event(), threading.Event()

    def score(self, images, examples):
        if not examples[0].id.startswith("canary"):
            scoring.set()
            assert prepared.wait(LONG)
        return MaskedPixel.score(self, images, examples)

    monkeypatch.setitem(TABLE, "slow", type("Slow", (MaskedPixel,), {"score": score}))
    server = RewardServer()
    with ThreadPoolExecutor(1) as pool, closing(Batcher(server)) as one:
        future = pool.submit(one.score, make_group(outputs), _order("slow"))
        assert scoring.wait(LONG)
        server.prepare(_order("masked_pixel").specs[0])
        server.retain([])
        prepared.set()
        assert future.result().valid["slow"].all()


def test_close_answers_who_waits_and_refuses_who_comes(batcher, make_group, outputs):
    one = batcher(LONG)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(one.score, make_group(outputs[:2]), _order("masked_pixel"))
        while one._thread is None:
            time.sleep(0.001)
        one.close()
        assert future.result().valid["masked_pixel"].all()
    with pytest.raises(InfrastructureError, match="closed"):
        one.score(make_group(outputs), _order("masked_pixel"))


def test_a_request_that_cannot_end_well_costs_no_model_call(batcher, watched, monkeypatch, make_group, outputs):
    members = {"score": lambda self, images, examples: images}
    monkeypatch.setitem(TABLE, "broken", type("Broken", (MaskedPixel,), members))
    with pytest.raises(RewardError, match="broken"):
        batcher().score(make_group(outputs), _order("watched", "broken"))
    assert watched == []
