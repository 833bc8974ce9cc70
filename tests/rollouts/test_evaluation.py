"""Evaluation: rows at a fixed batch shape, merged, with intervals, before against after."""

import json
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from burnish.data.errors import DataError, RefusedError
from burnish.data.layout import DataConfig, SourceConfig
from burnish.data.records import Example, SamplerSpec
from burnish.data.sources import make_source
from burnish.rollouts.eval_result import EvalResult, compare, merge
from burnish.rollouts.evaluation import (
    METRICS,
    EvalPart,
    EvaluationConfig,
    Evaluator,
    evaluation_examples,
    evaluation_specs,
    geometry_key,
)

ODE = SamplerSpec("ode", 4)
CONFIG = EvaluationConfig(batch=4)


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    config = DataConfig(reference_weights=(1.0, 1.0, 1.0), box="free")
    return evaluation_examples(make_source(config), "heldout", count=96, block=config.block, config=CONFIG)


def restoring(share: float) -> Callable[[Sequence[Example], SamplerSpec], np.ndarray]:
    """A policy that goes `share` of the way from the input to the target."""

    def sample(batch: Sequence[Example], sampler: SamplerSpec) -> np.ndarray:
        assert len(batch) == CONFIG.batch
        assert len({geometry_key(e) for e in batch}) == 1
        return np.stack([e.image + share * (e.target - e.image) for e in batch if e.image is not None])

    return sample


def result(examples: list[Example], share: float) -> EvalResult:
    return merge([Evaluator(CONFIG, sample=restoring(share)).evaluate(examples, sampler=ODE)])


def test_a_perfect_policy_scores_perfectly(examples: list[Example]) -> None:
    means = result(examples, 1.0).means()
    assert means["outside_mse"] == means["outside_mse_pasted"] == 0
    assert means["glyph_accuracy"] == 1
    assert means["edge_ratio"] == pytest.approx(1, rel=1e-6)
    assert max(means["masked_mse"], means["error_left"]) < 1e-12
    assert means["input_masked_mse"] > 0.01 and means["input_glyph_accuracy"] < 0.8


def test_the_error_left_is_the_share_of_the_inputs_error(examples: list[Example]) -> None:
    found = result(examples, 0.5)
    assert found.primary["error_left"].mean == pytest.approx(0.25, rel=1e-5)
    assert found.primary["masked_mse"].low < found.primary["masked_mse"].mean < found.primary["masked_mse"].high
    assert found.sources["drawn_logo"]["error_left"].high == pytest.approx(0.25, rel=1e-5)


def test_parts_merge_to_the_same_bytes_whoever_made_them(examples: list[Example]) -> None:
    evaluator = Evaluator(CONFIG, sample=restoring(0.7))
    whole = merge([evaluator.evaluate(examples, sampler=ODE)])
    shares = [[i for i in range(96) if i % 3 == worker] for worker in (2, 0, 1)]
    parts = [evaluator.evaluate([examples[i] for i in s], sampler=ODE, positions=s) for s in shares]
    assert json.dumps(merge(parts).to_json()) == json.dumps(whole.to_json())


def test_parts_survive_json(examples: list[Example]) -> None:
    part = Evaluator(CONFIG, sample=restoring(0.7)).evaluate(examples, sampler=ODE)
    again = EvalPart.from_json(json.loads(json.dumps(part.to_json())))
    assert merge([again]).to_json() == merge([part]).to_json()
    assert set(part.values) == set(METRICS)


def test_incomplete_or_doubled_parts_are_refused(examples: list[Example]) -> None:
    part = Evaluator(CONFIG, sample=restoring(1)).evaluate(examples[:4], sampler=ODE, positions=[0, 1, 2, 4])
    for parts in ([part], [part, part], []):
        with pytest.raises(DataError):
            merge(parts)


def test_photographs_have_scenes_and_no_interval(examples: list[Example]) -> None:
    found = result(examples, 0.5)
    photo = found.to_json()["sources"]["photo"]["masked_mse"]
    assert photo["low"] is None and photo["mean"] > 0
    assert len(found.scenes) >= 2
    assert sum(f["masked_mse"].n for f in found.scenes.values()) == photo["n"]
    assert found.primary["masked_mse"].n + photo["n"] == 96


def test_without_drawn_examples_everything_is_primary() -> None:
    config = DataConfig(sources=(SourceConfig(kind="photo"),))
    photos = evaluation_examples(make_source(config), "dev", count=8, block=16, config=CONFIG)
    found = merge([Evaluator(CONFIG, sample=restoring(0.5)).evaluate(photos, sampler=ODE)])
    assert found.primary["masked_mse"].n == len(photos)
    assert np.isnan(found.primary["glyph_accuracy"].mean)


def test_a_paired_comparison_excludes_zero_where_all_examples_improve(examples: list[Example]) -> None:
    change = compare(result(examples, 0.5), result(examples, 0.6))
    relative = change.primary["masked_mse"].relative
    assert relative.mean == pytest.approx(0.64 - 1, rel=1e-4)
    assert relative.excludes_zero and change.primary["masked_mse"].difference.high < 0
    assert json.loads(json.dumps(change.to_json()))["sources"]["photo"]["masked_mse"]["relative"]["low"] is None


def test_only_the_same_examples_can_be_compared(examples: list[Example]) -> None:
    with pytest.raises(DataError, match="same examples"):
        compare(result(examples, 0.5), result(examples[:8], 0.5))


def test_an_output_that_is_not_finite_is_refused_not_left_out(examples: list[Example]) -> None:
    with pytest.raises(RefusedError, match="not finite"):
        result(examples, float("nan"))


def test_examples_without_a_target_or_none_at_all_are_refused(examples: list[Example]) -> None:
    evaluator = Evaluator(CONFIG, sample=restoring(1))
    with pytest.raises(DataError, match="targets"):
        evaluator.evaluate([Example("bare", "", examples[0].image, None)], sampler=ODE)
    with pytest.raises(DataError, match="at least one"):
        evaluator.evaluate([], sampler=ODE)


def test_outputs_that_were_asked_for_are_kept(examples: list[Example]) -> None:
    wanted = examples[5].id
    part = Evaluator(CONFIG, sample=restoring(1)).evaluate(examples[:8], sampler=ODE, keep=[wanted])
    assert list(part.images) == [wanted]
    np.testing.assert_allclose(part.images[wanted], examples[5].target, atol=1e-6)


def test_the_deployment_sampler_is_the_training_sampler_without_noise() -> None:
    training = SamplerSpec("flow_sde", 4, eta=0.7, shift=2.0)
    specs = evaluation_specs(training, CONFIG)
    assert specs["sde"] == training
    assert specs["ode"] == SamplerSpec("ode", 4, shift=2.0)
    assert list(evaluation_specs(training, EvaluationConfig(samplers=("ode",)))) == ["ode"]


def test_a_policy_may_be_deployed_with_more_steps_than_it_was_trained_with() -> None:
    training = SamplerSpec("flow_sde", 10, eta=1.0, schedule="model")
    specs = evaluation_specs(training, EvaluationConfig(num_steps=20))
    assert specs == {"ode": SamplerSpec("ode", 20, schedule="model"), "sde": training}


def test_whole_frame_generation_is_judged_without_an_input(examples: list[Example]) -> None:
    bare = Example("gen", "", None, None, (), examples[0].target, {"source": "drawn_x"})
    config = EvaluationConfig(batch=1)
    evaluator = Evaluator(config, sample=lambda batch, sampler: np.stack([e.target for e in batch]))
    values = evaluator.evaluate([bare], sampler=ODE).values
    assert values["masked_mse"][0] == 0 and values["masked_mse_pasted"][0] == 0
    assert np.isnan(values["input_masked_mse"][0]) and np.isnan(values["outside_mse"][0])
