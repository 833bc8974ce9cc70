import json
from dataclasses import replace

import numpy as np
import pytest

from burnish.data.errors import ConfigError
from burnish.rewards.batches import RewardError
from burnish.rewards.checking import OUTPUTS, check_reward, judge, sample
from burnish.rewards.pixels import MaskedPixel
from burnish.rewards.rubric import RewardSpec, reward_version
from burnish.rewards.table import TABLE, make_reward


def spec_from(fields):
    """A spec that is called as its kind unless it has a name."""
    return RewardSpec(**{"name": fields["kind"], **fields})


class Wrong(MaskedPixel):
    """Likes damage."""

    name = "wrong"
    range = (-1.0, 1.0)

    def score(self, images, examples):
        return -super().score(images, examples)


class Silent(MaskedPixel):
    name = "silent"

    def score(self, images, examples):
        known = np.array([e.id == "canary" for e in examples])
        return np.where(known, super().score(images, examples), np.nan).astype(np.float32)


@pytest.fixture
def extended(monkeypatch):
    for kind in (Wrong, Silent):
        monkeypatch.setitem(TABLE, kind.name, kind)


def test_the_sample_has_references_of_five_kinds_and_ever_worse_outputs():
    example, images = sample()
    assert {r.kind for r in example.references} == {"detail", "subject", "background", "style", "lighting"}
    errors = np.square(images - example.target).mean(axis=(1, 2, 3))
    assert images.shape == (3, 3, 64, 64) and errors[0] == 0 < errors[1] < errors[2]


@pytest.mark.parametrize("kind", ["masked_pixel", "outside_preservation", "toy_perceptual", "toy_semantic"])
def test_a_reward_that_orders_the_sample_has_no_problems(kind):
    found = check_reward(spec_from({"kind": kind, "batch": 2}))
    values = [found.values[name] for name in OUTPUTS]
    assert found.problems == () and values == sorted(values, reverse=True)
    assert found.call_seconds > 0 and found.weights_digest == ""


def test_the_digest_is_the_one_that_a_run_records():
    spec = spec_from({"kind": "boundary_band", "options": {"r_in": 5}})
    assert check_reward(spec).digest == reward_version(spec, make_reward(spec)).digest


@pytest.mark.parametrize(("kind", "text"), [("wrong", "scored better"), ("silent", "no score for identical")])
def test_a_reward_that_likes_damage_or_says_nothing_is_told(extended, kind, text):
    found = check_reward(spec_from({"kind": kind}))
    assert any(text in problem for problem in found.problems)


def test_values_that_leave_the_range_or_never_change_are_told():
    assert judge(np.array([0.5, 0.4, -2], np.float32), direction=1, bounds=(0, 1)) == [
        "heavy outside the declared range [0, 1]"
    ]
    assert "all outputs score the same" in judge(np.ones(3, np.float32), direction=1, bounds=(0, 1))[0]
    assert judge(np.array([0.1, 0.2, 0.3], np.float32), direction=-1, bounds=(0, 1)) == []


def test_what_a_run_would_refuse_is_refused(monkeypatch):
    monkeypatch.setitem(TABLE, "flat", type("Flat", (MaskedPixel,), {"score": lambda *_: np.zeros(1)}))
    with pytest.raises(RewardError, match="must return a float32 array"):
        check_reward(spec_from({"kind": "flat"}))
    with pytest.raises(ConfigError, match="weights_sha256"):
        check_reward(spec_from({"kind": "masked_pixel", "weights_sha256": "a" * 64}))


def test_lines_fit_80_columns_and_say_all(extended):
    found = check_reward(spec_from({"kind": "wrong", "name": "mine"}))
    text = "\n".join(found.lines())
    assert max(map(len, found.lines())) <= 80 and "problem: light, heavy scored better" in text
    assert all(part in text for part in ("mine", found.digest, "identical 0,", "larger is", "a call of 16 rows"))


def test_json_has_null_for_a_missing_score(extended):
    found = check_reward(spec_from({"kind": "silent"}))
    tree = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert tree["scores"] == {"identical": None, "light": None, "heavy": None} and len(tree["problems"]) == 1
    assert tree["better"] == "larger" and tree["batch"] == 16 and tree["digest"] == found.digest
    assert replace(found, direction=-1).to_json()["better"] == "smaller"
