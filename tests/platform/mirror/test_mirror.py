"""A run's second home: what is kept there, and a store that is away."""

import json
import shutil
import signal
import time

import pytest

from burnish.data.errors import ConfigError, InfrastructureError
from burnish.platform.bucket import Bucket, Commit, TakenError, run_ids
from burnish.platform.config import load_recipe
from burnish.platform.mirror import Mirror, NoMirror, open_mirror
from burnish.platform.restoring import newest_unfinished, restore
from burnish.platform.runs import RunStore
from burnish.platform.sections import CheckpointConfig

SECRETS = [
    ("mirror", "s3://me:word@host/runs"),
    ("mirror_options", "{secret: x}"),
    ("mirror_options", "{client_kwargs: {aws_secret_access_key: x}}"),
    ("mirror_options", "{account_key: x}"),
    ("mirror_options", "{sas_token: x}"),
]


def tree(path):
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and not file.name.startswith(".") and file.name not in ("lock", "control.json", "run.json")
    }


def test_a_lost_run_comes_back_byte_for_byte_without_what_belongs_to_a_machine(config, run, tmp_path, kept):
    run.update(mlflow_run_id="m")
    kept(config, run)
    before = tree(run.path)
    shutil.rmtree(run.path)
    assert newest_unfinished(config, "small", None) == newest_unfinished(config, None, 3) == run.id
    assert newest_unfinished(config, "small", 4) is None
    back = restore(config, RunStore(tmp_path / "elsewhere"), run.id)
    assert tree(back.path) == before and "base/manifest.json" in before
    assert not (back.path / "control.json").exists()
    assert (back.info.seed, back.info.mlflow_run_id) == (3, None)
    assert restore(config, RunStore(tmp_path / "elsewhere"), "another") is None


def test_what_is_there_already_is_not_sent_again_and_old_commits_go(config, run, monkeypatch, kept, step):
    bucket, sent = kept(config, run), []
    monkeypatch.setattr(
        Bucket, "put", lambda self, entry, content, put=Bucket.put: sent.append(1) or put(self, entry, content)
    )
    for number in (2, 3, 4):
        step(run, number)
        kept(config, run)
    assert len(sent) == 3 * 2  # state.json and its manifest
    assert len(bucket.commits()) == 2
    for number in bucket.commits():
        assert bucket.missing(bucket.read(number).files) == {}


def test_a_store_that_lets_nothing_go_is_said_once_and_gets_no_more_commits_for_it(config, run, monkeypatch, step):
    monkeypatch.setattr("burnish.platform.mirror.RETRY_SECONDS", 0.0)
    monkeypatch.setattr(Bucket, "prune", lambda self, keep: (_ for _ in ()).throw(InfrastructureError("no right")))
    said = []
    mirror = open_mirror(config, run, said.append)
    for number in (2, 3):
        step(run, number)
        mirror.commit()
    mirror.close()
    assert said == ["old commits of the mirror stay: no right"]
    assert len(Bucket(config.mirror, config.mirror_options, run.id).commits()) <= 3


def test_a_commit_is_written_once_and_its_writer_may_ask_twice(config):
    bucket = Bucket(config.mirror, config.mirror_options, "run")
    bucket.write(Commit(1, "me", {}))
    bucket.write(Commit(1, "me", {}))
    with pytest.raises(TakenError):
        bucket.write(Commit(1, "you", {}))
    assert bucket.read(1).writer == "me" and run_ids(config.mirror, config.mirror_options) == ["run"]


def test_a_store_that_is_away_holds_nothing_up_and_gets_everything_later(run, tmp_path, monkeypatch):
    monkeypatch.setattr("burnish.platform.mirror.RETRY_SECONDS", 0.05)
    config, away, said = CheckpointConfig(mirror=str(tmp_path / "mirror")), [], []
    open_mirror(config, run, said.append).close()

    def missing(self, files, found=Bucket.missing, **but):
        if len(away) < 3:
            away.append(1)
            raise InfrastructureError("no route")
        return found(self, files, **but)

    monkeypatch.setattr(Bucket, "missing", missing)
    mirror = open_mirror(config, run, said.append)
    started = time.monotonic()
    for _ in range(50):
        mirror.commit()
    assert time.monotonic() - started < 0.5
    mirror.close()
    assert len(away) == 3
    assert said == ["the mirror waits, training goes on: no route", f"the mirror has commit {number(config, run)}"]


def number(config, run):
    return Bucket(config.mirror, config.mirror_options, run.id).commits()[-1]


def test_a_file_that_never_comes_back_is_said_and_not_asked_for_without_a_pause(run, tmp_path, monkeypatch, step):
    monkeypatch.setattr("burnish.platform.mirror.CLOSE_SECONDS", 0.3)
    said, tries = [], []
    mirror = Mirror(Bucket(str(tmp_path / "mirror"), {}, run.id), run, said.append)
    (step(run, 2) / "state.json").unlink()
    monkeypatch.setattr(
        Bucket, "missing", lambda self, files, found=Bucket.missing, **but: tries.append(1) or found(self, files, **but)
    )
    mirror.close()
    assert len(tries) == 3 and "training goes on" in said[0] and "stands at commit 0" in said[-1]


def test_a_store_that_stays_away_is_said_at_the_end(run, tmp_path, monkeypatch):
    monkeypatch.setattr("burnish.platform.mirror.CLOSE_SECONDS", 0.2)
    said = []
    mirror = Mirror(Bucket(str(tmp_path / "mirror"), {}, run.id), run, said.append)
    monkeypatch.setattr(Bucket, "write", lambda self, commit: (_ for _ in ()).throw(InfrastructureError("full")))
    mirror.close()
    assert said[0].endswith("full") and "stands at commit 0" in said[-1]


def test_bad_places_are_refused_and_secrets_do_not_stand_in_recipes(run):
    assert isinstance(open_mirror(CheckpointConfig(), run, print), NoMirror)
    for url in ("nosuch://bucket", "abfs://container"):
        with pytest.raises(ConfigError, match=r"\.\[cloud\]"):
            open_mirror(CheckpointConfig(mirror=url), run, print)
    for key, value in SECRETS:
        with pytest.raises(ConfigError, match="without secrets"):
            load_recipe("smoke", [(f"checkpoints.{key}", value)])


def test_a_killed_run_whose_disk_is_gone_goes_on_from_s3_to_the_same_bytes(burnish, smoke, s3, keys):
    place = ["--checkpoints.mirror", s3.mirror, "--checkpoints.mirror_options", json.dumps(s3.mirror_options)]
    killed = burnish("smoke", *place, fail_point="mirror:4", **keys)
    assert killed.wait() == -signal.SIGKILL, killed.text
    lost = killed.run
    shutil.rmtree(lost.path)
    resumed = burnish("smoke", *place, "--resume", "auto", **keys)
    assert resumed.wait() == 0, resumed.text
    undisturbed = json.loads((smoke.path / "summary.json").read_text())
    assert resumed.run.id == lost.id
    assert resumed.summary["state_digest"] == undisturbed["state_digest"]
    bucket = Bucket(s3.mirror, s3.mirror_options, lost.id)
    assert "report.html" in bucket.read(bucket.commits()[-1]).files
