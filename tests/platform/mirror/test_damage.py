"""A mirror with several writers, damaged files, and deaths at the wrong moment."""

import json
import shutil
from pathlib import Path

import fsspec
import pytest

from burnish.data.errors import CheckpointError, RefusedError
from burnish.platform.bucket import Bucket, Commit
from burnish.platform.manifest import FileEntry, NewerFormatError, read_manifest
from burnish.platform.mirror import open_mirror
from burnish.platform.restoring import restore
from burnish.platform.runs import RunStore


def test_a_damaged_commit_or_file_is_passed_over_for_the_one_before(config, run, tmp_path, kept):
    bucket = kept(config, run)
    (run.path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    kept(config, run)
    newest = bucket.read(bucket.commits()[-1])
    bucket.put(newest.files["metrics.jsonl"], b"x" * newest.files["metrics.jsonl"].size)
    back = restore(config, RunStore(tmp_path / "one"), run.id)
    assert (back.path / "metrics.jsonl").read_text() == '{"step": 1}\n'
    assert kept(config, back).commits()[-1] > newest.number  # it goes on behind the damaged one
    (back.path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n')  # the bytes that were damaged come again
    kept(config, back)
    assert (restore(config, RunStore(tmp_path / "again"), run.id).path / "metrics.jsonl").stat().st_size == 24
    for number in bucket.commits():
        for entry in bucket.read(number).files.values():
            bucket.put(entry, b"")
    with pytest.raises(CheckpointError, match="no whole commit") as caught:
        restore(config, RunStore(tmp_path / "two"), run.id)
    assert len(caught.value.problems) == 2
    assert list((tmp_path / "two").iterdir()) == []


def test_two_copies_of_a_run_cannot_both_go_on(config, run, tmp_path, kept):
    kept(config, run)
    other = restore(config, RunStore(tmp_path / "other"), run.id)
    said = []
    mine, theirs = (open_mirror(config, copy, said.append) for copy in (run, other))
    theirs.commit()
    theirs.close()
    mine.commit()
    mine.close()
    assert len(said) == 1 and "went on elsewhere" in said[0]
    with pytest.raises(RefusedError, match="went on elsewhere"):
        mine.commit()
    with pytest.raises(RefusedError, match="went on elsewhere"):
        open_mirror(config, run, print)
    kept(config, other)


def test_a_copy_that_was_away_does_not_go_on_in_numbers_that_are_free_again(config, run, tmp_path, kept, step):
    kept(config, run)
    mine, said = open_mirror(config, run, lambda line: said.append(line)), []
    other = restore(config, RunStore(tmp_path / "other"), run.id)
    for number in (2, 3, 4, 5):
        step(other, number)
        kept(config, other)
    bucket = Bucket(config.mirror, config.mirror_options, run.id)
    before = bucket.commits()
    mine.close()
    assert "went on elsewhere" in said[0] and bucket.commits() == before
    restore(config, RunStore(tmp_path / "third"), run.id)


def test_a_file_or_a_commit_that_was_cut_off_holds_nothing_up(config, run, tmp_path, kept):
    bucket = Bucket(config.mirror, config.mirror_options, run.id)
    mirror = open_mirror(config, run, print)
    weights = read_manifest(run.path / "base").files["weights"]
    bucket.put(weights, b"w" * 10)
    mirror.close()
    path = f"{config.mirror}/{run.id}/commits/00000009.json"
    fsspec.open(path, "wb", **config.mirror_options).open().close()
    kept(config, run)
    assert (restore(config, RunStore(tmp_path / "one"), run.id).path / "base/weights").stat().st_size == 1000


def test_metrics_hold_all_that_a_mirrored_commit_counts_on(config, run, monkeypatch, kept):
    def late(folder, read=read_manifest):
        (run.path / "metrics.jsonl").write_text("a line more\n")
        return read(folder)

    monkeypatch.setattr("burnish.platform.mirror.read_manifest", late)
    bucket = kept(config, run)
    assert bucket.read(bucket.commits()[-1]).files["metrics.jsonl"].size == len("a line more\n")


def test_nothing_falls_back_past_a_commit_of_a_newer_burnish(config, run, tmp_path, monkeypatch, kept):
    kept(config, run)
    with monkeypatch.context() as newer:
        newer.setattr("burnish.platform.bucket.FORMAT_VERSION", 2)
        kept(config, run)
    with pytest.raises(NewerFormatError, match="newer burnish"):
        restore(config, RunStore(tmp_path / "elsewhere"), run.id)
    assert not (tmp_path / "elsewhere").exists()


def test_a_copied_directory_is_another_copy(config, run, tmp_path, kept):
    kept(config, run)
    clone = RunStore(Path(shutil.copytree(run.path.parent, tmp_path / "clone"))).open(run.id)
    mine, theirs = (open_mirror(config, copy, lambda line: None) for copy in (run, clone))
    mine.close()
    theirs.close()
    with pytest.raises(RefusedError, match="went on elsewhere"):
        theirs.commit()


def test_a_file_that_names_a_place_outside_the_run_is_refused(config, tmp_path):
    bucket = Bucket(config.mirror, config.mirror_options, "run")
    bucket.write(Commit(1, "me", {"../outside": FileEntry(1, "a" * 64)}))
    with pytest.raises(CheckpointError, match="no whole commit"):
        restore(config, RunStore(tmp_path / "runs"), "run")
    assert not (tmp_path / "outside").exists()


def test_a_driver_that_died_between_its_commit_and_its_note_goes_on(config, run, kept):
    kept(config, run)
    mirror = open_mirror(config, run, print)
    note = json.loads((run.path / ".mirror.json").read_text())
    mirror.close()
    (run.path / ".mirror.json").write_text(json.dumps(note))
    assert kept(config, run).commits()[-1] == 3
