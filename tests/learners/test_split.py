"""Minibatches, ranks and micro-batches."""

import pytest

from burnish.data.errors import ConfigError
from burnish.learners.split import grpo_micro_batches, rank_groups, sft_micro_batches


def test_minibatches_are_contiguous_and_ranks_take_contiguous_blocks_of_each():
    assert rank_groups(8, updates=2, rank=0, world=2) == ((0, 1), (4, 5))
    assert rank_groups(8, updates=2, rank=1, world=2) == ((2, 3), (6, 7))


@pytest.mark.parametrize("world", [1, 2, 4])
def test_every_group_belongs_to_exactly_one_rank(world):
    dealt = [i for rank in range(world) for block in rank_groups(8, updates=2, rank=rank, world=world) for i in block]
    assert sorted(dealt) == list(range(8))


def test_micro_batches_are_counted():
    assert grpo_micro_batches(4, group_size=16, micro_batch=8, updates=2, world=1) == 4
    assert sft_micro_batches(32, micro_batch=16, world=2) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_groups": 5}, "multiple of 2 updates x 1 ranks"),
        ({"micro_batch": 5}, "divisor of the group size"),
        ({"num_groups": 6}, "power of two"),
    ],
)
def test_what_does_not_divide_is_refused(arguments, message):
    fitting = {"num_groups": 4, "group_size": 16, "micro_batch": 16, "updates": 2, "world": 1}
    with pytest.raises(ConfigError, match=message):
        grpo_micro_batches(**(fitting | arguments))


@pytest.mark.parametrize(("batch", "message"), [(24, "multiple of micro_batch"), (48, "power of two")])
def test_a_supervised_batch_that_does_not_divide_is_refused(batch, message):
    with pytest.raises(ConfigError, match=message):
        sft_micro_batches(batch, micro_batch=16, world=1)
