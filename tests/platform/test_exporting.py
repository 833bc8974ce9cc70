"""Exports in every format, and a run that starts from one."""

import json
import shutil

import numpy as np
import pytest
from mlflow import MlflowClient
from safetensors.numpy import load_file

from burnish.platform.cli import main
from burnish.platform.exporting import FORMATS
from burnish.platform.runs import RunStore
from burnish.policies.snapshot import START_FILE


@pytest.fixture
def call(capsys):
    """Run the command line: (exit code, stdout, stderr)."""

    def run(*arguments):
        with pytest.raises(SystemExit) as left:
            main([*map(str, arguments)])
        captured = capsys.readouterr()
        return left.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture
def exported(call, smoke, tmp_path):
    """(folder, what the command said) of the smoke run in every format."""
    wanted = [part for kind in FORMATS for part in ("--format", kind)]
    code, out, err = call("export", smoke.id, "--to", tmp_path / "out", "--runs-dir", smoke.path.parent, *wanted)
    assert code == 0, err
    return tmp_path / "out", out


def test_every_format_is_written_read_back_and_told(exported):
    folder, said = exported
    assert {path.name for path in (folder / "adapter").iterdir()} == {
        "pytorch_lora_weights.safetensors",
        "comfyui.safetensors",
        "diffsynth.safetensors",
    }
    assert any((folder / "merged").glob("*.safetensors"))
    assert all(f"({kind})" in said for kind in FORMATS[1:])
    listed = json.loads((folder / "manifest.json").read_text())
    assert "merged/config.json" in json.dumps(listed) and "adapter/comfyui.safetensors" in json.dumps(listed)


def test_an_export_is_registered_with_its_lineage_and_the_next_is_another_version(call, smoke, tmp_path):
    runs = tmp_path / "runs"
    shutil.copytree(smoke.path, runs / smoke.id)
    config = (runs / smoke.id / "config.yaml").read_text()
    (runs / smoke.id / "config.yaml").write_text(config.replace("enabled: false\n  uri", "enabled: true\n  uri"))
    RunStore(runs).open(smoke.id).update(mlflow_run_id=None)
    for number in ("1", "2"):
        to = ("--to", tmp_path / number, "--register", "refiner", "--runs-dir", runs)
        code, out, err = call("export", smoke.id, *to)
        assert code == 0 and f"registered as refiner, version {number}" in out, err
    found = MlflowClient(f"sqlite:///{runs / 'mlflow.db'}").get_model_version("refiner", "2")
    assert found.source == (tmp_path / "2").as_uri()
    summary = json.loads((smoke.path / "summary.json").read_text())
    assert {name: found.tags[f"burnish.{name}"] for name in ("run_id", "policy_digest", "state_digest", "seed")} == {
        "run_id": smoke.id,
        "policy_digest": summary["policy_digest"],
        "state_digest": summary["state_digest"],
        "seed": "0",
    }
    assert json.loads(found.tags["burnish.rubrics"]) == summary["rubric_versions"]


def test_what_cannot_be_registered_is_refused_with_the_reason(call, smoke, tmp_path):
    for name, code, said in (("../x", 2, "--register"), ("fine", 2, "tracking.enabled")):
        to = ("--to", tmp_path / "out", "--register", name, "--runs-dir", smoke.path.parent)
        found, _, err = call("export", smoke.id, *to)
        assert found == code and said in err and not (tmp_path / "out").exists()


def test_an_unknown_format_is_refused_and_nothing_is_left(call, smoke, tmp_path):
    code, _, err = call(
        "export", smoke.id, "--to", tmp_path / "out", "--runs-dir", smoke.path.parent, "--format", "onnx"
    )
    assert code == 2 and "onnx" in err and "comfyui" in err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("file", ["pytorch_lora_weights.safetensors", "comfyui.safetensors"])
def test_a_run_starts_from_an_exported_adapter_and_keeps_a_copy_for_its_kl(call, exported, smoke, tmp_path, file):
    folder, _ = exported
    runs, short = tmp_path / "runs", ["--grpo.iterations", "1", "--stages", "grpo", "--sft.trains", "adapter"]
    start = ["--grpo.adapter.start_from", folder / "adapter" / file]
    code, _, err = call("train", "smoke", "--executor", "local", "--runs-dir", runs, *start, *short)
    assert code == 0, err
    (info,) = RunStore(runs).infos()
    run = RunStore(runs).open(info.id)
    held = load_file(run.path / "base" / START_FILE)
    (commit,) = (smoke.path / "stages" / "grpo" / "checkpoints").glob("step-000004")
    wanted = load_file(commit / "policy.safetensors")
    assert held.keys() == wanted.keys()
    assert all(np.abs(held[name] - wanted[name]).max() <= 1e-7 for name in wanted)


def test_a_file_cannot_start_what_fine_tuning_trains_whole(call, exported):
    folder, _ = exported
    file = folder / "adapter" / "comfyui.safetensors"
    code, _, err = call("train", "smoke", "--dry-run", "--grpo.adapter.start_from", file)
    assert code == 2 and "grpo.adapter.start_from" in err
