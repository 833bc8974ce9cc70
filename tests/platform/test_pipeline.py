"""Sampling ahead of the updates: what is logged of the overlap, and sampling with the newest weights there are."""

from types import SimpleNamespace

import pytest

from burnish.data.errors import ConfigError
from burnish.data.records import GroupSummary, PolicyVersion
from burnish.platform.config import load_recipe
from burnish.platform.pipeline import pipeline_metrics

OPPORTUNISTIC = (("rollouts.opportunistic", "true"),)


def scored(number, sample, score):
    summary = GroupSummary("e", 0, PolicyVersion(number, ""), "", 1, {"encode": 0.0, "sample": sample})
    return SimpleNamespace(summary=summary, scores=SimpleNamespace(seconds=score))


def test_the_bubble_is_the_wall_over_the_longest_stage_and_staleness_is_counted_in_versions():
    groups = [scored(3, 0.2, 0.08), scored(5, 0.2, 0.08)]
    found = pipeline_metrics(groups, version=PolicyVersion(5, ""), learn=0.12, wall=0.4, sizes={"rollout": 2})
    assert found == {"pipeline/staleness": 1.0, "pipeline/staleness_max": 2.0, "pipeline/bubble": pytest.approx(2.0)}


def test_opportunistic_sampling_is_never_older_than_the_lag_and_sometimes_newer(fakes, tmp_path):
    made = fakes.Stage(tmp_path, lag=2, overrides=OPPORTUNISTIC)
    made.begin()
    made.loop().run()
    ages = [max(0, iteration - version) for iteration, _, version in made.rollout.asked]
    assert len(ages) == 16 and max(ages) <= 2
    assert any(version > max(0, iteration - 2) for iteration, _, version in made.rollout.asked)
    assert [len(groups) for groups in made.learner.groups] == [4] * 4


def test_opportunistic_without_a_lag_is_refused():
    with pytest.raises(ConfigError, match=r"rollouts\.lag >= 1"):
        load_recipe("smoke", OPPORTUNISTIC)
