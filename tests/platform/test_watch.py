"""A run that learns nothing is warned about, then stopped."""

import pytest

from burnish.data.errors import RefusedError
from burnish.platform.watch import Watch, WatchConfig

HEALTHY = {"grad_norm": 0.3, "lr": 1e-3, "updates": 2.0, "skipped_updates": 0.0}
SIGNS = [
    ({"spread": 0.0}, "rewards of every group are equal"),
    ({"metrics": HEALTHY | {"grad_norm": 0.0}}, "gradient is zero"),
    ({"metrics": HEALTHY | {"lr": 0.0}, "changed": False}, "did not change the policy"),
    ({"metrics": HEALTHY | {"skipped_updates": 2.0}, "changed": False}, "non-finite and skipped"),
]


def observe(watch, iteration, **more):
    healthy = {"spread": 0.5, "converged": False, "metrics": HEALTHY, "changed": True}
    return watch.observe(iteration, **(healthy | more))


def test_a_healthy_run_is_left_alone():
    watch = Watch(WatchConfig())
    assert [observe(watch, i) for i in range(10)] == [[]] * 10


@pytest.mark.parametrize(("sick", "words"), SIGNS)
def test_each_missing_sign_warns_and_stops_the_run_after_its_patience(sick, words):
    watch = Watch(WatchConfig(patience=3))
    assert any(words in line for line in observe(watch, 0, **sick))
    assert observe(watch, 1, **sick)
    with pytest.raises(RefusedError, match=words) as caught:
        observe(watch, 2, **sick)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("sick", [sick for sick, _ in SIGNS])
def test_a_healthy_iteration_between_starts_the_count_again(sick):
    watch = Watch(WatchConfig(patience=2))
    for iteration in range(0, 8, 2):
        observe(watch, iteration)
        observe(watch, iteration + 1, **sick)


def test_signs_are_counted_apart():
    watch = Watch(WatchConfig(patience=2))
    observe(watch, 0, spread=0.0)
    observe(watch, 1, metrics=HEALTHY | {"grad_norm": 0.0})
    observe(watch, 2, spread=0.0)


def test_an_update_that_leaves_the_digest_as_it_was_stops_the_run_at_once():
    with pytest.raises(RefusedError, match="digest did not change"):
        observe(Watch(WatchConfig()), 0, changed=False)


def test_converged_groups_are_not_counted_against_a_run():
    watch = Watch(WatchConfig(patience=1))
    still = {"spread": 0.0, "metrics": HEALTHY | {"grad_norm": 0.0, "lr": 0.0}, "changed": False, "converged": True}
    assert [observe(watch, i, **still) for i in range(5)] == [[]] * 5


def test_a_resumed_watch_goes_on_counting():
    watch = Watch(WatchConfig(patience=3))
    for iteration in range(2):
        observe(watch, iteration, spread=0.0)
    resumed = Watch(WatchConfig(patience=3), missing=dict(watch.missing), last_samples=watch.last_samples)
    with pytest.raises(RefusedError):
        observe(resumed, 2, spread=0.0)


def test_samples_on_dev_that_never_change_stop_the_run():
    watch = Watch(WatchConfig(patience=2))
    assert watch.evaluated(5, "first") == []
    assert watch.evaluated(10, "second") == []
    assert "samples on dev" in watch.evaluated(15, "second")[0]
    with pytest.raises(RefusedError, match="samples on dev"):
        watch.evaluated(20, "second")
