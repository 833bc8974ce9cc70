"""Whether a cluster can hold the roles of a recipe is worked out, and said, before anything is asked for."""

import time

import pytest

from burnish.platform.executor import Role
from burnish.platform.feasibility import shortfall


def role(name, count=1, cpus=1.0, gpus=0.0, **resources):
    return Role(name, lambda rank, world: None, count=count, num_cpus=cpus, num_gpus=gpus, resources=resources)


LAPTOP = [{"CPU": 4.0, "node:127.0.0.1": 1.0, "memory": 1e9}]
CLUSTER = [{"CPU": 8.0, "GPU": 1.0, "role_learner": 1.0}, *[{"CPU": 4.0, "GPU": 2.0, "role_rollout": 4.0}] * 2]


def test_roles_that_fit_have_no_problem():
    assert shortfall([role("learner"), role("rollout", 2), role("reward", 1, 0.5)], LAPTOP) == []
    roles = [role("learner", gpus=1.0, role_learner=1), role("rollout", 8, gpus=0.5, role_rollout=1)]
    assert shortfall(roles, CLUSTER) == []


@pytest.mark.parametrize(
    ("wanted", "field", "why"),
    [
        (role("rollout", 5), "rollouts.workers", "only 4 of them find a place"),
        (role("learner", gpus=1.0), "learners.ranks", "no node has {'GPU': 1.0}"),
        (role("reward:slow", cpus=9.0), "rewards.pools (slow)", "no node has {'CPU': 9.0}"),
        (role("reward", role_reward=1), "rewards.workers", "no node has {'role_reward': 1}"),
    ],
)
def test_what_is_missing_is_named(wanted, field, why):
    (problem,) = shortfall([wanted], LAPTOP)
    assert problem.field == field and why in problem.hint and "{'CPU': 4.0} on 1 nodes" in problem.allowed


def test_a_role_leaves_the_nodes_that_others_ask_for_by_name():
    nodes = [{"CPU": 4.0, "role_learner": 1.0}, {"CPU": 4.0, "role_rollout": 1.0}, {"CPU": 4.0}]
    named = [role("learner", role_learner=1.0), role("rollout", role_rollout=1.0)]
    assert shortfall([role("reward", cpus=4.0), *named], nodes) == []


def test_shares_of_two_nodes_are_not_one():
    assert shortfall([role("learner", gpus=3.0)], CLUSTER)
    assert not shortfall([role("rollout", 5, gpus=1.0)], CLUSTER)


def test_a_cluster_that_grows_is_refused_only_what_no_node_has():
    assert not shortfall([role("rollout", 500, role_rollout=1)], CLUSTER, growing=True)
    assert shortfall([role("rollout", role_tpu=1)], CLUSTER, growing=True)


def test_two_thousand_workers_on_five_hundred_nodes_take_no_five_seconds():
    started = time.process_time()
    assert not shortfall([role("rollout", 2000, gpus=1.0)], [{"CPU": 16.0, "GPU": 4.0}] * 500)
    assert time.process_time() - started < 5.0
