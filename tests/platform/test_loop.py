"""The loop decides the same whatever finishes first, and whatever a killed driver had left."""

import json

import numpy as np
import pytest

from burnish.data.sources import iteration_indices


@pytest.fixture
def stage(fakes, tmp_path):
    """Maker of a stage of fakes; the same `name` is the same run directory."""

    def make(name="run", **options):
        made = fakes.Stage(tmp_path / name, **options)
        made.begin()
        return made

    return make


@pytest.mark.parametrize("lag", [0, 1])
def test_groups_in_any_order_give_the_same_plans_and_the_same_journal(stage, lag):
    runs = [stage(f"order-{seed}", seed=seed, lag=lag) for seed in range(4)]
    for made in runs:
        made.loop().run()
    first = runs[0]
    assert [p[0] for p in first.learner.plans] == [0, 1, 2, 3]
    assert all(made.learner.plans == first.learner.plans for made in runs[1:])
    assert all(made.learner.groups == first.learner.groups for made in runs[1:])
    assert len({(made.run.path / "journal.jsonl").read_bytes() for made in runs}) == 1
    assert len({tuple(made.reward.scored) for made in runs}) > 1


@pytest.mark.parametrize("lag", [0, 1])
def test_iteration_i_is_sampled_with_version_i_minus_lag(stage, lag):
    made = stage(lag=lag)
    made.loop().run()
    data, count = made.recipe.data, made.recipe.grpo.examples_per_iteration
    for iteration in range(4):
        indices = iteration_indices(iteration, num_examples=count, block=data.block, count=None, seed=data.seed)
        asked = [(index, version) for i, index, version in made.rollout.asked if i == iteration]
        assert asked == [(index, max(0, iteration - lag)) for index in indices]
    assert [on_policy for _, on_policy, _ in made.learner.plans] == [lag == 0 or i == 0 for i in range(4)]


def test_groups_reach_the_learner_in_example_order(stage):
    made = stage(seed=3)
    made.loop().run()
    for (iteration, _, planned), groups in zip(made.learner.plans, made.learner.groups, strict=True):
        assert [f"{iteration}/{name}/{iteration}" for name, _ in planned] == list(groups)


@pytest.mark.parametrize("lag", [0, 1])
def test_a_loop_that_was_left_goes_on_as_if_it_had_not_been(stage, lag):
    whole = stage("whole", lag=lag)
    whole.loop().run()
    first = stage("parts", lag=lag, stop_after=2)
    first.loop().run()
    second = stage("parts", seed=9, lag=lag)
    assert second.ledger.iteration == 2
    second.loop().run()
    assert first.learner.plans + second.learner.plans == whole.learner.plans
    journals = [(made.run.path / "journal.jsonl").read_bytes() for made in (whole, second)]
    assert journals[0] == journals[1]


def test_scores_that_a_killed_driver_had_journalled_are_not_asked_again(stage):
    whole = stage("whole")
    whole.loop().run()
    killed = stage("killed", stop_after=1)
    killed.loop().run()
    killed.learner.update = None  # the driver dies between journal and update
    with pytest.raises(TypeError):
        killed.loop().run()
    resumed = stage("killed")
    resumed.loop().run()
    assert not [group for group in resumed.reward.scored if group.startswith("1/")]
    assert resumed.learner.plans == whole.learner.plans[1:]
    assert (resumed.run.path / "journal.jsonl").read_bytes() == (whole.run.path / "journal.jsonl").read_bytes()


def test_a_reward_that_is_missing_masks_its_sample_and_is_counted(stage, fakes):
    made, score = stage(), fakes.FakeReward.score

    def refusing(group, order):
        scores = score(made.reward, group, order)
        for valid in scores.valid.values():
            valid[0] = False
        return scores

    made.reward.score = refusing
    made.loop().run()
    assert made.ledger.counts["missing_scores"] == 4 * 4 * len(made.recipe.rewards.rewards)
    assert all(advantages[0] == 0 for _, _, groups in made.learner.plans for _, advantages in groups)


def test_a_run_without_spread_is_stopped_by_the_watch(stage):
    made = stage()
    score = made.reward.score

    def flat(group, order):
        scores = score(group, order)
        for values in scores.raw.values():
            values[:] = np.float32(0.5)
        return scores

    made.reward.score = flat
    with pytest.raises(Exception, match="rewards of every group are equal") as caught:
        made.loop().run()
    assert caught.value.exit_code == 5
    lines = [json.loads(line) for line in (made.run.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]


def test_a_loop_that_is_left_commits_whatever_the_recipe_says(stage):
    left = stage(stop_after=1, commit_every=4)
    left.loop().run()
    assert stage().ledger.iteration == 1
