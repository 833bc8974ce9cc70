"""What a change may say, each kind of it, and that it survives being written down."""

import pytest

from burnish.data.errors import ConfigError
from burnish.platform.changes import ACTIONS, Change, change_from

SPEC = {"name": "pixels", "kind": "masked_pixel", "weight": 0.5}
POINTS = [{"iteration": 0, "weight": 1.0}, {"iteration": 20, "weight": 0.3}]
GOOD = [
    {"action": "add", "spec": SPEC, "shadow": 3, "why": "more"},
    {"action": "add", "name": "pixels"},
    {"action": "remove", "name": "pixels"},
    {"action": "swap", "name": "outside", "spec": {"name": "x", "kind": "masked_pixel"}},
    {"action": "swap", "name": "pixels", "shadow": 2},
    {"action": "weight", "name": "pixels", "weight": 0},
    {"action": "weight", "name": "pixels", "schedule": POINTS},
    {"action": "shadow", "spec": SPEC, "name": "outside", "shadow": 5},
    {"action": "unshadow", "name": "pixels"},
    {"action": "rollback"},
    {"action": "rollback", "to_version": 2},
]


@pytest.mark.parametrize("tree", GOOD)
def test_each_kind_of_change_survives_being_written_down(tree):
    change = change_from(tree)
    assert isinstance(change, Change) and change_from(change.to_json()) == change


def test_every_action_is_among_the_good_ones():
    assert {tree["action"] for tree in GOOD} == set(ACTIONS)


def test_what_a_spec_leaves_unsaid_stays_unsaid():
    change = change_from({"action": "swap", "name": "a", "spec": {"name": "x", "kind": "masked_pixel"}})
    again = change_from(change.to_json())
    assert again.spec is not None and again.spec.model_fields_set == {"name", "kind"}


@pytest.mark.parametrize(
    ("tree", "field"),
    [
        ({}, "action"),
        ({"action": "fly"}, "action"),
        ({"action": "add"}, "spec"),
        ({"action": "add", "spec": SPEC, "weight": 1.0}, "weight"),
        ({"action": "add", "spec": {**SPEC, "weight": -1}}, "spec.weight"),
        ({"action": "add", "spec": {**SPEC, "options": {"x": 1}}}, "spec.rewards.pixels.options.x"),
        ({"action": "add", "spec": {"name": "p", "kind": "toy_style"}}, "spec.name"),
        ({"action": "remove"}, "name"),
        ({"action": "remove", "name": "../x"}, "name"),
        ({"action": "remove", "name": "a", "shadow": 2}, "shadow"),
        ({"action": "weight", "name": "a"}, "weight"),
        ({"action": "weight", "name": "a", "weight": 1.0, "schedule": POINTS}, "weight"),
        ({"action": "weight", "name": "a", "weight": float("inf")}, "weight"),
        ({"action": "weight", "name": "a", "weight": True}, "weight"),
        ({"action": "weight", "name": "a", "schedule": POINTS[::-1]}, "schedule"),
        ({"action": "shadow", "name": "a"}, "spec"),
        ({"action": "rollback", "to_version": 0}, "to_version"),
        ({"action": "rollback", "to_version": 1.0}, "to_version"),
        ({"action": "rollback", "why": "x" * 501}, "why"),
        ({"action": "rollback", "why": "two\nlines"}, "why"),
        ({"action": "rollback", "vhy": "typo"}, "vhy"),
    ],
)
def test_a_change_that_does_not_fit_itself_is_refused_by_field(tree, field):
    with pytest.raises(ConfigError) as refused:
        change_from(tree)
    assert field in [problem.field for problem in refused.value.problems]
