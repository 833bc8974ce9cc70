"""Runs that train all weights: no adapter anywhere, weights pushed in shards, exports without one."""

import json

import numpy as np
import pytest
import torch

from burnish.platform.checkpoints import committed
from burnish.platform.cli import main
from burnish.platform.commands import choose_policy
from burnish.platform.config import load_recipe
from burnish.platform.failpoints import InjectedFault
from burnish.platform.refining import exported_refiner, run_refiner
from burnish.platform.runs import RunStore
from burnish.platform.sync import shard_names, shards_of
from burnish.policies.refiner import loaded_digest
from burnish.policies.tiny_models import make_tiny_models

WHOLE = ["--grpo.trains", "all", "--grpo.update.optimizer.lr", "1e-4", "--grpo.update.updates_per_iteration", "1"]
SHORT = ["--grpo.iterations", "2", "--checkpoints.keep_last", "4"]


def run(*arguments):
    """The command's exit code."""
    with pytest.raises(SystemExit) as left:
        main([*map(str, arguments)])
    return left.value.code or 0


def only_run(runs):
    (info,) = RunStore(runs).infos()
    return RunStore(runs).open(info.id)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run of the tiny policy whose GRPO trained all weights."""
    runs = tmp_path_factory.mktemp("whole")
    assert run("train", "smoke", "--executor", "local", "--runs-dir", runs, *WHOLE, *SHORT) == 0
    return only_run(runs)


def test_every_weight_is_trained_and_none_is_an_adapters(whole):
    first, last = [choose_policy(whole, name).weights() for name in ("step-000000", "step-000002")]
    assert first[0].digest != last[0].digest and not any("lora" in name for name in last[1])
    moved = [name for name, value in last[1].items() if not np.array_equal(value, first[1][name])]
    assert len(moved) > len(last[1]) / 2
    newest = committed(whole.path / "stages" / "grpo" / "checkpoints")[-1]
    assert not (newest / "adapter").exists()
    assert json.loads((newest / "snapshot.json").read_text())["adapter"] is None


def test_kl_is_exactly_zero_at_the_first_update_and_not_at_the_second(whole):
    rows = [json.loads(line) for line in (whole.path / "metrics.jsonl").read_text().splitlines()]
    kl = [row["kl"] for row in rows if row["stage"] == "grpo"]
    assert kl[0] == 0.0 and kl[1] > 0.0
    assert [row["ratio_max_deviation"] for row in rows if row["stage"] == "grpo"] == [0.0, 0.0]


def test_a_run_that_was_killed_goes_on_to_the_same_bytes(whole, tmp_path, monkeypatch):
    monkeypatch.setenv("BURNISH_FAIL_POINT", "learn:2:raise")
    with pytest.raises(InjectedFault):
        main(["train", "smoke", "--executor", "local", "--runs-dir", str(tmp_path), *WHOLE, *SHORT])
    monkeypatch.delenv("BURNISH_FAIL_POINT")
    assert run("train", "--resume", "auto", "--executor", "local", "--runs-dir", tmp_path) == 0
    ends = [json.loads((r.path / "summary.json").read_text()) for r in (whole, only_run(tmp_path))]
    assert ends[0]["state_digest"] == ends[1]["state_digest"]


def test_an_export_holds_the_weights_and_refines_as_the_run_does(whole, tmp_path):
    options = ["--runs-dir", whole.path.parent, "--to", tmp_path / "out"]
    assert run("export", whole.id, *options, "--format", "comfyui") == 2
    assert run("export", whole.id, *options, "--format", "merged") == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "base",
        "policy.safetensors",
        "merged",
        "snapshot.json",
        "manifest.json",
    }
    own, exported = run_refiner(whole, name="last"), exported_refiner(tmp_path / "out")
    for one, other in zip(own.policy.module.parameters(), exported.policy.module.parameters(), strict=True):
        assert torch.equal(one, other)
    assert loaded_digest(tmp_path / "out", exported) == choose_policy(whole, "last").weights()[0].digest


def test_shards_are_the_state_in_order_and_bounded():
    state = {f"w{i:02d}": np.full(10, i, np.float32) for i in range(7)}
    assert shard_names(dict.fromkeys(state, 40), limit=100) == [
        ["w00", "w01"],
        ["w02", "w03"],
        ["w04", "w05"],
        ["w06"],
    ]
    assert shard_names({"a": 500, "b": 1}, limit=100) == [["a"], ["b"]]
    assert [list(shard) for shard in shards_of(state)] == [sorted(state)]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"rollouts.fold_adapter": True}, "rollouts.fold_adapter"),
        ({"sft.trains": "adapter"}, "grpo.trains"),
        ({"grpo.adapter.start_from": "x.safetensors"}, "grpo.adapter.start_from"),
    ],
)
def test_what_needs_an_adapter_is_refused_by_name(changes, field):
    overrides = [(name, json.dumps(value)) for name, value in {"grpo.trains": "all", **changes}.items()]
    with pytest.raises(ValueError, match="refused") as caught:
        load_recipe("smoke", overrides)
    assert field in [problem.field for problem in caught.value.problems]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_pretrained_family_is_trained_whole_in_both_stages(tmp_path, monkeypatch, dtype):
    monkeypatch.chdir(tmp_path)
    make_tiny_models(tmp_path / "models")
    options = ["--sft.trains", "all", "--policy.kontext.dtype", dtype, "--grpo.iterations", "2"]
    assert run("train", "omnirefiner-kontext-tiny", "--executor", "local", "--runs-dir", "runs", *options, *WHOLE) == 0
    trained = only_run(tmp_path / "runs")
    assert (trained.path / "base" / "transformer").is_dir()
    assert run("export", trained.id, "--runs-dir", "runs", "--to", "out", "--format", "merged") == 0
