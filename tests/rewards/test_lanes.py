"""Rows of several groups in one model call: which may share, what comes out, who pays."""

from dataclasses import replace

import numpy as np
import pytest

from burnish.data.records import RewardVersion, RubricVersion
from burnish.data.seeding import generator
from burnish.rewards.batches import RewardError, score_batches
from burnish.rewards.order import RewardOrder
from burnish.rewards.pixels import MaskedPixel
from burnish.rewards.rubric import RewardSpec
from burnish.rewards.server import RewardServer
from burnish.rewards.table import TABLE, make_reward

LOCAL = ["masked_pixel", "outside_preservation", "boundary_band", "toy_perceptual", "toy_style", "toy_semantic"]
"""Rewards that need neither files nor a network."""


def _order(*kinds, version=1, **changes):
    specs = tuple(RewardSpec(name=kind, kind=kind, **changes) for kind in kinds)
    return RewardOrder(RubricVersion(version, "d"), specs)


@pytest.fixture
def table(monkeypatch):
    """Name a subclass of MaskedPixel in the table."""

    def name(kind, **members):
        monkeypatch.setitem(TABLE, kind, type(kind, (MaskedPixel,), members))

    return name


def _groups(make_group, outputs, sizes):
    """Groups of different examples; the third of every three has neither target nor references."""
    made = []
    for number, size in enumerate(sizes):
        target = np.ascontiguousarray(np.roll(outputs[0], number, axis=2))
        bare = {"target": None, "references": ()} if number % 3 == 2 else {"target": target}
        made.append(make_group(outputs[-size:], id=f"e{number}", **bare))
    return made


@pytest.mark.parametrize("batch", [1, 4, 16])
def test_groups_scored_together_have_the_bytes_of_each_alone(batch, make_group, outputs):
    sizes = generator(0, "group-sizes", batch).integers(1, 17, 9)
    groups, order = _groups(make_group, outputs, sizes), _order(*LOCAL, batch=batch)
    found = RewardServer().score_many([(group, order) for group in groups])
    for group, scores in zip(groups, found, strict=True):
        images = np.stack([t.image for t in group.trajectories])
        for spec in order.specs:
            plain = score_batches(make_reward(spec), images, example=group.example, name=spec.name, batch=batch)
            assert scores.raw[spec.name].tobytes() == np.nan_to_num(plain, nan=0).tobytes()
            assert scores.valid[spec.name].tolist() == np.isfinite(plain).tolist()


def _calls(server, requests, name):
    found = server.score_many(requests)
    return sum(scores.costs[name]["calls"] for scores in found)


def test_rows_of_several_groups_share_model_calls(make_group, outputs):
    groups, order = _groups(make_group, outputs, [3, 5, 2, 7]), _order("toy_semantic", batch=4)
    found = RewardServer().score_many([(group, order) for group in groups])
    costs = [scores.costs["toy_semantic"] for scores in found]
    assert sum(c["calls"] for c in costs) == pytest.approx(5) and sum(c["padded"] for c in costs) == pytest.approx(3)
    assert [c["rows"] for c in costs] == [3, 5, 2, 7] and all(c["seconds"] > 0 for c in costs)


def test_rubrics_and_image_sizes_never_share_a_call(make_group, outputs):
    server, one, two = RewardServer(), _order("masked_pixel"), _order("masked_pixel", version=2)
    group, small = make_group(outputs[:2]), make_group(outputs[:2, :, :12, :12], image=None, mask=None, target=None)
    assert _calls(server, [(group, one), (group, one)], "masked_pixel") == pytest.approx(1)
    assert _calls(server, [(group, one), (group, two)], "masked_pixel") == pytest.approx(2)
    assert _calls(server, [(group, one), (small, one)], "masked_pixel") == pytest.approx(2)


def _leaning(self, images, examples):
    """Every row leans on its batch: half its own value, half the mean."""
    values = MaskedPixel.score(self, images, examples)
    return (values + np.nanmean(values, dtype=np.float32)) / 2 if np.isfinite(values).any() else values


def _one_example(self, images, examples):
    assert len({e.id for e in examples}) == 1
    return MaskedPixel.score(self, images, examples)


@pytest.mark.parametrize("score", [_leaning, _one_example])
def test_a_reward_whose_rows_lean_on_others_never_crosses_groups(score, table, make_group, outputs):
    table("leaning", score=score)
    server, order = RewardServer(), _order("leaning", batch=4)
    groups = _groups(make_group, outputs, [3, 5])
    assert not server.prepare(order.specs[0]).crosses and server.prepare(_order("masked_pixel").specs[0]).crosses
    found = server.score_many([(group, order) for group in groups])
    alone = [server.score(group, order) for group in groups]
    assert [s.raw["leaning"].tobytes() for s in found] == [s.raw["leaning"].tobytes() for s in alone]
    assert [s.costs["leaning"]["calls"] for s in found] == [1, 2]


def test_a_failing_group_fails_alone(table, make_group, outputs):
    def score(self, images, examples):
        if "e1" in {e.id for e in examples}:
            raise ValueError("no")
        return MaskedPixel.score(self, images, examples)

    table("picky", score=score)
    groups, order = _groups(make_group, outputs, [3, 5, 2]), _order("picky", "masked_pixel")
    found = RewardServer().score_many([(group, order) for group in groups])
    assert isinstance(found[1], RewardError) and "'e1'" in str(found[1])
    plain = RewardServer().score_many([(group, _order("masked_pixel")) for group in groups])
    assert all(found[i].raw["picky"].tobytes() == plain[i].raw["masked_pixel"].tobytes() for i in (0, 2))


def test_a_request_that_cannot_be_scored_leaves_the_others_alone(make_group, outputs):
    good, bad = make_group(outputs[:2]), make_group(outputs[:2, :1])
    order, refused = _order("masked_pixel"), _order("masked_pixel")
    refused = replace(refused, versions=(RewardVersion("masked_pixel", 1, "b"),))
    found = RewardServer().score_many([(good, order), (bad, order), (good, refused)])
    assert [type(end).__name__ for end in found] == ["Scores", "DataError", "RefusedError"]


def test_a_rewards_own_counters_are_shared_by_rows(table, make_group, outputs):
    table("counting", take_counters=lambda self: {"requests": 4.0, "calls": 99.0})
    groups, order = _groups(make_group, outputs, [1, 3]), _order("counting", batch=4)
    costs = [s.costs["counting"] for s in RewardServer().score_many([(group, order) for group in groups])]
    assert [c["requests"] for c in costs] == [1, 3] and [c["calls"] for c in costs] == [0.25, 0.75]
