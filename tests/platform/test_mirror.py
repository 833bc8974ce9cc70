"""A run's second home in an S3-compatible server on loopback, and in a directory: kept, fenced, brought back."""

import json
import shutil
import signal
import time
import uuid

import fsspec
import pytest
from moto.server import ThreadedMotoServer

from burnish.data.errors import CheckpointError, ConfigError, InfrastructureError, RefusedError
from burnish.platform.bucket import Bucket, Commit, TakenError, run_ids
from burnish.platform.checkpoints import commit
from burnish.platform.config import load_recipe
from burnish.platform.manifest import FileEntry, NewerFormatError, read_manifest
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
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def server():
    """An S3-compatible server on a free port of loopback."""
    found = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    found.start()
    yield found
    found.stop()


@pytest.fixture(params=["s3", "directory"])
def config(request, server, tmp_path, monkeypatch):
    """Where a mirror is: a fresh bucket, or a fresh directory."""
    if request.param == "directory":
        return CheckpointConfig(mirror=(tmp_path / "mirror").as_uri())
    return s3(server, monkeypatch)


def s3(server, monkeypatch):
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    host, port = server.get_host_and_port()
    options = {"endpoint_url": f"http://{host}:{port}"}
    name = f"bucket-{uuid.uuid4().hex}"
    fsspec.filesystem("s3", **options, skip_instance_cache=True).mkdir(name)
    return CheckpointConfig(mirror=f"s3://{name}/runs", mirror_options=options)


@pytest.fixture
def run(tmp_path):
    """A run with a sealed base, a commit and lines of metrics."""
    made = RunStore(tmp_path / "runs").create("small", 3)
    (made.path / "metrics.jsonl").write_text('{"step": 1}\n')
    (made.path / "control.json").write_text("this machine's")
    commit(made.path, "base", lambda path: (path / "weights").write_bytes(b"w" * 1000))
    step(made, 1)
    return made


def step(run, number):
    parent = run.path / "stages" / "grpo" / "checkpoints"
    return commit(parent, f"step-{number:06d}", lambda path: (path / "state.json").write_text(f"{number}"))


def kept(config, run):
    """A mirror that has the run as it is."""
    said = []
    mirror = open_mirror(config, run, said.append)
    mirror.commit()
    mirror.close()
    assert said == []
    return Bucket(config.mirror, config.mirror_options, run.id)


def tree(path):
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and not file.name.startswith(".") and file.name not in ("lock", "control.json", "run.json")
    }


def test_a_lost_run_comes_back_byte_for_byte_without_what_belongs_to_a_machine(config, run, tmp_path):
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


def test_what_is_there_already_is_not_sent_again_and_old_commits_go(config, run, monkeypatch):
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


def test_a_damaged_commit_or_file_is_passed_over_for_the_one_before(config, run, tmp_path):
    bucket = kept(config, run)
    (run.path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    kept(config, run)
    newest = bucket.read(bucket.commits()[-1])
    bucket.put(newest.files["metrics.jsonl"], b"other bytes")
    back = restore(config, RunStore(tmp_path / "one"), run.id)
    assert (back.path / "metrics.jsonl").read_text() == '{"step": 1}\n'
    assert kept(config, back).commits()[-1] > newest.number  # it goes on behind the damaged one
    for number in bucket.commits():
        for entry in bucket.read(number).files.values():
            bucket.put(entry, b"")
    with pytest.raises(CheckpointError, match="no whole commit") as caught:
        restore(config, RunStore(tmp_path / "two"), run.id)
    assert len(caught.value.problems) == 2
    assert list((tmp_path / "two").iterdir()) == []


def test_two_copies_of_a_run_cannot_both_go_on(config, run, tmp_path):
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


def test_a_copy_that_was_away_does_not_go_on_in_numbers_that_are_free_again(config, run, tmp_path):
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


def test_a_file_or_a_commit_that_was_cut_off_holds_nothing_up(config, run, tmp_path):
    bucket = Bucket(config.mirror, config.mirror_options, run.id)
    mirror = open_mirror(config, run, print)
    weights = read_manifest(run.path / "base").files["weights"]
    bucket.put(weights, b"w" * 10)
    mirror.close()
    path = f"{config.mirror}/{run.id}/commits/00000009.json"
    fsspec.open(path, "wb", **config.mirror_options).open().close()
    kept(config, run)
    assert (restore(config, RunStore(tmp_path / "one"), run.id).path / "base/weights").stat().st_size == 1000


def test_metrics_hold_all_that_a_mirrored_commit_counts_on(config, run, monkeypatch):
    def late(folder, read=read_manifest):
        (run.path / "metrics.jsonl").write_text("a line more\n")
        return read(folder)

    monkeypatch.setattr("burnish.platform.mirror.read_manifest", late)
    bucket = kept(config, run)
    assert bucket.read(bucket.commits()[-1]).files["metrics.jsonl"].size == len("a line more\n")


def test_nothing_falls_back_past_a_commit_of_a_newer_burnish(config, run, tmp_path, monkeypatch):
    kept(config, run)
    with monkeypatch.context() as newer:
        newer.setattr("burnish.platform.bucket.FORMAT_VERSION", 2)
        kept(config, run)
    with pytest.raises(NewerFormatError, match="newer burnish"):
        restore(config, RunStore(tmp_path / "elsewhere"), run.id)
    assert not (tmp_path / "elsewhere").exists()


def test_a_commit_is_written_once_and_its_writer_may_ask_twice(config):
    bucket = Bucket(config.mirror, config.mirror_options, "run")
    bucket.write(Commit(1, "me", {}))
    bucket.write(Commit(1, "me", {}))
    with pytest.raises(TakenError):
        bucket.write(Commit(1, "you", {}))
    assert bucket.read(1).writer == "me" and run_ids(config.mirror, config.mirror_options) == ["run"]


def test_a_driver_that_died_between_its_commit_and_its_note_goes_on(config, run):
    kept(config, run)
    note = json.loads((run.path / ".mirror.json").read_text())
    kept(config, run)
    (run.path / ".mirror.json").write_text(json.dumps(note))
    assert kept(config, run).commits()[-1] == 3


def test_a_store_that_is_away_holds_nothing_up_and_gets_everything_later(run, tmp_path, monkeypatch):
    monkeypatch.setattr("burnish.platform.mirror.RETRY_SECONDS", 0.05)
    config, away, said = CheckpointConfig(mirror=str(tmp_path / "mirror")), [], []
    open_mirror(config, run, said.append).close()

    def missing(self, files, found=Bucket.missing):
        if len(away) < 3:
            away.append(1)
            raise InfrastructureError("no route")
        return found(self, files)

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


def test_a_file_that_never_comes_back_is_said_and_not_asked_for_without_a_pause(run, tmp_path, monkeypatch):
    monkeypatch.setattr("burnish.platform.mirror.CLOSE_SECONDS", 0.3)
    said, tries = [], []
    mirror = Mirror(Bucket(str(tmp_path / "mirror"), {}, run.id), run, said.append)
    (step(run, 2) / "state.json").unlink()
    monkeypatch.setattr(
        Bucket, "missing", lambda self, files, found=Bucket.missing: tries.append(1) or found(self, files)
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


def test_a_file_that_names_a_place_outside_the_run_is_refused(config, tmp_path):
    bucket = Bucket(config.mirror, config.mirror_options, "run")
    bucket.write(Commit(1, "me", {"../outside": FileEntry(1, "a" * 64)}))
    with pytest.raises(CheckpointError, match="no whole commit"):
        restore(config, RunStore(tmp_path / "runs"), "run")
    assert not (tmp_path / "outside").exists()


def test_bad_places_are_refused_and_secrets_do_not_stand_in_recipes(run):
    assert isinstance(open_mirror(CheckpointConfig(), run, print), NoMirror)
    for url in ("nosuch://bucket", "abfs://container"):
        with pytest.raises(ConfigError, match=r"\.\[cloud\]"):
            open_mirror(CheckpointConfig(mirror=url), run, print)
    for key, value in SECRETS:
        with pytest.raises(ConfigError, match="without secrets"):
            load_recipe("smoke", [(f"checkpoints.{key}", value)])


def test_a_killed_run_whose_disk_is_gone_goes_on_from_s3_to_the_same_bytes(burnish, smoke, server, monkeypatch):
    config = s3(server, monkeypatch)
    place = ["--checkpoints.mirror", config.mirror, "--checkpoints.mirror_options", json.dumps(config.mirror_options)]
    killed = burnish("smoke", *place, fail_point="mirror:4", **KEYS)
    assert killed.wait() == -signal.SIGKILL, killed.text
    lost = killed.run
    shutil.rmtree(lost.path)
    resumed = burnish("smoke", *place, "--resume", "auto", **KEYS)
    assert resumed.wait() == 0, resumed.text
    undisturbed = json.loads((smoke.path / "summary.json").read_text())
    assert resumed.run.id == lost.id
    assert resumed.summary["state_digest"] == undisturbed["state_digest"]
    bucket = Bucket(config.mirror, config.mirror_options, lost.id)
    assert "report.html" in bucket.read(bucket.commits()[-1]).files
