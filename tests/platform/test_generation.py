"""Examples without an input image: a run on DyRef's list, and refusals where a family refines only."""

import json

import pytest

from burnish.data.drawings import draw_background
from burnish.data.errors import ConfigError, DataError
from burnish.data.images import save_png
from burnish.data.seeding import generator
from burnish.platform.cli import main
from burnish.platform.config import load_recipe
from burnish.platform.examples import check_splits, needs, recipe_source
from burnish.platform.runs import RunStore
from burnish.platform.summary import closing_lines
from burnish.policies.tiny_models import make_tiny_models

QUICK = (
    *("--sft.steps", "2", "--grpo.iterations", "1"),
    *("--evaluation.count", "2", "--evaluation.every", "0", "--tracking.enabled", "false"),
)


@pytest.fixture(scope="module")
def dyref(tmp_path_factory):
    """Sixteen records of a target, a subject and a style reference."""
    folder = tmp_path_factory.mktemp("dyref")
    records = []
    for number in range(16):
        target = draw_background(64, generator(0, "test-dyref", number))
        place = f"2_subjects/{number}"
        files = {f"{number}.png": target, "transfer_subjects/a cup.png": target[:, 16:48, 16:48]}
        files["style/reference.png"] = target[:, :32, :32]
        for name, image in files.items():
            (folder / place / name).parent.mkdir(parents=True, exist_ok=True)
            save_png(folder / place / name, image)
        paths = [f"{place}/{name}" for name in files]
        prompt = "A cup in image 1 in the style of image 2."
        record = {"image": paths[0], "edit_image": paths[1:], "prompt": prompt, "index": number}
        records.append(record | {"category": "subject_style"})
    (folder / "train_data.json").write_text(json.dumps(records))
    return folder


def sources(path):
    return ("data.sources", f"[{{kind: dyref, path: {path}}}]")


@pytest.mark.parametrize("name", ["smoke", "omnirefiner-kontext-tiny"])
def test_a_family_that_refines_names_every_row_without_an_image(dyref, name):
    recipe = load_recipe(name, [sources(dyref)])
    with pytest.raises(DataError, match="16 of 16 rows cannot be used") as caught:
        recipe_source(recipe, thorough=True)
    assert str(caught.value.problems[0]) == "row 1: image: got None, allowed a picture: this run cannot do without"


def test_data_without_a_held_out_example_is_refused_before_anything_is_trained(dyref):
    records = json.loads((dyref / "train_data.json").read_text())
    (dyref / "train_data.json").write_text(json.dumps([record | {"split": "train"} for record in records]))
    recipe = load_recipe("dyref-klein-tiny", [sources(dyref)])
    with pytest.raises(DataError, match="cannot be evaluated") as caught:
        check_splits(recipe_source(recipe, thorough=True), recipe)
    assert [p.field for p in caught.value.problems] == ["data: split dev", "data: split heldout"]
    check_splits(recipe_source(load_recipe("smoke")), load_recipe("smoke"))


def test_what_a_recipe_needs_follows_from_its_family_and_its_stages():
    assert needs(load_recipe("smoke")) == {"image", "target"}
    assert needs(load_recipe("dyref-klein-tiny")) == {"target"}
    assert needs(load_recipe("dyref-klein-tiny", [("stages", "[grpo]")])) == frozenset()
    assert needs(load_recipe("dyref-qwen2511-tiny", [("sft.weight", "boundary")])) == {"image", "target"}


def test_scribbles_are_refused_where_ids_follow_the_masks_own_box():
    with pytest.raises(ConfigError) as caught:
        load_recipe("tiny", [("data.masks", "scribble")])
    assert [problem.field for problem in caught.value.problems] == ["data.masks"]
    assert load_recipe("tiny", [("data.masks", "scribble"), ("data.crop", "focus")]).data.masks == "scribble"


def test_the_last_lines_do_without_an_input(tmp_path):
    rows = {"input_masked_mse": {"mean": None}, "masked_mse": {"mean": 0.25}}
    summary = {"stages": {"sft": {"heldout": {"ode": {"after": {"primary": rows}}}}}}
    assert closing_lines(summary, tmp_path)[0] == "held-out masked error, sft: 0.25000"


@pytest.mark.slow
def test_a_run_generates_learns_reports_and_exports(dyref, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_tiny_models(tmp_path / "models")
    field, value = sources(dyref)
    with pytest.raises(SystemExit) as left:
        main(["train", "dyref-klein-tiny", "--executor", "local", "--runs-dir", "runs", f"--{field}", value, *QUICK])
    assert not left.value.code
    (info,) = RunStore(tmp_path / "runs").infos()
    run = RunStore(tmp_path / "runs").open(info.id)
    summary = json.loads((run.path / "summary.json").read_text())
    assert summary["counts"]["missing_scores"] == 0 and summary["counts"]["samples"] == 8
    primary = summary["stages"]["grpo"]["heldout"]["ode"]["after"]["primary"]
    assert primary["masked_mse"]["mean"] > 0 and primary["outside_mse"]["mean"] is None
    with pytest.raises(SystemExit) as left:
        main(["export", info.id, "--runs-dir", "runs", "--to", "out"])
    assert not left.value.code and (tmp_path / "out" / "adapter").is_dir()
