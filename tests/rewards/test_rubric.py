import json

import pytest
from pydantic import BaseModel, Field, ValidationError

from burnish.data.errors import ConfigError
from burnish.rewards.drs import DrsConfig
from burnish.rewards.pixels import MaskedPixel
from burnish.rewards.protocol import Reward
from burnish.rewards.rubric import RewardSpec, RubricConfig, canonical_digest, reward_version, rubric_version
from burnish.rewards.table import TABLE, make_reward


def _spec(kind="masked_pixel", **changes):
    return RewardSpec(**{"name": kind, "kind": kind, **changes})


def _rubric(*specs, **changes):
    return RubricConfig(rewards=specs, **changes)


def _digest(config):
    return rubric_version(config, [reward_version(s, make_reward(s)) for s in config.rewards]).digest


@pytest.mark.parametrize("kind", TABLE)
def test_every_reward_states_what_the_protocol_asks(kind):
    reward = TABLE[kind]
    assert all(hasattr(reward, name) for name in (*Reward.__annotations__, "score", "Options"))
    assert reward.name == kind and reward.direction in (-1, 1) and reward.range[0] < reward.range[1]


def test_a_rubric_is_read_from_json():
    text = json.dumps({"rewards": [{"name": "masked_pixel", "kind": "masked_pixel", "drs": {"tau": -0.1}}]})
    assert RubricConfig.model_validate_json(text).rewards[0].drs == DrsConfig(tau=-0.1)


def test_an_unknown_reward_names_the_nearest():
    with pytest.raises(ValidationError, match="nearest is 'masked_pixel'"):
        _spec("maskd_pixel")


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(ValidationError, match=r"rewards\.band\.options\.rout: .*nearest is 'r_out'"):
        _spec("boundary_band", name="band", options={"rout": 3})


def test_a_reward_without_options_says_so():
    with pytest.raises(ValidationError, match="allowed no options"):
        _spec(options={"x": 1})


def test_an_option_out_of_bounds_is_refused_with_the_value():
    with pytest.raises(ValidationError, match="got 0, allowed"):
        _spec("boundary_band", options={"r_out": 0})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": -1.0}, "greater than or equal to 0"),
        ({"weight": float("nan")}, "finite number"),
        ({"gold": True}, "weight: got 1.0 for the gold reward"),
        ({"drs": DrsConfig(kind="f1")}, "f1 is 0"),
        ({"batch": 0}, "greater than or equal to 1"),
        ({"name": "Masked"}, "pattern"),
    ],
)
def test_a_wrong_spec_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        _spec(**changes)


def test_a_stand_in_never_reports_under_a_real_name():
    with pytest.raises(ValidationError, match="starting with 'toy_'"):
        _spec("toy_style", name="csd")


def test_a_reward_whose_smaller_values_are_better_is_logged_only(monkeypatch):
    kind = type("Distance", (TABLE["masked_pixel"],), {"direction": -1})
    monkeypatch.setitem(TABLE, "distance", kind)
    assert _spec("distance", weight=0.0, gold=True).gold
    with pytest.raises(ValidationError, match="smaller values are better"):
        _spec("distance")


def test_duplicate_names_are_refused():
    with pytest.raises(ValidationError, match="more than once"):
        _rubric(_spec(), _spec())


def test_all_weights_zero_is_refused():
    with pytest.raises(ValidationError, match="all weights zero"):
        _rubric(_spec(weight=0.0))


def test_weights_names_what_is_trained_on():
    config = _rubric(_spec(weight=0.5), _spec("toy_style", weight=0.0, gold=True))
    assert config.weights == {"masked_pixel": 0.5}


def test_the_rubric_digest_moves_with_weights_drs_aggregation_rewards_and_options():
    base = _spec("boundary_band")
    variants = [
        _rubric(base),
        _rubric(_spec("boundary_band", weight=2.0)),
        _rubric(_spec("boundary_band", drs=DrsConfig(tau=0.0))),
        _rubric(base, aggregation="weighted_sum"),
        _rubric(base, _spec()),
        _rubric(_spec("boundary_band", options={"r_in": 3})),
        _rubric(_spec("boundary_band", batch=8)),
    ]
    assert len({_digest(config) for config in variants}) == len(variants)


def test_digests_repeat_and_spelling_out_a_default_changes_nothing():
    spelt = _rubric(_spec("boundary_band", options={"r_out": 17}))
    assert _digest(_rubric(_spec("boundary_band"))) == _digest(spelt) == _digest(spelt)


def test_a_reward_digest_leaves_out_weight_and_drs():
    reward = make_reward(_spec())
    plain, changed = reward_version(_spec(), reward), reward_version(_spec(weight=3.0, drs=DrsConfig()), reward)
    assert plain == changed


def test_a_reward_digest_covers_weight_files_and_asks_for_them():
    reward = make_reward(_spec())
    reward.needs_weights = True
    with pytest.raises(ConfigError, match="weights_digest"):
        reward_version(_spec(), reward)
    digests = []
    for content in ("a", "b"):
        reward.weights_digest = content
        digests.append(reward_version(_spec(), reward).digest)
    assert digests[0] != digests[1]


def test_the_canonical_digest_ignores_the_order_of_keys():
    assert canonical_digest({"a": 1, "b": 2}) == canonical_digest({"b": 2, "a": 1})


def test_where_the_weights_lie_is_not_part_of_a_rewards_digest(monkeypatch):
    class Options(BaseModel):
        weights: str = Field(json_schema_extra={"run_option": True})
        mode: str = "flat"

    class Weighed(MaskedPixel):
        weights_digest = "w" * 64
        needs_weights = True

        def __init__(self, options):
            self.options = options

    Weighed.Options = Options
    monkeypatch.setitem(TABLE, "weighed", Weighed)

    def version(**options):
        spec = RewardSpec(name="weighed", kind="weighed", options=options)
        return reward_version(spec, make_reward(spec)).digest

    assert version(weights="here") == version(weights="there") != version(weights="here", mode="pooled")
