"""The learner on a fake policy: exact ratio, KL, minibatches, masks, refusals, resume."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from burnish.data.errors import ConfigError, RefusedError
from burnish.data.records import UpdatePlan
from burnish.learners.ema import EmaConfig
from burnish.learners.grpo import GrpoConfig, KlConfig
from burnish.learners.learner import Learner, ratio_tolerance

FREE = KlConfig(beta=0.0)


@pytest.fixture
def groups(fakes):
    return [fakes.group(fakes.FakePolicy(), index) for index in range(2)]


def rescaled(plan, factor):
    return UpdatePlan(plan.iteration, tuple(replace(p, advantages=p.advantages * factor) for p in plan.groups))


def gradients(learner):
    """First moment after one step from zero: proportional to the clipped gradient."""
    state = learner.state().optimizer
    return np.concatenate([v.ravel() for n, v in sorted(state.items()) if n.startswith("exp_avg/")])


@pytest.mark.parametrize(("kind", "stage"), [("torch", 0), ("deepspeed", 1), ("deepspeed", 3)])
def test_the_first_ratio_is_exactly_one_with_a_non_zero_adapter(fakes, make_learner, groups, kind, stage):
    learner = make_learner(kind=kind, stage=stage, num_micro=2, updates_per_iteration=1)
    metrics = learner.update(fakes.plan(groups), *groups)
    assert learner.tolerance == 0.0 and metrics["ratio_max_deviation"] == 0.0
    assert metrics["ratio"] == 1.0 and metrics["clip_low"] == metrics["clip_high"] == 0.0
    assert metrics["dlogp/step_0"] == metrics["dlogp/step_2"] == 0.0 and "dlogp/step_1" not in metrics
    learner.close()


def test_the_second_update_is_off_policy_and_not_refused(fakes, make_learner, groups):
    metrics = make_learner().update(fakes.plan(groups), *groups)
    assert metrics["ratio_max_deviation"] > 0.0 and metrics["updates"] == 2.0


def test_samples_of_other_weights_are_refused_unless_the_plan_is_off_policy(fakes, make_learner):
    other = [fakes.group(fakes.FakePolicy(seed=1), index) for index in range(2)]
    with pytest.raises(RefusedError, match="importance ratio of 'e0' at step 0"):
        make_learner().update(fakes.plan(other), *other)
    assert make_learner().update(fakes.plan(other, on_policy=False), *other)["updates"] == 2.0


def test_other_shapes_and_folding_are_allowed_some_rounding():
    config = GrpoConfig(micro_batch=8, clip_low=1e-3, clip_high=5e-5)
    assert ratio_tolerance(config, sample_batch=8, folded=False) == 0.0
    assert ratio_tolerance(config, sample_batch=16, folded=False) == pytest.approx(5e-6)
    assert ratio_tolerance(config, sample_batch=8, folded=True) == pytest.approx(5e-6)


def test_the_loss_of_the_first_update_is_minus_the_weighted_mean_advantage(fakes, make_learner, groups):
    plan = rescaled(fakes.plan(groups), 1.0)
    plan = UpdatePlan(0, tuple(replace(p, advantages=p.advantages + 1) for p in plan.groups))
    metrics = make_learner(kl=FREE, num_micro=2, updates_per_iteration=1).update(plan, *groups)
    expected = -np.mean([p.weight * p.advantages for p in plan.groups])
    assert metrics["loss"] == pytest.approx(expected, rel=1e-5)


def test_without_advantages_the_kl_still_has_a_gradient(fakes, make_learner, groups):
    learner = make_learner(num_micro=2, updates_per_iteration=1)
    metrics = learner.update(rescaled(fakes.plan(groups), 0.0), *groups)
    assert metrics["kl"] > 0.0 and metrics["policy_loss"] == 0.0 and metrics["grad_norm"] > 0.0


def test_a_scaled_kl_is_that_of_a_larger_weight_and_a_scale_of_one_moves_no_byte(fakes, make_learner, groups):
    plan, one = fakes.plan(groups), {"num_micro": 2, "updates_per_iteration": 1}
    raised, heavy, plain, unscaled = (make_learner(**one, kl=KlConfig(beta=beta)) for beta in (0.1, 0.2, 0.1, 0.1))
    assert raised.update(replace(plan, kl_scale=2.0), *groups) == heavy.update(plan, *groups)
    assert unscaled.update(replace(plan, kl_scale=1.0), *groups) == plain.update(plan, *groups)
    assert gradients(raised).tobytes() == gradients(heavy).tobytes()
    assert gradients(unscaled).tobytes() == gradients(plain).tobytes() != gradients(raised).tobytes()


def test_at_the_reference_the_kl_is_zero_and_without_gradient(fakes, make_learner):
    policy = fakes.FakePolicy()
    torch.nn.init.zeros_(policy.module.up.weight)
    groups = [fakes.group(policy, index) for index in range(2)]
    learner = make_learner(policy=policy, num_micro=2, updates_per_iteration=1)
    metrics = learner.update(rescaled(fakes.plan(groups), 0.0), *groups)
    assert metrics["kl"] == 0.0 and metrics["grad_norm"] == 0.0


def test_a_positive_advantage_raises_the_log_probability_of_its_sample(fakes, make_learner, groups):
    plan = fakes.plan(groups)
    chosen = np.array([2.0, 0.0, 0.0, 0.0], np.float32)
    plan = UpdatePlan(0, tuple(replace(p, advantages=chosen) for p in plan.groups))
    learner = make_learner(kl=FREE, num_micro=2, updates_per_iteration=1, lr=1e-3)
    learner.update(plan, *groups)
    with pytest.raises(RefusedError, match="off by"):
        learner.update(plan, *groups)
    metrics = learner.update(replace(plan, on_policy=False), *groups)
    assert metrics["policy_loss"] < -0.5


def test_a_sample_that_is_not_valid_changes_nothing(fakes, make_learner, groups):
    valid = np.array([True, True, False, True])
    plan = fakes.plan(groups)
    masked = UpdatePlan(0, tuple(replace(p, valid=valid) for p in plan.groups))
    loud = UpdatePlan(0, tuple(replace(p, advantages=np.where(valid, p.advantages, 4.0)) for p in masked.groups))
    learners = [make_learner(num_micro=2, updates_per_iteration=1) for _ in range(2)]
    metrics = [learner.update(p, *groups) for learner, p in zip(learners, (masked, loud), strict=True)]
    assert metrics[0] == metrics[1]
    assert gradients(learners[0]).tobytes() == gradients(learners[1]).tobytes()


@pytest.mark.parametrize("name", ["latents", "next_latents", "log_probs"])
def test_what_is_not_finite_in_a_sample_that_is_not_valid_changes_nothing(fakes, make_learner, groups, name):
    valid = np.array([True, True, False, True])
    plan = UpdatePlan(0, tuple(replace(p, valid=valid) for p in fakes.plan(groups).groups))
    broken = [
        replace(g, trajectories=tuple(nan_of(t, name) if i == 2 else t for i, t in enumerate(g.trajectories)))
        for g in groups
    ]
    learners = [make_learner(num_micro=2, updates_per_iteration=1) for _ in range(2)]
    metrics = [learner.update(plan, *given) for learner, given in zip(learners, (groups, broken), strict=True)]
    assert metrics[0] == metrics[1]
    assert gradients(learners[0]).tobytes() == gradients(learners[1]).tobytes()


def nan_of(trajectory, name):
    return replace(trajectory, **{name: np.full_like(getattr(trajectory, name), np.nan)})


def test_a_minibatch_without_a_valid_sample_takes_no_step(fakes, make_learner, groups):
    nobody = tuple(replace(p, valid=np.zeros(4, bool)) for p in fakes.plan(groups).groups)
    learner = make_learner()
    before = learner.publish()
    metrics = learner.update(UpdatePlan(0, nobody), *groups)
    assert metrics["updates"] == 0.0 and metrics["loss"] == 0.0
    assert all(np.array_equal(before[n], v) for n, v in learner.publish().items())


def test_smaller_micro_batches_give_the_same_gradient_within_rounding(fakes, make_learner, groups):
    whole = make_learner(num_micro=2, updates_per_iteration=1)
    parts = make_learner(num_micro=4, updates_per_iteration=1, micro_batch=2)
    for learner in (whole, parts):
        learner.update(fakes.plan(groups), *groups)
    assert parts.tolerance > 0.0
    np.testing.assert_allclose(gradients(parts), gradients(whole), atol=1e-6)


def test_permuting_the_samples_of_a_group_leaves_the_loss_unchanged(fakes, make_learner, groups):
    order = [2, 0, 3, 1]
    plan = fakes.plan(groups)
    moved = UpdatePlan(0, tuple(replace(p, advantages=p.advantages[order]) for p in plan.groups))
    shuffled = [replace(g, trajectories=tuple(g.trajectories[i] for i in order)) for g in groups]
    one = make_learner(num_micro=2, updates_per_iteration=1).update(plan, *groups)
    two = make_learner(num_micro=2, updates_per_iteration=1).update(moved, *shuffled)
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-5)


def test_the_guard_ratio_is_one_at_first_and_needs_means(fakes, make_learner, groups):
    learner = make_learner(guard=True)
    assert learner.update(fakes.plan(groups), *groups)["ratio"] == pytest.approx(1.0, abs=0.1)
    bare = [replace(g, trajectories=tuple(replace(t, means=None) for t in g.trajectories)) for g in groups]
    with pytest.raises(ConfigError, match="hold their means"):
        make_learner(guard=True).update(fakes.plan(bare), *bare)


def test_what_does_not_fit_is_refused_before_anything_is_computed(fakes, make_learner, groups):
    plan = fakes.plan(groups)
    with pytest.raises(ConfigError, match="rank 0 needs groups"):
        make_learner().update(plan, *groups[::-1])
    with pytest.raises(ConfigError, match="divisor of the group size"):
        make_learner(micro_batch=3).update(plan, *groups)
    with pytest.raises(ConfigError, match="built for 4 micro-batches"):
        make_learner(num_micro=4).update(plan, *groups)
    still = [replace(g, trajectories=tuple(replace(t, stds=0 * t.stds) for t in g.trajectories)) for g in groups]
    with pytest.raises(ConfigError, match="eta must be > 0"):
        make_learner().update(plan, *still)


def test_a_kl_without_a_reference_is_refused(fakes):
    with pytest.raises(ConfigError, match="needs a reference"):
        Learner(fakes.FakePolicy(), lambda module: None, GrpoConfig(), reference=None, sample_batch=4)


def test_bad_gradients_are_counted_and_stop_the_run_after_a_few(fakes, make_learner, groups):
    learner = make_learner(num_micro=2, updates_per_iteration=1, max_skipped=2)
    bad = rescaled(fakes.plan(groups), np.float32("nan"))
    before = learner.publish()
    assert learner.update(bad, *groups)["skipped_updates"] == 1.0
    assert all(np.array_equal(before[n], v) for n, v in learner.publish().items())
    with pytest.raises(RefusedError, match="last good update is 0"):
        learner.update(bad, *groups)
    assert learner.counters["skipped"] == 2


@pytest.mark.parametrize(("kind", "stage"), [("torch", 0), ("deepspeed", 2)])
def test_a_resumed_learner_gives_the_bytes_of_an_undisturbed_one(fakes, make_learner, groups, kind, stage):
    options = {"kind": kind, "stage": stage, "ema": EmaConfig(enabled=True, every=2)}
    whole = make_learner(**options)
    for iteration in range(2):
        whole.update(fakes.plan(groups, iteration=iteration, on_policy=iteration == 0), *groups)
    resumed = make_learner(**options)
    resumed.load_state(whole.state())
    for learner in (whole, resumed):
        learner.update(fakes.plan(groups, iteration=2, on_policy=False), *groups)
    a, b = whole.state(), resumed.state()
    for part in ("weights", "optimizer", "ema"):
        assert all(np.array_equal(v, getattr(b, part)[n]) for n, v in getattr(a, part).items())
    assert a.counters == b.counters == {"updates": 6, "skipped": 0, "skipped_in_row": 0, "iterations": 3}


def test_a_zero_learning_rate_publishes_the_same_bytes(fakes, make_learner, groups):
    learner = make_learner(lr=0.0)
    before = {n: v.tobytes() for n, v in learner.publish().items()}
    assert learner.update(fakes.plan(groups), *groups)["grad_norm"] > 0.0
    assert {n: v.tobytes() for n, v in learner.publish().items()} == before
