import pytest

from burnish.data.errors import ConfigError
from burnish.platform.config import Recipe, changed_keys, check_resume, config_digest, load_recipe, resolved_yaml
from burnish.platform.lookup import recipe_names
from burnish.platform.validation import walk_fields


def problems_of(path, *overrides):
    with pytest.raises(ConfigError) as caught:
        load_recipe(path, overrides)
    return {p.field: p for p in caught.value.problems}


@pytest.mark.parametrize(
    ("field", "text", "said"),
    [
        ("grpo.group_size", "1", "grpo.group_size"),
        ("grpo.group_size", "'16'", "grpo.group_size"),
        ("grpo.iterations", "true", "grpo.iterations"),
        ("grpo.sampler.window", "[0, 3]", "grpo.sampler.window"),
        ("grpo.sampler.window", "[]", "grpo.sampler.window"),
        ("grpo.sampler.eta", "0", "grpo.sampler.eta"),
        ("grpo.sampler.num_steps", "1", "grpo.sampler.num_steps"),
        ("grpo.update.clip_low", "0", "grpo.update.clip_low"),
        ("grpo.update.clip_low", "1.5", "grpo.update.clip_low"),
        ("grpo.update.kl.beta", "-1", "grpo.update.kl.beta"),
        ("grpo.update.micro_batch", "5", "grpo.update.micro_batch"),
        ("grpo.examples_per_iteration", "6", "grpo.update.micro_batch"),
        ("grpo.examples_per_iteration", "7", "grpo.examples_per_iteration"),
        ("grpo.dar", "{enabled: true, reward: nobody}", "grpo.dar.reward"),
        ("grpo.dar", "{w_min: 3, w_max: 2}", "grpo.dar.w_min"),
        ("sft.optimizer.lr", "-1e-4", "sft.optimizer.lr"),
        ("sft.micro_batch", "5", "sft.micro_batch"),
        ("sft", "{batch: 96, micro_batch: 32}", "sft.micro_batch"),
        ("rollouts.sample_batch", "3", "rollouts.sample_batch"),
        ("rollouts.lag", "-1", "rollouts.lag"),
        ("learners.engine.zero_stage", "4", "learners.engine.zero_stage"),
        ("learners.ranks", "3", "grpo.examples_per_iteration"),
        ("policy.tiny.patch", "3", "refiner.multiple"),
        ("data.box_size", "10", "data.box_size"),
        ("rewards.rewards", "[]", "rewards.rewards"),
        ("rewards.rewards", "[{name: a, kind: masked_pixel, weight: 0}]", "rewards.rewards"),
        ("rewards.rewards", "[{name: a, kind: masked_pixel, weight: -1}]", "rewards.rewards.0.weight"),
        ("checkpoints.keep_last", "1", "checkpoints.keep_last"),
        ("checkpoints.every", "99", "checkpoints.every"),
        ("evaluation.every", "0", "guard.enabled"),
        ("evaluation.batch", "32", "evaluation.batch"),
        ("tracking.uri", "file:mlruns", "tracking.uri"),
        ("stages", "[grpo, sft]", "stages"),
        ("stages", "[]", "stages"),
        ("name", "../x", "name"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_by_field(recipe_file, field, text, said):
    assert said in problems_of(recipe_file(), (field, text))


def test_problems_across_rooms_are_reported_at_once(recipe_file):
    found = problems_of(recipe_file("evaluation: {every: 0}\nrollouts: {sample_batch: 3}\ndata: {block: 12}\n"))
    assert {"guard.enabled", "rollouts.sample_batch", "sft.micro_batch"} <= found.keys()


def test_a_recipe_that_only_does_sft_is_not_checked_for_grpo(recipe_file):
    more = "stages: [sft]\ngrpo: {examples_per_iteration: 7, iterations: 1}\nevaluation: {every: 0}\n"
    assert load_recipe(recipe_file(more)).stages == ("sft",)


def test_unknown_keys_name_the_nearest_in_their_room(recipe_file):
    found = problems_of(recipe_file(), ("grpo.groupsize", "8"), ("grpo.lr", "1e-4"), ("learner.ranks", "1"))
    assert found["grpo.groupsize"].hint == "did you mean group_size?"
    assert found["grpo.lr"].hint == "did you mean sft.optimizer.lr?"
    assert found["learner"].hint == "did you mean learners?"


def test_the_resolved_recipe_loads_back_equal(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file("grpo: {update: {clip_low: 1e-5}}\n"), [("sft.optimizer.betas", "[0.8, 0.95]")])
    (tmp_path / "resolved.yaml").write_text(resolved_yaml(recipe))
    again = load_recipe(str(tmp_path / "resolved.yaml"))
    assert again == recipe and config_digest(again) == config_digest(recipe)


RUN_OPTIONS = [
    ("rollouts.workers", "7"), ("rewards.workers", "3"), ("tracking.enabled", "false"), ("checkpoints.every", "2"),
    ("checkpoints.keep_last", "9"), ("description", "other words"), ("name", "other"),
]  # fmt: skip


def test_run_options_change_no_digest(recipe_file):
    plain, other = load_recipe(recipe_file()), load_recipe(recipe_file(), RUN_OPTIONS)
    assert config_digest(plain) == config_digest(other) and changed_keys(plain, other) == ()
    assert check_resume(plain, other) == ()


def test_a_resume_under_another_recipe_is_refused_with_every_key(recipe_file):
    old = load_recipe(recipe_file())
    new = load_recipe(recipe_file(), [("grpo.update.kl.beta", "0.5"), ("data.seed", "1"), *RUN_OPTIONS])
    with pytest.raises(ConfigError) as caught:
        check_resume(old, new)
    assert [p.field for p in caught.value.problems] == ["data.seed", "grpo.update.kl.beta"]
    with pytest.raises(ConfigError, match=r"data\.seed"):
        check_resume(old, new, allow=["grpo"])
    assert check_resume(old, new, allow=["grpo.update", "data.seed"]) == changed_keys(old, new)


def test_groups_are_dealt_to_ranks_in_blocks_update_after_update(recipe_file):
    recipe = load_recipe(recipe_file(), [("learners.ranks", "2")])
    assert recipe.rank_groups(list("abcdefgh")) == [list("abef"), list("cdgh")]
    assert (recipe.grpo_micro_batches, recipe.sft_micro_batches) == (2, 1)


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_loads_under_its_own_name(name):
    assert load_recipe(name).name == name


def test_every_field_of_the_recipe_says_what_it_means():
    silent = [path for path, info in walk_fields(Recipe) if not info.description]
    assert silent == []
