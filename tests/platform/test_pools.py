"""Where rewards run: the recipe's pools, candidates beside them, and what is let go."""

import pytest

from burnish.data.errors import ConfigError
from burnish.data.records import RubricVersion
from burnish.platform.config import load_recipe
from burnish.platform.executor import Role
from burnish.platform.local import LocalExecutor
from burnish.platform.pools import MAIN, PoolConfig, Pools, role_name
from burnish.platform.roles import reward_roles
from burnish.platform.rubric_log import RubricState
from burnish.platform.rubric_start import first_state
from burnish.rewards.order import identity
from burnish.rewards.rubric import RewardSpec, RubricConfig

PIXEL, BAND = RewardSpec(name="pixel", kind="masked_pixel"), RewardSpec(name="band", kind="boundary_band")
OUTSIDE = RewardSpec(name="outside", kind="outside_preservation")
BESIDE = PoolConfig(name="big", rewards=("band",), workers=2, num_gpus=0.5, runtime_env={"env_vars": {"A": "1"}})


class Worker:
    """Notes what it holds."""

    def __init__(self, rank, world):
        self.held = []

    def prepare(self, specs):
        self.held += [spec.name for spec in specs]
        return [identity(spec) for spec in specs]

    def retain(self, specs):
        self.held = [spec.name for spec in specs]


@pytest.fixture
def executor():
    return LocalExecutor()


@pytest.fixture
def pools(executor):
    def role(name, pool):
        return Role(name, Worker, count=1 if pool is None else pool.workers)

    executor.start(role(MAIN, None))
    executor.start(role(role_name(BESIDE), BESIDE))
    return Pools(executor, (BESIDE,), role, started=(MAIN, role_name(BESIDE)))


def state(pools, *specs) -> RubricState:
    config = RubricConfig(rewards=specs)
    return first_state(config, {identity(s): identity(s) for s in specs})


def test_each_reward_is_asked_where_the_recipe_puts_it(pools):
    pools.begin([PIXEL, BAND])
    orders = dict(pools.orders(state(pools, PIXEL, BAND)))
    assert [spec.name for spec in orders[MAIN].specs] == ["pixel"]
    assert [spec.name for spec in orders["reward:big"].specs] == ["band"]
    assert {order.rubric for order in orders.values()} == {state(pools, PIXEL, BAND).rubric}
    assert isinstance(orders[MAIN].rubric, RubricVersion)


def test_a_candidate_gets_processes_like_those_of_the_reward_it_replaces(pools, executor):
    pools.begin([PIXEL, BAND])
    role, handles = pools.start_beside(OUTSIDE, like="band")
    assert len(handles) == 2 and all(executor.poll(handle) for handle in handles)
    assert executor.sizes()[role] == 2 and not pools.holds(OUTSIDE)
    pools.settle(OUTSIDE, role)
    assert dict(pools.orders(state(pools, PIXEL, OUTSIDE)))[role].specs == (OUTSIDE,)


def test_what_no_state_needs_is_let_go(pools, executor):
    pools.begin([PIXEL, BAND])
    role, _ = pools.start_beside(OUTSIDE)
    pools.settle(OUTSIDE, role)
    assert pools.retain([PIXEL, BAND]) == [role]
    assert not pools.holds(OUTSIDE)
    with pytest.raises(KeyError):
        executor.submit(role, "prepare", ())


def test_workers_that_hold_different_files_are_refused(pools, executor):
    answers = iter((["one"], ["two"]))
    executor.start(Role("reward:big", lambda rank, world: type("W", (), {"prepare": lambda s, _: next(answers)})(), 2))
    with pytest.raises(Exception, match="different weight files") as caught:
        pools.begin([BAND])
    assert caught.value.exit_code == 4


def test_a_pool_of_the_recipe_becomes_a_role_with_its_resources():
    pool = '[{"name": "big", "rewards": ["masked_pixel"], "workers": 2, "num_gpus": 0.5, "runtime_env": {"pip": []}}]'
    main, big = reward_roles(load_recipe("smoke", [("rewards.pools", pool)]), "ray")
    assert (main.name, main.count) == (MAIN, 1)
    assert (big.name, big.count, big.num_gpus, big.runtime_env) == ("reward:big", 2, 0.5, {"pip": []})


@pytest.mark.parametrize(
    "pools",
    [
        '[{"name": "a", "rewards": ["nobody"]}]',
        '[{"name": "a", "rewards": ["masked_pixel"]}, {"name": "b", "rewards": ["masked_pixel"]}]',
        '[{"name": "a", "rewards": []}]',
    ],
)
def test_pools_that_make_no_sense_are_refused(pools):
    with pytest.raises(ConfigError, match="rewards"):
        load_recipe("smoke", [("rewards.pools", pools)])


def test_pools_change_no_digest():
    from burnish.platform.config import config_digest

    pool = '[{"name": "big", "rewards": ["masked_pixel"]}]'
    assert config_digest(load_recipe("smoke", [("rewards.pools", pool)])) == config_digest(load_recipe("smoke"))
