"""The tiny twins of the papers' recipes, as they are: both stages, and the export's proof."""

import json

import pytest
import torch

from burnish.platform.checkpoints import committed, load_tensors
from burnish.platform.cli import main
from burnish.platform.config import load_recipe
from burnish.platform.runs import RunStore

TWINS = ("omnirefiner-kontext", "refineanything-qwen2509", "dyref-qwen2511", "dyref-klein")


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def command(*arguments):
    with pytest.raises(SystemExit) as left:
        main([*arguments, "--runs-dir", "runs"])
    assert not left.value.code


@pytest.fixture
def here(tiny_models, tmp_path, monkeypatch):
    """A working directory with the models that the twins name."""
    (tmp_path / "models").mkdir()
    for model in tiny_models.iterdir():
        (tmp_path / "models" / model.name).symlink_to(model)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", TWINS)
def test_a_twin_learns_in_both_stages_and_stock_diffusers_gives_its_velocity(here, capsys, name):
    command("train", f"{name}-tiny", "--executor", "local")
    (info,) = RunStore(here / "runs").infos()
    metrics = [line for line in lines(here / "runs" / info.id / "metrics.jsonl") if "reward/total/zero_spread" in line]
    assert [line["reward/total/zero_spread"] for line in metrics] == [0.0] * 3
    scores = [line for line in lines(here / "runs" / info.id / "journal.jsonl") if line["kind"] == "scores"]
    assert len({group["policy"]["digest"] for line in scores for group in line["groups"]}) == 3
    capsys.readouterr()
    command("export", info.id, "--checkpoint", "last", "--to", "out", "--json")
    proof = json.loads(capsys.readouterr().out)
    assert proof["effect"] > 1e-3 and proof["difference"] <= 1e-5


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_twin_trains_with_the_types_and_the_engine_of_the_large_recipe(here):
    large = load_recipe("dyref-klein")
    flux, engine = large.policy.flux2, large.learners.engine
    assert flux is not None and (flux.dtype, engine.kind, engine.zero_stage) == ("bfloat16", "deepspeed", 2)
    model = ["--policy.flux2.dtype", flux.dtype, "--policy.flux2.gradient_checkpointing", "true"]
    ranks = ["--learners.engine.kind", engine.kind, "--learners.engine.zero_stage", "2"]
    command("train", "dyref-klein-tiny", "--executor", "local", *model, *ranks)
    (info,) = RunStore(here / "runs").infos()
    rows = [line for line in lines(here / "runs" / info.id / "metrics.jsonl") if line["stage"] == "grpo"]
    assert [row["ratio_max_deviation"] for row in rows] == [0.0] * 3
    assert rows[0]["kl"] == 0.0 < rows[-1]["kl"]
    newest = committed(here / "runs" / info.id / "stages" / "grpo" / "checkpoints")[-1]
    assert {tensor.dtype for tensor in load_tensors(newest / "policy.safetensors").values()} == {torch.float32}
