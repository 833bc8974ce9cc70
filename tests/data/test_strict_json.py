"""JSON as it comes over a wire."""

import json
import time

import pytest

from burnish.data.errors import DataError
from burnish.data.strict_json import MAX_KEYS, parse


def test_plain_values_are_read():
    assert parse(b' {"a": [1, 2.5, true, null, "\\u00e9"]} ') == {"a": [1, 2.5, True, None, "\u00e9"]}


@pytest.mark.parametrize(
    ("raw", "got"),
    [
        (b"\xff", "other bytes"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"{", "at character 1"),
        (b"", "at character 0"),
        (b"{} {}", "Extra data"),
        (b'{"a": 1, "b": {"c": 1, "c": 1}}', "'c' more than once"),
        (b"[NaN]", "NaN"),
        (b"[-Infinity]", "-Infinity"),
        (b"[1e999]", "1e999"),
        (b"[" + b"9" * 5000 + b"]", "too many digits"),
        (b"[" * 17 + b"]" * 17, "more than 16 levels"),
        (b'{"a":' * 17 + b"1" + b"}" * 17, "more than 16 levels"),
        (b"[" * 200_000, "levels"),
    ],
)
def test_anything_else_is_refused_with_what_it_was(raw, got):
    with pytest.raises(DataError) as refused:
        parse(raw, field="options")
    (problem,) = refused.value.problems
    assert problem.field == "options" and got in problem.got


def test_the_depth_is_the_callers():
    assert parse(b"[[[]]]", max_depth=3) == [[[]]]
    with pytest.raises(DataError):
        parse(b"[[[]]]", max_depth=2)


def test_keys_that_come_twice_are_counted_in_one_pass():
    pairs = ", ".join(f'"{k % (MAX_KEYS - 1)}": 1' for k in range(MAX_KEYS))
    began = time.process_time()
    with pytest.raises(DataError, match="'0' more than once"):
        parse(f"{{{pairs}}}".encode())
    assert time.process_time() - began < 0.2


def test_a_mapping_of_more_keys_than_anybody_needs_is_refused_at_any_depth():
    full = {str(k): k for k in range(MAX_KEYS)}
    assert parse(json.dumps(full).encode()) == full
    with pytest.raises(DataError, match=f"got a mapping of {MAX_KEYS + 1} keys, allowed at most {MAX_KEYS}"):
        parse(json.dumps([full | {"one more": 1}]).encode())


def test_a_long_key_that_comes_twice_is_cut_in_the_answer():
    key = b'"' + b"k" * 1_000_000 + b'": 1'
    with pytest.raises(DataError) as refused:
        parse(b"{" + key + b"," + key + b"}")
    assert len(str(refused.value)) < 200
