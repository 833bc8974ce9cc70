"""Can a cluster ever hold the roles of a recipe? Pure arithmetic on what its nodes have.

Called before any actor is asked for: an actor that no node can hold would wait for ever without a word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from burnish.data.errors import Problem
from burnish.platform.executor import Role

Resources = Mapping[str, float]
SLACK = 1e-6


def shortfall(roles: Sequence[Role], nodes: Sequence[Resources], *, growing: bool = False) -> list[Problem]:
    """What is missing, one problem a role that finds no place; empty = every worker has one.

    Workers are put on nodes one after another, those that ask for most first, each on the fullest node that still holds
    it (best fit), of equal ones on that with the fewest resources which it does not ask for. Greedy: where it finds a
    place there is one.

    Args:
        roles: the wanted roles.
        nodes: total resources of every node that is alive, in Ray's names (CPU, GPU, role_rollout ...).
        growing: the cluster adds nodes by itself, so that only a kind of resource that no node has is missing.
    """
    free = [dict(node) for node in nodes]
    problems = []
    for role in sorted(roles, key=lambda r: (-sum(r.demand.values()), r.name)):
        plain_first = sorted(
            free, key=lambda node: sum(value > 0 and name not in role.demand for name, value in node.items())
        )
        placed = sum(_put(role.demand, plain_first) for _ in range(role.count))
        if placed < role.count and not (growing and _known(role.demand, nodes)):
            problems.append(_problem(role, placed, nodes))
    return problems


def _put(demand: Resources, free: list[dict[str, float]]) -> bool:
    """Take the demand from the first node of those with least to spare; False if none can hold it."""
    fitting = [node for node in free if all(node.get(k, 0.0) + SLACK >= v for k, v in demand.items())]
    if not fitting:
        return False
    chosen = min(fitting, key=lambda node: sum(node.get(k, 0.0) for k in ("GPU", "CPU")))
    for name, amount in demand.items():
        chosen[name] = chosen.get(name, 0.0) - amount
    return True


def _known(demand: Resources, nodes: Sequence[Resources]) -> bool:
    return all(any(node.get(name, 0.0) > 0 for node in nodes) for name in demand)


def _problem(role: Role, placed: int, nodes: Sequence[Resources]) -> Problem:
    names = sorted({name for node in nodes for name in node if ":" not in name and "memory" not in name})
    has = {name: round(sum(node.get(name, 0.0) for node in nodes), 3) for name in names}
    one = max(
        (node for node in nodes), key=lambda n: sum(n.get(k, 0.0) >= v for k, v in role.demand.items()), default={}
    )
    lacking = {k: v for k, v in role.demand.items() if one.get(k, 0.0) + SLACK < v}
    why = f"no node has {lacking}" if lacking else f"only {placed} of them find a place beside the other roles"
    got = f"{role.count} x {dict(role.demand)}"
    return Problem(_field(role.name), got, f"what the cluster holds: {has} on {len(nodes)} nodes", why)


def _field(name: str) -> str:
    fields = {"rollout": "rollouts.workers", "learner": "learners.ranks", "reward": "rewards.workers"}
    return fields.get(name, f"rewards.pools ({name.partition(':')[2]})")
