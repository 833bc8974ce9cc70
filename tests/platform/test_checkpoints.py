import errno
import hashlib
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from burnish.data.errors import CheckpointError, InfrastructureError
from burnish.platform.checkpoints import commit, committed, latest_verified, load_tensors, prune, save_tensors, sweep
from burnish.platform.manifest import MANIFEST, NewerFormatError, load_verified

FILES = ("policy.safetensors", "adapter/config.json", "state.json", MANIFEST)
LABELS = ("after-tmp", "mid-file", "after-manifest", "before-rename", "after-rename", "before-prune")
CHILD = """
import sys
from pathlib import Path
from burnish.platform.checkpoints import commit, prune, sweep
parent = Path(sys.argv[1])
def writer(step):
    return lambda folder: [(folder / f"{n}.bin").write_bytes(bytes([step]) * 9000) for n in "ab"]
sweep(parent)
for step in (1, 2, 3, 4):
    commit(parent, f"step-{step:06d}", writer(step))
    print(step, flush=True)
    prune(parent, 2)
"""


def write_step(folder):
    save_tensors(folder / "policy.safetensors", {"w": np.arange(6, dtype=np.float32).reshape(2, 3)})
    (folder / "adapter").mkdir()
    (folder / "adapter" / "config.json").write_text('{"r": 8}')
    (folder / "state.json").write_text('{"step": 1}')


def flip(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


DAMAGE = {
    "flip": flip,
    "first byte": lambda p: p.write_bytes(bytes([p.read_bytes()[0] ^ 1]) + p.read_bytes()[1:]),
    "truncate": lambda p: os.truncate(p, p.stat().st_size - 1),
    "grow": lambda p: p.write_bytes(p.read_bytes() + b"\n"),
    "zero": lambda p: p.write_bytes(bytes(p.stat().st_size)),
    "delete": lambda p: p.unlink(),
    "link": lambda p: (p.rename(p.with_suffix(".away")), p.symlink_to(p.with_suffix(".away"))),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", DAMAGE)
def test_every_damage_is_found_named_and_passed_over(tmp_path, kind, name):
    old = commit(tmp_path, "step-000001", write_step)
    new = commit(tmp_path, "step-000002", write_step)
    DAMAGE[kind](new / name)
    with pytest.raises(CheckpointError, match=name.split("/")[-1]):
        load_verified(new)
    seen = []
    assert latest_verified(tmp_path, on_damage=seen.append) == old
    assert len(seen) == 1


def test_a_damaged_version_number_is_damage_and_not_a_newer_format(tmp_path):
    old = commit(tmp_path, "step-1", write_step)
    path = commit(tmp_path, "step-2", write_step) / MANIFEST
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 3'))
    assert latest_verified(tmp_path) == old


def test_an_extra_file_is_damage(tmp_path):
    path = commit(tmp_path, "step-1", write_step)
    (path / "evil.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"evil\.bin"):
        load_verified(path)


def test_all_damaged_is_an_error_and_nothing_committed_is_none(tmp_path):
    assert latest_verified(tmp_path / "none") is None
    flip(commit(tmp_path, "step-1", write_step) / "state.json")
    with pytest.raises(CheckpointError, match="every checkpoint"):
        latest_verified(tmp_path)


def test_a_newer_format_is_refused_and_not_passed_over(tmp_path):
    commit(tmp_path, "step-1", write_step)
    path = commit(tmp_path, "step-2", write_step) / MANIFEST
    tree = json.loads(path.read_text()) | {"format_version": 99, "more": "things"}
    del tree["digest"]
    digest = hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(tree | {"digest": digest}))
    with pytest.raises(NewerFormatError, match="99"):
        latest_verified(tmp_path)


@pytest.mark.parametrize("label", [f"{label}:{count}" for label in LABELS for count in (1, 3)])
def test_a_kill_at_any_point_of_a_commit_loses_nothing_committed(tmp_path, label):
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    killed = subprocess.run(command, env=os.environ | {"BURNISH_FAIL_POINT": label}, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    printed = [int(line) for line in killed.stdout.split()]
    found = latest_verified(tmp_path)
    newest = int(found.name[-6:]) if found else 0
    assert newest - max(printed, default=0) in (0, 1)
    if found:
        assert set((found / "a.bin").read_bytes() + (found / "b.bin").read_bytes()) == {newest}
    sweep(tmp_path)
    assert not list(tmp_path.glob(".tmp-*"))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_refuses_is_an_infrastructure_error_and_leaves_the_old_commit(tmp_path, code):
    def full(folder):
        (folder / "half.bin").write_bytes(b"x" * 100)
        raise OSError(code, os.strerror(code))

    old = commit(tmp_path, "step-1", write_step)
    with pytest.raises(InfrastructureError, match="earlier checkpoints are intact") as caught:
        commit(tmp_path, "step-2", full)
    assert caught.value.exit_code == 4
    assert latest_verified(tmp_path) == old
    assert os.listdir(tmp_path) == ["step-1"]


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        commit(tmp_path, "step-1", lambda folder: 1 / 0)
    assert os.listdir(tmp_path) == []


def test_a_sound_commit_is_not_overwritten_and_a_damaged_one_is(tmp_path):
    path = commit(tmp_path, "step-1", write_step)
    with pytest.raises(CheckpointError, match="a new name"):
        commit(tmp_path, "step-1", write_step)
    flip(path / "state.json")
    load_verified(commit(tmp_path, "step-1", write_step))


@pytest.mark.parametrize("name", ["../x", ".tmp-x", "", "a/b", "A", "x" * 65])
def test_a_commit_name_cannot_leave_its_folder(tmp_path, name):
    with pytest.raises(CheckpointError):
        commit(tmp_path, name, write_step)


def test_prune_keeps_the_newest_the_pinned_and_does_not_count_the_damaged(tmp_path):
    for step in (9, 10, 11, 12, 13):
        commit(tmp_path, f"step-{step}", write_step)
    (tmp_path / "step-12" / "state.json").unlink()
    assert prune(tmp_path, 2, {"step-9"}) == ["step-10", "step-12"]
    assert [p.name for p in committed(tmp_path)] == ["step-9", "step-11", "step-13"]
    with pytest.raises(CheckpointError, match=">= 2"):
        prune(tmp_path, 1)


def test_sweep_removes_what_kills_left(tmp_path):
    (tmp_path / ".tmp-step-1-77").mkdir()
    commit(tmp_path, "step-1", write_step)
    assert sweep(tmp_path) == [".tmp-step-1-77"]


def test_tensors_come_back_bit_for_bit_also_views_and_shared_ones(tmp_path):
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    given = {"view": base[1:, ::2], "a": base, "b": base, "half": base.bfloat16(), "np": np.float64([1.5]).copy()}
    save_tensors(tmp_path / "t.safetensors", given)
    read = load_tensors(tmp_path / "t.safetensors")
    assert all(torch.equal(read[name], torch.as_tensor(value)) for name, value in given.items())
    assert read["half"].dtype == torch.bfloat16 and read["np"].dtype == torch.float64


def test_a_tensor_file_that_cannot_be_read_or_written_is_a_typed_error(tmp_path):
    (tmp_path / "bad").write_bytes(b"\xff" * 100)
    with pytest.raises(CheckpointError, match="bad"):
        load_tensors(tmp_path / "bad")
    with pytest.raises(OSError, match="safetensors"):
        save_tensors(tmp_path / "no" / "where", {"a": torch.zeros(1)})
