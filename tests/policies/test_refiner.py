"""The refiner touches nothing outside the region."""

from dataclasses import replace

import numpy as np
import pytest

from burnish.data.errors import DataError
from burnish.data.paste import alpha_uint8
from burnish.data.records import SamplerSpec
from burnish.policies.refiner import Refiner

ODE = SamplerSpec("ode", 2)


@pytest.mark.parametrize("size", [(24, 24), (61, 90)])
def test_pixels_outside_the_blended_mask_are_the_input_bit_for_bit(policy, example, size):
    one = example(references=2)
    image = np.resize(one.image, (3, *size))
    mask = np.zeros((1, *size), np.float32)
    mask[:, 6:17, 5:15] = 1
    out = Refiner(policy, ODE).refine(replace(one, image=image, mask=mask, target=None))
    outside = alpha_uint8(mask)[0] == 0
    np.testing.assert_array_equal(out[:, outside], image[:, outside])
    assert out.shape == image.shape
    assert np.abs(out - image)[:, mask[0] > 0].max() > 0.01


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(policy, example):
    refiner = Refiner(policy, SamplerSpec("flow_sde", 3, eta=0.5))
    first, again, other = (refiner.refine(example(), seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_an_example_without_an_image_is_refused(policy, example):
    with pytest.raises(DataError, match="no image"):
        Refiner(policy, ODE).refine(replace(example(), image=None, mask=None, target=None))
