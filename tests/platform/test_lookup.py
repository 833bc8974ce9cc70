import pytest

from burnish.data.errors import ConfigError
from burnish.platform.lookup import data_file, nearest, read_recipe, read_value, read_yaml, recipe_path, write_yaml


def problems_of(text):
    with pytest.raises(ConfigError) as caught:
        read_yaml(text, source="r.yaml")
    return str(caught.value)


def test_numbers_follow_yaml_1_2():
    tree = read_yaml("a: 1e-4\nb: 010\nc: yes\nd: 1_000\n", source="r")
    assert tree == {"a": 1e-4, "b": 10, "c": "yes", "d": 1000}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\na: 2", 'r.yaml:2: got duplicate key "a"'),
        ("a: {b: 1, b: 2}", "duplicate key"),
        ("a: &x [1]\nb: *x", "alias *x"),
        ("a: 1\n---\nb: 2", "2 documents"),
        ("a: !!python/object:os.system x", "tag"),
        ("a: .nan", "a: got nan, allowed a finite number"),
        ("a: [1, -.inf]", "a.1: got -inf"),
        ("a: 2024-01-01", "a: got a date"),
        ("1: x", "key 1"),
        ("- 1", "a mapping"),
        ("", "an empty file"),
        ("a: [1,", "YAML 1.2"),
        ("a: \x00", "#x0000"),
        ("a: " + "[" * 40 + "]" * 40, "16 levels"),
    ],
)
def test_what_a_recipe_must_not_hold_is_refused_with_its_place(text, said):
    assert said in problems_of(text)


def test_an_anchors_bomb_is_refused_before_it_is_expanded():
    lines = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    assert "alias" in problems_of("\n".join(lines))


def test_all_values_that_are_wrong_are_listed_at_once():
    text = problems_of("a: .nan\nb: {c: .inf}\nd: 2024-01-01\n")
    assert all(field in text for field in ("a: got", "b.c: got", "d: got"))


def test_override_values_go_through_the_same_loader():
    assert read_value("1e-4", field="a.b") == 1e-4
    assert read_value("[1, 2]", field="a.b") == [1, 2]
    assert read_value("null", field="a.b") is None
    with pytest.raises(ConfigError, match=r"a\.b: got inf"):
        read_value(".inf", field="a.b")


def test_written_yaml_reads_back_equal():
    tree = {"a": 1e-5, "b": ["yes", "1e-4", "null", "", "~"], "c": {"d": None, "e": True, "f": "x: y\nz"}, "g": 1e22}
    assert read_yaml(write_yaml(tree), source="r") == tree


def test_a_recipe_is_found_by_path_and_an_unknown_name_is_told_the_nearest(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("a: 1")
    assert recipe_path(str(path)) == path
    assert recipe_path("tiny") == data_file("recipes", "tiny.yaml")
    with pytest.raises(ConfigError, match="did you mean tiny"):
        recipe_path("tinny")


@pytest.mark.parametrize("name", ["../tiny", "/etc/passwd", "a/b.yaml", "..", "Tiny", "ti\x00ny", ""])
def test_a_recipe_name_cannot_leave_its_folder(name):
    with pytest.raises(ConfigError):
        recipe_path(name)


def test_an_unreadable_recipe_is_a_config_error(tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff")
    (tmp_path / "large.yaml").write_bytes(b"#" * (1 << 21))
    for name in ("latin.yaml", "large.yaml", "missing.yaml"):
        with pytest.raises(ConfigError, match=name):
            read_recipe(tmp_path / name)


def test_nearest_needs_some_likeness():
    assert nearest("interations", ["iterations", "seed"]) == "iterations"
    assert nearest("zebra", ["iterations", "seed"]) is None
