from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from burnish.data.errors import ConfigError, Problem
from burnish.platform.config import load_recipe
from burnish.platform.validation import differing, digest, significant, validate


class Base(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Optimiser(Base):
    lr: float = Field(1e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.98)
    workers: int = Field(1, json_schema_extra={"run_option": True})

    @model_validator(mode="after")
    def _check(self):
        if self.betas[0] > self.betas[1]:
            raise ValueError(f"betas: got {list(self.betas)}, allowed first <= second")
        return self


class Circle(Base):
    kind: Literal["circle"] = "circle"
    radius: float = 1.0


class Square(Base):
    kind: Literal["square"] = "square"
    side: int = Field(1, ge=1)


Shape = Annotated[Circle | Square, Field(discriminator="kind")]


class Small(Base):
    optimiser: Optimiser = Optimiser()
    shapes: tuple[Shape, ...] = ()
    table: dict[str, Optimiser] = {}
    mode: Literal["fast", "exact"] = "fast"
    steps: int = 2
    note: str = Field("", json_schema_extra={"run_option": True})

    @model_validator(mode="after")
    def _check(self):
        if self.steps > 100:
            raise ConfigError("cross-check", [Problem("steps", "many", "few"), Problem("optimiser.lr", "x", "y")])
        return self


def problems_of(tree):
    with pytest.raises(ConfigError) as caught:
        validate(Small, tree, source="r.yaml")
    return {p.field: p for p in caught.value.problems}


@pytest.mark.parametrize(
    ("tree", "field", "got", "allowed"),
    [
        ({"steps": "2"}, "steps", '"2"', "integer (not quoted)"),
        ({"steps": True}, "steps", "true", "integer (not quoted)"),
        ({"steps": 1.5}, "steps", "1.5", "integer (not quoted)"),
        ({"mode": "fats"}, "mode", '"fats"', "'fast' or 'exact'"),
        ({"optimiser": {"lr": 0}}, "optimiser.lr", "0", "> 0.0"),
        ({"optimiser": {"lr": False}}, "optimiser.lr", "false", "number (not quoted)"),
        ({"optimiser": {"betas": [0.9, 0.1]}}, "optimiser.betas", "[0.9, 0.1]", "first <= second"),
        ({"optimiser": {"betas": [0.9]}}, "optimiser.betas.1", "nothing", "a value (required)"),
        ({"optimiser": 3}, "optimiser", "3", "an object"),
        ({"shapes": [{"kind": "square", "side": 0}]}, "shapes.0.side", "0", ">= 1"),
        ({"shapes": [{"kind": "star"}]}, "shapes.0.kind", "'star'", "'circle', 'square'"),
        ({"table": {"a": {"lr": -1}}}, "table.a.lr", "-1", "> 0.0"),
        ({"steps": 101}, "optimiser.lr", "x", "y"),
    ],
)
def test_a_wrong_value_says_field_got_and_allowed(tree, field, got, allowed):
    problem = problems_of(tree)[field]
    assert (problem.got, problem.allowed) == (got, allowed)


@pytest.mark.parametrize(
    ("tree", "field", "hint"),
    [
        ({"stesp": 1}, "stesp", "did you mean steps?"),
        ({"optimiser": {"lrr": 1}}, "optimiser.lrr", "did you mean lr?"),
        ({"lr": 1}, "lr", "did you mean optimiser.lr?"),
        ({"shapes": [{"kind": "square", "sides": 2}]}, "shapes.0.sides", "did you mean side?"),
        ({"table": {"a": {"beta": 1}}}, "table.a.beta", "did you mean betas?"),
    ],
)
def test_an_unknown_key_names_the_nearest(tree, field, hint):
    problem = problems_of(tree)[field]
    assert (problem.got, problem.hint) == ("an unknown key", hint)


def test_everything_that_is_wrong_is_reported_at_once():
    found = problems_of(
        {"stesp": 1, "mode": 1, "optimiser": {"lr": -1, "x": 1}, "shapes": [{"kind": "square", "a": 1}]}
    )
    assert set(found) == {"stesp", "mode", "optimiser.lr", "optimiser.x", "shapes.0.a"}


def test_lists_become_tuples_and_integers_become_floats():
    model = validate(Small, {"optimiser": {"betas": [0, 1], "lr": 1}}, source="r")
    assert model.optimiser.betas == (0.0, 1.0)
    assert digest(model) == digest(validate(Small, {"optimiser": {"betas": [0.0, 1.0], "lr": 1.0}}, source="r"))


def test_a_run_option_changes_no_digest_at_any_depth():
    plain = validate(Small, {"table": {"a": {}}}, source="r")
    other = validate(Small, {"table": {"a": {"workers": 9}}, "optimiser": {"workers": 7}, "note": "hi"}, source="r")
    assert digest(plain) == digest(other)
    assert "workers" not in str(significant(other))


def test_any_other_field_changes_the_digest_and_is_named():
    plain = validate(Small, {}, source="r")
    other = validate(Small, {"steps": 3, "shapes": [{"kind": "circle"}], "table": {"a": {}}}, source="r")
    assert digest(plain) != digest(other)
    assert set(differing(plain, other)) >= {"steps", "shapes", "table.a.lr"}
    assert differing(plain, plain) == {}


def test_a_secret_typed_into_a_recipe_is_not_shown_again():
    spec = '{"name": "judge", "kind": "judge", "options": {"model": "m", "url": "https://x", "token_env": "sk-canary"}}'
    with pytest.raises(ConfigError) as caught:
        load_recipe("smoke", [("rewards.rewards", f"[{spec}]"), ("rewards.bogus", "1")])
    assert "sk-canary" not in str(caught.value)
