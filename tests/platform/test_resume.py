import pytest

from burnish.data.errors import ConfigError
from burnish.platform.config import load_recipe, resolved_yaml
from burnish.platform.options import TrainOptions
from burnish.platform.resume import choose
from burnish.platform.runs import RunStore


@pytest.fixture
def interrupted(tmp_path, recipe_file):
    """A run of the small recipe with seed 5 that was interrupted."""
    run = RunStore(tmp_path / "runs").create("small", 5)
    (run.path / "config.yaml").write_text(resolved_yaml(load_recipe(recipe_file())))
    run.update(status="interrupted")
    return run


def options(run, resume, **more):
    return TrainOptions(resume=resume, runs_dir=run.path.parent, **more)


def test_a_new_run_has_the_typed_recipe_and_seed_0(recipe_file, tmp_path):
    recipe, chosen = choose(recipe_file(), [("grpo.iterations", "3")], TrainOptions(runs_dir=tmp_path), seed=None)
    assert (recipe.grpo.iterations, chosen.seed, chosen.resume) == (3, 0, None)


@pytest.mark.parametrize("resume", ["auto", "by id"])
def test_a_resume_takes_the_runs_own_recipe_and_seed(interrupted, resume):
    wanted = options(interrupted, interrupted.id if resume == "by id" else "auto")
    recipe, chosen = choose(None, [("rollouts.workers", "3")], wanted, seed=None)
    assert (recipe.name, recipe.rollouts.workers) == ("small", 3)
    assert (chosen.seed, chosen.resume) == (5, interrupted.id)


def test_a_resume_refuses_another_seed_or_changed_keys_unless_allowed(interrupted):
    with pytest.raises(ConfigError, match="another seed"):
        choose(None, [], options(interrupted, interrupted.id), seed=6)
    change = [("grpo.update.kl.beta", "0.5")]
    with pytest.raises(ConfigError, match=r"--allow-change grpo\.update\.kl\.beta"):
        choose(None, change, options(interrupted, "auto"), seed=None)
    allowed = options(interrupted, "auto", allow_change=("grpo.update",))
    assert choose(None, change, allowed, seed=None)[0].grpo.update.kl.beta == 0.5


@pytest.mark.parametrize("resume", ["auto", "by id"])
def test_an_override_is_read_against_the_runs_own_recipe(tmp_path, resume):
    run = RunStore(tmp_path / "runs").create("dyref-klein-tiny", 0)
    (run.path / "config.yaml").write_text(resolved_yaml(load_recipe("dyref-klein-tiny")))
    wanted = options(run, run.id if resume == "by id" else "auto", allow_change=("policy",))
    recipe, _ = choose(None, [("policy.flux2.encoder_cache", str(tmp_path))], wanted, seed=None)
    assert recipe.policy.config.encoder_cache == str(tmp_path)


def test_a_run_that_never_began_does_not_hide_an_older_one(interrupted):
    later = RunStore(interrupted.path.parent).create("small", 5)
    assert later.info.status == "running"
    assert choose(None, [], options(interrupted, "auto"), seed=None)[1].resume == interrupted.id


def test_auto_starts_anew_where_nothing_fits(interrupted, recipe_file):
    path = recipe_file()
    assert choose(path, [], options(interrupted, "auto"), seed=6)[1].resume is None
    assert choose(path, [("name", "other")], options(interrupted, "auto"), seed=None)[1].resume is None
    interrupted.update(status="done")
    assert choose(path, [], options(interrupted, "auto"), seed=5)[1].resume is None
