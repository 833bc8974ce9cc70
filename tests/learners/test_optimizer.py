"""Learning rate, gradient norm and clipping."""

import pytest
import torch

from burnish.learners.optimizer import OptimizerConfig, clip_gradients, gradient_norm


def rates(config, steps):
    return [config.lr_at(step, total_steps=steps) for step in range(steps)]


def test_the_rate_warms_up_and_stays():
    assert rates(OptimizerConfig(lr=1.0, warmup=4), 6) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_the_rate_decays_linearly_to_its_final_share():
    config = OptimizerConfig(lr=1.0, warmup=2, decay="linear", final_fraction=0.1)
    assert config.lr_at(2, total_steps=12) == 1.0
    assert config.lr_at(7, total_steps=12) == pytest.approx(0.55)
    assert config.lr_at(12, total_steps=12) == config.lr_at(99, total_steps=12) == pytest.approx(0.1)


def test_the_norm_is_that_of_all_gradients_together():
    gradients = [torch.tensor([3.0]), torch.tensor([[4.0, 0.0]])]
    assert float(gradient_norm(gradients)) == 5.0


@pytest.mark.parametrize(("limit", "largest"), [(10.0, 4.0), (0.0, 4.0), (1.0, 0.8)])
def test_gradients_are_scaled_only_above_the_limit(limit, largest):
    gradients = [torch.tensor([3.0]), torch.tensor([[4.0, 0.0]])]
    clip_gradients(gradients, gradient_norm(gradients), max_norm=limit)
    assert float(gradients[1].max()) == pytest.approx(largest, rel=1e-6)
