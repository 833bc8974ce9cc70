"""Every refusal says what to do."""

import re
from pathlib import Path

import pytest

from burnish.data.errors import Problem
from burnish.serve.hints import CODES, FIELDS, hint_for
from burnish.serve.refusal import Refusal

ROOM = Path(__file__).parents[2] / "serve"
USED = {
    code
    for file in ROOM.glob("*.py")
    for code in re.findall(r'(?:Refusal\(|^ +)[45][0-9]{2}, "([a-z_]+)"', file.read_text(), re.M)
}


def test_the_codes_with_hints_are_those_that_are_used():
    assert {*USED, "method_not_allowed"} == set(CODES)


@pytest.mark.parametrize(
    ("field", "first"),
    [("references.0.image", "references"), ("mask, box", "mask"), ("seed", None), ("mask[1]", "mask")],
)
def test_an_invalid_fields_hint_goes_by_its_first_part(field, first):
    assert hint_for("invalid", field) == (FIELDS[first] if first else CODES["invalid"])


def test_a_hint_of_its_own_is_kept():
    refusal = Refusal(422, "invalid", "no", [Problem("seed", "1", "2", "own"), Problem("seed", "1", "2")])
    assert b'"hint": "own"' in refusal.body("id") and CODES["invalid"].encode() in refusal.body("id")
