"""The environment of the Ray that a run starts or joins."""

import pytest

from burnish.platform.placement import set_flags


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
