"""Position ids and patches."""

from types import SimpleNamespace

import numpy as np

from burnish.data import seeding
from burnish.data.records import Conditions, Geometry
from burnish.policies.kontext import KontextPolicy
from burnish.policies.positions import patchify, position_ids, unpatchify


def test_target_input_and_reference_ids_are_the_published_ones(worked):
    inputs, expected = worked("position_ids")
    names = ("target_tokens_hw", "input_tokens_hw", "reference_tokens_hw")
    ids = np.concatenate([position_ids(k, *inputs[name]) for k, name in enumerate(names)])
    assert ids.tolist() == expected["ids"]


def test_kontext_numbers_target_input_and_references_of_any_size_as_published(worked):
    inputs, expected = worked("position_ids")
    names = ("target_tokens_hw", "input_tokens_hw", "reference_tokens_hw")
    (height, width), *others = ([16 * tokens for tokens in inputs[name]] for name in names)
    geometry = Geometry(height, width, (*map(tuple, others), (16, 48)))
    ids = KontextPolicy.ids(SimpleNamespace(token=16), Conditions("example", geometry, {}))
    assert ids.tolist() == [*expected["ids"], [3, 0, 0], [3, 0, 1], [3, 0, 2]]


def test_an_aligned_reference_starts_at_the_box():
    ids = position_ids(2, 2, 2, offset=(3, 1))
    assert ids.tolist() == [[2, 3, 1], [2, 3, 2], [2, 4, 1], [2, 4, 2]]


def test_patches_put_together_again_are_the_image():
    images = seeding.normal((2, 3, 8, 12), 0, "test")
    tokens = patchify(images, 4)
    assert tokens.shape == (2, 6, 48)
    np.testing.assert_array_equal(unpatchify(tokens, 4, height=8, width=12), images)


def test_a_token_holds_one_patch():
    image = np.arange(64, dtype=np.float32).reshape(1, 1, 8, 8)
    np.testing.assert_array_equal(patchify(image, 4)[0, 1].reshape(4, 4), image[0, 0, :4, 4:])
