"""One learner rank as a process of its own: `rank_worker.py ENGINE rank world address out`, ENGINE being JSON.

Trains the fake policy for some iterations, saves, resumes in a second learner, and writes what it ended with.
"""

import os
import sys
from functools import partial

os.environ["LOCAL_RANK"] = sys.argv[2]

import fakes
import numpy as np
import torch

from burnish.learners.engine import EngineConfig, join_ranks, leave_ranks
from burnish.learners.engines import engine_factory
from burnish.learners.grpo import GrpoConfig, KlConfig
from burnish.learners.learner import Learner
from burnish.learners.optimizer import OptimizerConfig
from burnish.learners.split import grpo_micro_batches, rank_groups

GROUPS, UPDATES, ITERATIONS = 8, 1, 5


def build(engine: EngineConfig, rank: int, world: int) -> Learner:
    policy = fakes.FakePolicy()
    optimizer = OptimizerConfig(lr=0.02, grad_clip=0.05, warmup=2)
    config = GrpoConfig(
        clip_low=0.2, clip_high=0.2, kl=KlConfig(beta=0.1), updates_per_iteration=UPDATES, micro_batch=4
    )
    num_micro = grpo_micro_batches(GROUPS, group_size=4, micro_batch=4, updates=UPDATES, world=world)
    factory = engine_factory(engine, optimizer, num_micro=num_micro, total_steps=20, rank=rank, world=world)
    reference = partial(fakes.adapter_off, policy.module)
    return Learner(policy, factory, config, reference=reference, sample_batch=4, rank=rank, world=world)


def iterate(learner: Learner, iterations: range) -> dict[str, float]:
    sampler = fakes.FakePolicy()
    own = [i for b in rank_groups(GROUPS, updates=UPDATES, rank=learner.rank, world=learner.world) for i in b]
    metrics = {}
    for iteration in iterations:
        parameters = dict(sampler.module.named_parameters())
        for name, value in learner.publish().items():
            parameters[name].data.copy_(torch.from_numpy(value))
        groups = [fakes.group(sampler, GROUPS * iteration + i, iteration=iteration) for i in range(GROUPS)]
        plan = fakes.plan(groups, iteration=iteration)
        metrics = learner.update(plan, *[groups[i] for i in own])
    return metrics


def main() -> None:
    torch.set_num_threads(1)
    engine, rank, world, address, out = sys.argv[1:]
    config = EngineConfig.model_validate_json(engine)
    join_ranks(rank=int(rank), world=int(world), address=address)
    learner = build(config, int(rank), int(world))
    iterate(learner, range(3))
    middle = learner.state()
    metrics = iterate(learner, range(3, ITERATIONS))
    final = learner.state()
    resumed = build(config, int(rank), int(world))
    resumed.load_state(middle)
    iterate(resumed, range(3, ITERATIONS))
    again = resumed.state()
    same = all(np.array_equal(final.weights[n], again.weights[n]) for n in final.weights)
    same = same and all(np.array_equal(final.optimizer[n], again.optimizer[n]) for n in final.optimizer)
    if rank == "0":
        arrays = {**final.weights, **final.optimizer}
        np.savez(out, resumed=np.array(same), loss=np.array(metrics["loss"]), **arrays)
    torch.distributed.barrier()  # a rank that leaves while another still talks to it can make that one abort
    leave_ranks()


main()
