import pytest

from burnish.data.errors import ConfigError
from burnish.platform.overrides import apply_overrides, split_overrides


def test_dotted_options_are_parted_from_declared_ones():
    rest, found = split_overrides(["train", "tiny", "--a.b", "-1", "--seed", "3", "--c.d=[1, 2]", "--json"])
    assert rest == ["train", "tiny", "--seed", "3", "--json"]
    assert found == [("a.b", "-1"), ("c.d", "[1, 2]")]


def test_a_value_may_hold_an_equals_sign_and_lines():
    assert split_overrides(["--a.b=x=y\nz"]) == ([], [("a.b", "x=y\nz")])


def test_what_follows_two_dashes_is_left_alone():
    assert split_overrides(["refine", "--", "--a.b"]) == (["refine", "--", "--a.b"], [])


def test_every_override_without_a_value_is_named():
    with pytest.raises(ConfigError) as caught:
        split_overrides(["--a.b", "--c.d"])
    assert [p.field for p in caught.value.problems] == ["a.b", "c.d"]


def test_overrides_set_deep_values_and_the_last_one_wins():
    tree = {"a": {"b": 1}, "c": [1]}
    result = apply_overrides(tree, [("a.b", "2"), ("a.b", "3"), ("a.new.deep", "x"), ("a.list", "[1, 2]")])
    assert result == {"a": {"b": 3, "new": {"deep": "x"}, "list": [1, 2]}, "c": [1]}
    assert tree == {"a": {"b": 1}, "c": [1]}


def test_a_path_through_a_value_or_a_list_is_refused_and_all_are_listed():
    with pytest.raises(ConfigError) as caught:
        apply_overrides({"a": 1, "c": [1]}, [("a.b", "2"), ("c.0", "2"), ("d.e", ".nan")])
    assert [p.field for p in caught.value.problems] == ["a.b", "c.0", "d.e"]
    assert "lists are replaced as a whole" in str(caught.value)
