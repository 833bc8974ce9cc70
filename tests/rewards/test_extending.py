"""The snippet in docs/extending/rewards.md works as it stands."""

import json
import re
from pathlib import Path

import pytest

from burnish.data.records import RubricVersion
from burnish.rewards.order import RewardOrder
from burnish.rewards.protocol import Reward
from burnish.rewards.rubric import RubricConfig
from burnish.rewards.server import RewardServer
from burnish.rewards.table import TABLE

PAGE = (Path(__file__).parents[2] / "docs" / "extending" / "rewards.md").read_text()


def _block(language):
    return re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL).group(1)


@pytest.fixture
def contrast(monkeypatch):
    """The page's reward, defined and named in the table."""
    names = {}
    exec(compile(_block("python"), "contrast.py", "exec"), names)
    monkeypatch.setitem(TABLE, "contrast", names["Contrast"])
    return names["Contrast"]


def test_the_reward_fits_in_40_lines():
    assert len(_block("python").splitlines()) <= 40


def test_the_reward_keeps_the_protocol(contrast):
    assert isinstance(contrast(contrast.Options()), Reward)


def test_the_reward_scores_in_a_rubric(contrast, make_group, outputs):
    server, config = RewardServer(), RubricConfig.model_validate_json(json.dumps(json.loads(_block("json"))))
    order = RewardOrder(RubricVersion(1, "digest"), config.rewards)
    assert server.prepare(config.rewards[0]).digest
    scores = server.score(make_group(outputs), order)
    assert scores.valid["contrast"].all() and scores.raw["contrast"][0] == 0
    assert server.score(make_group(outputs, target=None), order).valid["contrast"].sum() == 0
