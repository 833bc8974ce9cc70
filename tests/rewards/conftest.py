"""Small fakes for the reward tests."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from burnish.data.masks import box_mask
from burnish.data.records import (
    Conditions,
    Example,
    Geometry,
    Group,
    PolicyVersion,
    Reference,
    SamplerSpec,
    Trajectory,
)
from burnish.data.seeding import generator

SIDE = 24


def _noise(*key: int | str) -> np.ndarray:
    return generator(0, "reward-test", *key).random((3, SIDE, SIDE), dtype=np.float32)


@pytest.fixture
def example() -> Example:
    """A 24 px example with a 12 px box, an input that differs inside it, and a style reference."""
    mask, target = box_mask((4, 8, 16, 20), height=SIDE, width=SIDE), _noise("target")
    image = np.where(mask > 0, np.float32(0.5), target)
    references = (Reference("detail", target[:, 8:20, 4:16]), Reference("style", _noise("style")[:, :12]))
    return Example("e0", "restore it", image, mask, references, target)


@pytest.fixture
def outputs(example: Example) -> np.ndarray:
    """Outputs [16,3,24,24], each further from the target than the one before; the first is the target."""
    assert example.target is not None
    shares = np.linspace(0, 1, 16, dtype=np.float32)
    return np.stack([(1 - s) * example.target + s * _noise("output") for s in shares])


@pytest.fixture
def make_group(example: Example) -> Callable[..., Group]:
    """Build a group of the example from images [G,3,H,W]."""

    def build(images: np.ndarray, **changes: object) -> Group:
        changed, policy = replace(example, **changes), PolicyVersion(0, "d")
        empty, spec = np.zeros((1, 1, 1), np.float32), SamplerSpec("ode", 1)
        scalars = np.zeros(1, np.float32)
        rows = tuple(
            Trajectory(changed.id, i, empty, empty, scalars, (0,), scalars, scalars, spec, policy, "", image)
            for i, image in enumerate(images)
        )
        return Group(changed, Conditions(changed.id, Geometry(SIDE, SIDE), {}), rows, 3, policy)

    return build
