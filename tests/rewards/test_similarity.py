"""Style and semantic rewards, and the encoder beneath them."""

from dataclasses import replace

import numpy as np
import pytest

from burnish.data.records import Reference
from burnish.rewards.encoders import ConvEncoder, FeatureCache, cosine, unit
from burnish.rewards.regions import crop_resized, grow_box, resize_matrix
from burnish.rewards.semantic import SemanticOptions, ToySemantic, token_similarity
from burnish.rewards.style import StyleOptions, ToyStyle


def test_similarity_modes_are_the_worked_ones(worked):
    inputs, expected = worked("siglip_similarity_modes")
    a, b = np.array(inputs["tokens_a"]), np.array(inputs["tokens_b"])
    for mode in ("flat", "mean_pool"):
        assert token_similarity(a, b, mode=mode) == pytest.approx(expected[mode], rel=1e-6)


def test_cosine_is_the_worked_one(worked):
    inputs, expected = worked("cosine_scores")
    assert cosine(np.array(inputs["a"]), np.array(inputs["b"])) == pytest.approx(expected["cosine"], rel=1e-6)


def test_a_zero_vector_has_cosine_0_and_no_nan():
    assert cosine(np.zeros(3), np.ones(3)) == 0
    assert unit(np.zeros((2, 3), np.float32), axis=1).tolist() == [[0, 0, 0]] * 2


@pytest.mark.parametrize("mode", ["flat", "mean_pool"])
def test_toy_semantic_is_1_for_the_target_and_falls_with_the_error(example, outputs, mode):
    scores = ToySemantic(SemanticOptions(mode=mode)).score(outputs, [example] * 16)
    assert scores[0] == pytest.approx(1, abs=1e-6)
    assert scores[0] > scores[5] > scores[15] and scores.dtype == np.float32


def test_toy_semantic_is_missing_without_a_target(example, outputs):
    scores = ToySemantic(SemanticOptions()).score(outputs[:2], [replace(example, target=None), example])
    assert np.isfinite(scores).tolist() == [False, True]


def test_toy_style_of_an_image_with_itself_is_1(example, outputs):
    own = replace(example, mask=None, references=(Reference("style", outputs[3]),))
    assert ToyStyle(StyleOptions()).score(outputs[3:4], [own])[0] == pytest.approx(1, abs=1e-6)


def test_toy_style_prefers_the_same_texture_elsewhere_to_another_texture(example):
    stripes = np.tile(np.repeat(np.array([0.0, 1.0], np.float32), 2), (3, 24, 6))
    moved, turned = np.roll(stripes, 2, axis=2), stripes.transpose(0, 2, 1)
    case = replace(example, mask=None, references=(Reference("style", stripes),))
    scores = ToyStyle(StyleOptions()).score(np.stack([moved, turned]), [case] * 2)
    assert scores[0] > scores[1] + 0.01


def test_toy_style_takes_the_first_style_reference(example, outputs):
    first = replace(example, references=(*example.references, Reference("style", outputs[0])))
    reward = ToyStyle(StyleOptions())
    assert reward.score(outputs, [first] * 16).tobytes() == reward.score(outputs, [example] * 16).tobytes()


def test_toy_style_is_missing_without_a_style_reference_or_a_region(example, outputs):
    cases = [replace(example, references=example.references[:1]), replace(example, mask=np.zeros_like(example.mask))]
    assert np.isnan(ToyStyle(StyleOptions()).score(outputs[:2], cases)).all()


def test_encoders_of_one_name_are_equal_and_of_two_names_differ(outputs):
    a, b, c = (ConvEncoder(name, size=24).features(outputs) for name in ("x", "x", "y"))
    assert all(p.tobytes() == q.tobytes() for p, q in zip(a, b, strict=True))
    assert not np.allclose(a[0], c[0])
    assert [m.shape for m in a] == [(16, 12, 24, 24), (16, 16, 12, 12), (16, 32, 6, 6)]


def test_the_cache_is_bounded_and_keyed_by_content():
    cache, calls = FeatureCache(limit=2), []
    for value in (0, 1, 0, 2, 0, 1):
        cache.get(np.full(3, value, np.float32), lambda content: calls.append(int(content[0])))
    assert calls == [0, 1, 2, 1] and len(cache) == 2


@pytest.mark.parametrize(("length", "size"), [(12, 24), (24, 24), (100, 24), (5, 24)])
def test_resizing_keeps_constants_and_does_nothing_at_equal_size(length, size):
    matrix = resize_matrix(length, size)
    assert matrix.sum(axis=1) == pytest.approx(np.ones(size), rel=1e-6)
    assert length != size or (matrix == np.eye(size)).all()


def test_a_crop_of_its_own_size_is_the_crop(example):
    assert (crop_resized(example.target, (4, 8, 16, 20), size=12) == example.target[:, 8:20, 4:16]).all()


def test_growing_stays_in_the_frame_and_keeps_larger_boxes():
    assert grow_box((0, 0, 1, 20), min_side=8, height=24, width=24) == (0, 0, 8, 20)
    assert grow_box((3, 3, 4, 4), min_side=8, height=6, width=5) == (0, 0, 5, 6)
