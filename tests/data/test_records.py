import pickle

import numpy as np
import pytest

from burnish.data.errors import DataError
from burnish.data.records import Example, Reference


def image(height=8, width=8, channels=3, kind=np.float32):
    return np.zeros((channels, height, width), kind)


def test_examples_survive_pickling():
    example = Example("a", "x", image(), image(channels=1), (Reference("detail", image(4, 4)),), image(), {"n": 1})
    again = pickle.loads(pickle.dumps(example))
    assert again.num_references == 1
    assert again.meta == example.meta
    np.testing.assert_array_equal(again.references[0].image, example.references[0].image)


BAD = [
    {"image": image(kind=np.float64)},
    {"image": image(channels=1)},
    {"mask": image(channels=3)},
    {"target": image(9, 8)},
    {"references": (Reference("detail", image()),) * 9},
]


@pytest.mark.parametrize("change", BAD)
def test_examples_of_the_wrong_type_or_size_are_refused(change):
    with pytest.raises(DataError):
        Example(**({"id": "a", "instruction": "x", "image": image(), "mask": image(channels=1)} | change))


def test_unknown_reference_kinds_are_refused():
    with pytest.raises(DataError, match="reference kind"):
        Reference("smell", image())


def test_records_cannot_be_changed():
    with pytest.raises(AttributeError):
        Reference("detail", image()).kind = "style"
