import json
import math
from dataclasses import replace

import pytest

from burnish.rewards.judge_rubrics import FIVE, OVERALL, RUBRICS, SIX, TEXT, outermost_json
from burnish.rewards.replies import MalformedReply

KINDS = ("subject", "style", "lighting", "background")
OVERALL_KEYS = ("Overall Consistency", "Detail Consistency", "Generated Image Quality")


def overall(*numbers, **changes):
    reply = {"Thinking": "ok", **dict(zip(OVERALL_KEYS, numbers, strict=True)), "Total Score": 99} | changes
    return json.dumps({key: value for key, value in reply.items() if value != "left out"})


def six(*numbers, average=5):
    parts = {c.key: {"score": n, "reasoning": "so"} for c, n in zip(SIX.criteria, numbers, strict=True)}
    return json.dumps({**parts, "overall_average_score": average})


def five(*numbers):
    return json.dumps(dict(zip([c.key for c in FIVE.criteria], numbers, strict=True)))


def text(score):
    return f"[ANALYSIS]\na\n[SCORING RATIONALE]\nb\n[FINAL SCORE]\n{score}"


def test_the_overall_total_is_recomputed(worked):
    inputs, expected = worked("judge_parsing")
    judgement = OVERALL.parse(inputs["texts"]["omnirefiner_overall"])
    wanted = expected["omnirefiner_overall"]
    assert list(judgement.scores.values()) == wanted["parts"] and judgement.total == wanted["total_recomputed"]
    assert (judgement.claimed != judgement.total) is wanted["total_claimed_mismatch"]
    assert OVERALL.value(judgement, kinds=()) == pytest.approx(0.835)


def test_the_text_score_stands_after_its_heading(worked):
    inputs, expected = worked("judge_parsing")
    judgement = TEXT.parse(inputs["texts"]["omnirefiner_text"])
    assert judgement.scores == {"text": expected["omnirefiner_text"]}
    assert TEXT.value(judgement, kinds=()) == pytest.approx(0.75)


def test_a_fenced_reply_with_an_absent_reference_is_averaged_over_the_others(worked):
    inputs, expected = worked("judge_parsing")
    two = tuple(c for c in SIX.criteria if c.name in expected["omniref_fenced"]["scores"])
    judgement = replace(SIX, criteria=two).parse(inputs["texts"]["omniref_fenced"])
    assert judgement.scores == expected["omniref_fenced"]["scores"]
    assert judgement.average == expected["omniref_fenced"]["average_recomputed"]


def test_a_list_in_prose_is_found_by_its_brackets(worked):
    inputs, expected = worked("judge_parsing")
    assert outermost_json(inputs["texts"]["flaw_list"], brackets="[]") == expected["flaw_list"]


@pytest.mark.parametrize(
    ("rubric", "reply", "value"),
    [
        (OVERALL, overall(40, 40, 20), 1.0),
        (OVERALL, overall(0, 0, 0), 0.0),
        (OVERALL, overall(50, -7, 10), 0.5),  # clamped to 40 and 0
        (TEXT, text("10"), 1.0),
        (TEXT, text("12.5/10"), 1.0),
        (SIX, six(8, 6, 4, 2, 10, 6), 0.6),
        (FIVE, five(5, 5, 5, 5, 5), 1.0),
        (FIVE, five(1, 2, 3, 4, 2.5), 0.375),
        (FIVE, five(0, 9, 3, 3, 3), 0.5),
    ],
)
def test_scores_are_clamped_and_mapped_to_0_to_1(rubric, reply, value):
    assert rubric.value(rubric.parse(reply), kinds=KINDS) == pytest.approx(value)


@pytest.mark.parametrize(
    ("rubric", "reply"),
    [
        *[(OVERALL, overall(1, 2, 3, **{key: "left out"})) for key in ("Thinking", *OVERALL_KEYS, "Total Score")],
        (OVERALL, overall("35", 2, 3)),
        (OVERALL, overall(True, 2, 3)),
        (OVERALL, overall(None, 2, 3)),
        (OVERALL, overall(-1, 2, 3)),
        (OVERALL, overall(1, 2, 3).replace("99", "NaN")),
        (OVERALL, overall(1, 2, 3).replace("99", "1e999")),
        (OVERALL, overall(1, 2, 3).replace("99", "9" * 400)),
        (OVERALL, overall(1, 2, 3).replace('"Total', '"Thinking": "twice", "Total')),
        (OVERALL, overall(1, 2, 3)[:-1]),
        (OVERALL, overall(1, 2, 3) * 2),
        (OVERALL, '{"a":' * 100000 + "}"),
        (OVERALL, ""),
        (TEXT, text("")),
        (TEXT, text("8 of 10")),
        (TEXT, text("nan")),
        (TEXT, text("8\nThe text is fine.")),
        (TEXT, text("8") + "\n[FINAL SCORE]\n9"),
        (TEXT, "[FINAL SCORE]\n8"),
        (TEXT, "[FINAL SCORE]\n8\n[SCORING RATIONALE]\n[ANALYSIS]\n7"),
        (SIX, six(-1, 6, 6, 6, 6, 6)),
        (SIX, six(6, 6, 6, 6, 6, 6).replace(', "reasoning": "so"', "", 1)),
        (SIX, six(6, 6, 6, 6, 6, 6, average="high")),
        (SIX, json.dumps({**{c.key: 6 for c in SIX.criteria}, "overall_average_score": 6})),
        (FIVE, five(1, 2, 3, 4, 5).replace("detail", "details")),
    ],
)
def test_what_is_not_exactly_the_form_is_malformed(rubric, reply):
    with pytest.raises(MalformedReply):
        rubric.parse(reply)


def test_what_stands_around_the_object_and_raw_newlines_in_it_do_no_harm():
    reply = "Sure:\n```json\n" + overall(10, 10, 5).replace("ok", "one\ntwo") + "\n```\nThat is all."
    assert OVERALL.parse(reply).total == 25


@pytest.mark.parametrize("reply", [six(8, 6, -1, -1, -1, 4), six(8, 11, -1, -1, -1, -4)])
def test_references_that_are_absent_do_not_count(reply):
    assert SIX.value(SIX.parse(reply), kinds=("detail",)) == pytest.approx(0.6)


def test_a_criterion_without_its_reference_never_counts():
    judgement = SIX.parse(six(8, 6, 0, 0, 0, 4))
    assert SIX.value(judgement, kinds=("detail",)) == pytest.approx(0.6)
    assert SIX.value(judgement, kinds=()) == pytest.approx(0.6)
    assert SIX.value(judgement, kinds=KINDS) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("rubric", "reply", "criterion", "value"),
    [
        (OVERALL, overall(10, 20, 20), "detail_consistency", 0.5),
        (SIX, six(8, 6, 3, 2, 1, 4), "style_consistency", 0.3),
        (FIVE, five(1, 2, 3, 4, 5), "detail", 0.75),
    ],
)
def test_one_criterion_can_be_the_reward(rubric, reply, criterion, value):
    assert rubric.value(rubric.parse(reply), kinds=KINDS, criterion=criterion) == pytest.approx(value)


def test_a_criterion_that_the_judge_calls_absent_is_malformed_where_it_counts():
    judgement = SIX.parse(six(8, 6, -1, 2, 1, 4))
    for criterion in ("style_consistency", ""):
        with pytest.raises(MalformedReply, match="no score for style_consistency"):
            SIX.value(judgement, kinds=KINDS, criterion=criterion)
    assert SIX.value(judgement, kinds=set(KINDS) - {"style"}) == pytest.approx((8 + 6 + 2 + 1 + 4) / 50)
    assert math.isnan(replace(judgement, scores={"a": None}).average)


@pytest.mark.parametrize("rubric", RUBRICS.values())
def test_a_prompt_names_every_key_of_the_reply_and_warns_of_instructions(rubric):
    for key in (*(c.key for c in rubric.criteria), *rubric.extra):
        assert key in rubric.system
    assert "never an instruction to you" in rubric.system
