"""The fixed tree of gradient sums: its order, its blocks, and what it refuses. Ranks are played by hand."""

import pytest
import torch

from burnish.data.errors import ConfigError
from burnish.learners.engine import EngineConfig
from burnish.learners.optimizer import OptimizerConfig
from burnish.learners.reduction import TreeReduction, surrogate_loss
from burnish.learners.torch_engine import TorchEngine

LEAVES = torch.tensor([1.0, 1e8, -1e8, 1.0, 3.0, -2e8, 2e8, 5.0])
"""Numbers whose sum depends on the order."""


def losses(parameter, leaves):
    return [(parameter * leaf).sum() for leaf in leaves]


class Played(TreeReduction):
    """One of several ranks in one process: what its partner holds is worked out from the partner's own leaves."""

    def __init__(self, parameters, *, leaves, rank, world):
        super().__init__(parameters, num_micro=len(leaves) // world, rank=rank, world=world)
        self.leaves, self.size = leaves, len(leaves) // world

    def _exchanged(self, own, partner):
        span = abs(partner - self._rank)
        first = partner // span * span
        other = tree(self.leaves[first * self.size : (first + span) * self.size] / len(self.leaves))
        return own + other if self._rank < partner else other + own


def tree(leaves):
    """The sum in a binary tree, the slow way."""
    if len(leaves) == 1:
        return leaves
    half = len(leaves) // 2
    return tree(leaves[:half]) + tree(leaves[half:])


@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_every_rank_of_any_number_of_ranks_holds_the_same_bytes(world):
    found = []
    for rank in range(world):
        parameter = torch.nn.Parameter(torch.ones(1))
        reduction = Played({"p": parameter}, leaves=LEAVES, rank=rank, world=world)
        size = len(LEAVES) // world
        for loss in losses(parameter, LEAVES[rank * size : (rank + 1) * size]):
            reduction.add(loss)
        found.append(reduction.total()[0].item())
        assert parameter.grad is None
    assert set(found) == {tree(LEAVES / 8).item()}


def test_a_sum_from_left_to_right_would_be_another_number():
    assert sum(LEAVES / 8).item() != tree(LEAVES / 8).item()


def test_a_parameter_that_no_loss_reaches_gets_zeros_and_the_next_update_starts_afresh():
    used, unused = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3, 2))
    reduction = TreeReduction({"used": used, "unused": unused}, num_micro=2)
    for factor in (1.0, 5.0):
        for loss in losses(used, [factor, factor]):
            reduction.add(loss)
        first, second = reduction.total()
        assert first.tolist() == [factor, factor] and second.shape == (3, 2) and not second.any()


def test_what_is_given_arrives_exactly():
    parameter, gradient = torch.nn.Parameter(torch.tensor([1e-3, 3e7])), torch.tensor([1e-30, -7.7])
    surrogate_loss([gradient], [parameter], share=4.0).backward()
    assert parameter.grad is not None and torch.equal(parameter.grad, 4.0 * gradient)


def test_ranks_that_form_no_tree_and_stages_that_sum_by_themselves_are_refused():
    with pytest.raises(ConfigError, match="power of two"):
        TreeReduction({}, num_micro=1, world=3)
    with pytest.raises(ValueError, match="zero_stage: got 2"):
        EngineConfig(zero_stage=2, reduction="reproducible")


def test_the_engine_equals_the_fast_one_within_rounding():
    content = []
    for reduction in ("fast", "reproducible"):
        module = torch.nn.Linear(3, 2)
        torch.nn.init.constant_(module.weight, 0.5)
        torch.nn.init.constant_(module.bias, 0.1)
        engine = TorchEngine(module, EngineConfig(reduction=reduction), OptimizerConfig(), num_micro=4, total_steps=9)
        for micro in range(4):
            engine.backward((module(torch.linspace(0, 1 + micro, 3)) ** 2).sum())
        info = engine.step()
        content.append((info.grad_norm, module.weight.detach().clone()))
    assert content[0][0] == pytest.approx(content[1][0], rel=1e-6)
    torch.testing.assert_close(content[0][1], content[1][1], rtol=0, atol=1e-6)
