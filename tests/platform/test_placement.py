"""The environment of the Ray that a run starts or joins, and the nodes that it waits for."""

import pytest

from burnish.data.errors import ConfigError
from burnish.platform import placement
from burnish.platform.executor import Role
from burnish.platform.placement import require_places, set_flags
from burnish.platform.sections import ClusterConfig

ROLES = [Role("rollout", lambda rank, world: None, count=2, num_cpus=0, resources={"role_rollout": 1})]
HEAD, WORKER = {"CPU": 0.0}, {"CPU": 4.0, "role_rollout": 1.0}


def test_a_ray_of_ones_own_gets_a_new_token_each_time():
    first, second = {}, {}
    set_flags(first)
    set_flags(second)
    assert first["RAY_AUTH_MODE"] == "token" and len(first["RAY_AUTH_TOKEN"]) == 64
    assert first["RAY_AUTH_TOKEN"] != second["RAY_AUTH_TOKEN"]


def test_a_ray_that_was_imported_before_turns_its_token_on_by_itself():
    environ = {}
    set_flags(environ, imported=True)
    assert "RAY_AUTH_MODE" not in environ and len(environ["RAY_AUTH_TOKEN"]) == 64


@pytest.mark.parametrize("given", [{}, {"RAY_AUTH_TOKEN": "theirs"}])
def test_a_cluster_that_is_joined_keeps_the_token_it_has(given):
    environ = {"RAY_ADDRESS": "10.0.0.1:6379", **given}
    set_flags(environ)
    assert environ["RAY_AUTH_MODE"] == "token" and environ.get("RAY_AUTH_TOKEN") == given.get("RAY_AUTH_TOKEN")


def test_what_the_user_set_is_kept():
    environ = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "1"}
    set_flags(environ)
    assert environ["RAY_USAGE_STATS_ENABLED"] == "1" and "RAY_AUTH_TOKEN" not in environ


def test_reports_of_rays_daemons_do_not_stand_in_the_output_of_a_command(monkeypatch):
    from ray._private import worker

    shown = []
    monkeypatch.setattr(worker, "print_to_stdstream", lambda data, ignore_prefix: shown.append(data))
    for _ in range(2):
        placement._reports_to_stderr()
    worker.print_to_stdstream({"lines": ["a worker died"], "pid": "raylet", "is_err": False}, ignore_prefix=False)
    assert shown == [{"lines": ["a worker died"], "pid": "raylet", "is_err": True}]


@pytest.fixture
def joining(monkeypatch):
    """Nodes of a cluster at each look at it; returns the seconds that were slept between looks."""

    def begin(*looks):
        found, now, slept = iter(looks), [100.0], []
        monkeypatch.setattr(placement, "_nodes", lambda: next(found))
        monkeypatch.setattr(placement.time, "monotonic", lambda: now[0])
        monkeypatch.setattr(placement.time, "sleep", lambda s: (slept.append(s), now.__setitem__(0, now[0] + s)))
        return slept

    return begin


def test_nodes_that_a_launcher_has_not_started_yet_are_waited_for_and_told(joining, capsys):
    slept = joining([HEAD], [HEAD, WORKER], [HEAD, WORKER, WORKER])
    require_places(ROLES, ClusterConfig(wait_for_nodes=60))
    assert len(slept) == 2
    told = capsys.readouterr()
    assert "waiting for nodes, 60 s at most: rollouts.workers: got 2 x" in told.out + told.err


@pytest.mark.parametrize(("seconds", "looks"), [(0, 1), (2.5, 4)])
def test_what_never_joins_is_refused_when_the_time_is_up(joining, seconds, looks):
    slept = joining(*[[HEAD, WORKER]] * looks)
    with pytest.raises(ConfigError, match="only 1 of them find a place"):
        require_places(ROLES, ClusterConfig(wait_for_nodes=seconds))
    assert sum(slept) == seconds
