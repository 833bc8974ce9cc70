"""Which actors score which reward: the recipe's pools, and processes started beside them for candidates.

A pool is a role of the executor. Where a reward runs changes no number, so none of this is part of the recipe's digest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from burnish.data.errors import InfrastructureError
from burnish.data.records import RewardVersion, RubricVersion
from burnish.platform.executor import Executor, Handle, Role
from burnish.platform.rubric_log import RubricState, Shadow
from burnish.rewards.order import RewardOrder, identity
from burnish.rewards.rubric import RewardSpec

MAIN = "reward"
"""The role of the rewards that no pool of the recipe names."""


class PoolConfig(BaseModel):
    """Actors of their own for some rewards."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="unique")
    rewards: tuple[str, ...] = Field(min_length=1, description="names of rewards in the rubric that it scores")
    workers: int = Field(default=1, ge=1, description="actors")
    num_cpus: float = Field(default=1.0, ge=0, description="CPUs an actor takes")
    num_gpus: float = Field(default=0.0, ge=0, description="share of a GPU an actor takes")
    resources: dict[str, float] = Field(default={}, description="Ray's custom resources an actor takes")
    runtime_env: dict[str, JsonValue] | None = Field(
        default=None, description="Ray's runtime environment of its actors, for example {env_vars: {...}, pip: [...]}"
    )


class Pools:
    """Where rewards are, and the orders that go there.

    Args:
        executor: its roles `reward` and `reward:<pool>` are started.
        pools: the recipe's.
        make_role: (role name, pool or None for the main one) -> how its workers are made.
        started: roles that run already.
    """

    def __init__(
        self,
        executor: Executor,
        pools: Sequence[PoolConfig],
        make_role: Callable[[str, PoolConfig | None], Role],
        *,
        started: Sequence[str] = (MAIN,),
    ) -> None:
        self._executor, self._make_role = executor, make_role
        self._named = {reward: pool for pool in pools for reward in pool.rewards}
        self._homes: dict[str, str] = {}
        self._like: dict[str, PoolConfig | None] = {}
        self._started, self._beside = set(started), set[str]()
        self._numbers = count(1)
        self._orders: dict[RubricVersion, list[tuple[str, RewardOrder]]] = {}

    def begin(self, specs: Sequence[RewardSpec]) -> dict[str, str]:
        """Have every worker of the recipe's pools load its rewards and score a canary; identity -> digest.

        Rewards that are held already stay where they are; a name that no pool knows goes to the main one.

        Raises:
            ConfigError, RewardError: a reward cannot be built or fails on the canary.
            InfrastructureError: workers hold different files under one name.
        """
        for role in sorted(self._beside - set(self._homes.values())):  # candidates of a stage that broke off
            self.discard(role)
        for spec in specs:
            pool = self._named.get(spec.name)
            self._homes.setdefault(identity(spec), role_name(pool))
            self._like.setdefault(spec.name, pool)
        if MAIN in self._homes.values() and MAIN not in self._started:
            self._executor.start(self._make_role(MAIN, None))
            self._started.add(MAIN)
        digests: dict[str, str] = {}
        for role in sorted({self._homes[identity(spec)] for spec in specs}):
            mine = [spec for spec in specs if self._homes[identity(spec)] == role]
            for held in self._executor.broadcast(role, "prepare", tuple(mine)):
                for spec, digest in zip(mine, held, strict=True):
                    if digests.setdefault(identity(spec), digest) != digest:
                        raise InfrastructureError(f"reward {spec.name!r}: workers hold different weight files")
        return digests

    def holds(self, spec: RewardSpec) -> bool:
        """True if some pool has the reward ready."""
        return identity(spec) in self._homes

    def start_beside(self, spec: RewardSpec, *, like: str = "") -> tuple[str, list[Handle]]:
        """Load a candidate in processes of its own; returns their role and one attempt a worker.

        Args:
            spec: the candidate.
            like: the reward whose pool it imitates (number of actors, resources, environment).
        """
        pool = self._like.get(like) or self._named.get(spec.name)
        role = self._make_role(f"{MAIN}+{next(self._numbers)}", pool)
        self._executor.start(role)
        self._beside.add(role.name)
        self._like[spec.name] = pool
        return role.name, [
            self._executor.attempt(role.name, "prepare", (spec,), worker=rank) for rank in range(role.count)
        ]

    def settle(self, spec: RewardSpec, role: str) -> None:
        """From now on the reward is scored by that role."""
        self._orders.clear()
        self._homes[identity(spec)] = role

    def orders(self, state: RubricState) -> list[tuple[str, RewardOrder]]:
        """What to ask of which role to score a group under a rubric."""
        if state.rubric not in self._orders:  # asked once a group: worked out once a rubric
            self._orders[state.rubric] = self._made_orders(state)
        return self._orders[state.rubric]

    def _made_orders(self, state: RubricState) -> list[tuple[str, RewardOrder]]:
        pairs = zip(state.config.rewards, state.rewards, strict=True)
        parts: dict[str, list[tuple[RewardSpec, RewardVersion]]] = {}
        for spec, version in pairs:
            parts.setdefault(self._homes[identity(spec)], []).append((spec, version))
        return [(role, _order(state, part)) for role, part in parts.items()]

    def shadow_order(self, state: RubricState, shadow: Shadow) -> tuple[str, RewardOrder]:
        """What to ask of which role to score a group by a shadow."""
        return self._homes[identity(shadow.spec)], _order(state, [(shadow.spec, shadow.version)])

    def retain(self, specs: Sequence[RewardSpec]) -> list[str]:
        """Let go of every reward but these: roles beside that serve none are stopped; returns their names."""
        kept = {identity(spec) for spec in specs}
        gone = {key for key in self._homes if key not in kept}
        if not gone:
            return []
        self._orders.clear()
        roles = {self._homes.pop(key) for key in gone}
        stopped = sorted(role for role in roles & self._beside if role not in self._homes.values())
        for role in stopped:
            self.discard(role)
        for role in sorted(roles - set(stopped)):
            self._executor.broadcast(role, "retain", tuple(s for s in specs if self._homes[identity(s)] == role))
        return stopped

    def discard(self, role: str) -> None:
        """Stop a candidate's processes."""
        self._executor.stop(role)
        self._beside.discard(role)


def role_name(pool: PoolConfig | None) -> str:
    """The executor's role of a pool; None = the main one."""
    return MAIN if pool is None else f"{MAIN}:{pool.name}"


def _order(state: RubricState, parts: Sequence[tuple[RewardSpec, RewardVersion]]) -> RewardOrder:
    return RewardOrder(state.rubric, tuple(spec for spec, _ in parts), tuple(version for _, version in parts))
