"""Exports in every format, and a run that starts from one."""

import json

import numpy as np
import pytest
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
