import numpy as np
import pytest

from burnish.data import seeding

GOLDEN = [-0.73648417, -0.15670279, 0.35502371]


def test_parts_are_told_apart_by_length_and_type():
    keys = [("a", "bc"), ("ab", "c"), ("abc",), (1,), ("1",), (1, 1), (11,), ("", "abc")]
    assert len({seeding.key_bytes(key) for key in keys}) == len(keys)


@pytest.mark.parametrize("part", [True, 1.0, None])
def test_other_types_are_no_key(part):
    with pytest.raises(TypeError, match="key part"):
        seeding.key_bytes((part,))


def test_draws_are_the_recorded_ones():
    found = seeding.normal((3,), 0, "golden", "example", 7)
    np.testing.assert_allclose(found, GOLDEN, rtol=1e-6)
    assert found.dtype == np.float32


def test_seed_purpose_and_parts_all_matter():
    draws = [seeding.normal((4,), *key) for key in [(0, "a"), (1, "a"), (0, "b"), (0, "a", 1)]]
    assert len({draw.tobytes() for draw in draws}) == 4
    assert seeding.normal((4,), 0, "a").tobytes() == draws[0].tobytes()


def test_permutations_and_choices_are_valid():
    assert sorted(seeding.permutation(9, 0, "p")) == list(range(9))
    chosen = seeding.choice(9, 4, 0, "p")
    assert len(set(chosen)) == 4
    assert list(chosen) == sorted(chosen)
