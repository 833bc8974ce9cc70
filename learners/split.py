"""Who works on what: minibatches, ranks and micro-batches of an update. Pure integers.

Called by the platform before anything starts (to refuse a recipe) and by the trainers.
"""

from __future__ import annotations

from burnish.data.errors import ConfigError, Problem
from burnish.learners.engine import check_num_micro


def rank_groups(num_groups: int, *, updates: int, rank: int, world: int) -> tuple[tuple[int, ...], ...]:
    """Indices of one rank's groups, one tuple an update.

    The iteration's groups are cut into `updates` contiguous minibatches, and each of these into `world` contiguous
    blocks; `Learner.update` takes the groups in the order of the concatenated tuples.

    Raises:
        ConfigError: updates x world does not divide the number of groups.
    """
    if num_groups < 1 or num_groups % (updates * world):
        problem = Problem("groups an iteration", str(num_groups), f"a multiple of {updates} updates x {world} ranks")
        raise ConfigError("The groups do not divide into updates and ranks.", [problem])
    size = num_groups // (updates * world)
    starts = [(update * world + rank) * size for update in range(updates)]
    return tuple(tuple(range(start, start + size)) for start in starts)


def grpo_micro_batches(num_groups: int, *, group_size: int, micro_batch: int, updates: int, world: int) -> int:
    """Micro-batches of one rank in one GRPO update.

    Raises:
        ConfigError: something does not divide, or the result is no power of two.
    """
    if group_size % micro_batch:
        problem = Problem("micro_batch", str(micro_batch), f"a divisor of the group size ({group_size})")
        raise ConfigError("The group does not divide into micro-batches.", [problem])
    groups = len(rank_groups(num_groups, updates=updates, rank=0, world=world)[0])
    num_micro = groups * (group_size // micro_batch)
    check_num_micro(num_micro)
    return num_micro


def sft_micro_batches(batch: int, *, micro_batch: int, world: int) -> int:
    """Micro-batches of one rank in one supervised step.

    Raises:
        ConfigError: something does not divide, or the result is no power of two.
    """
    if batch % (micro_batch * world):
        problem = Problem("batch", str(batch), f"a multiple of micro_batch ({micro_batch}) x {world} ranks")
        raise ConfigError("The batch does not divide into micro-batches.", [problem])
    num_micro = batch // (micro_batch * world)
    check_num_micro(num_micro)
    return num_micro
