"""From a run to a server and back: serve, refine on it, promote, roll back, and what MLflow hears."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pytest
import requests

from burnish.data.errors import ConfigError
from burnish.data.images import save_png
from burnish.data.seeding import normal
from burnish.platform import promoting, serving
from burnish.platform.cli import main
from burnish.platform.commands import choose_policy
from burnish.platform.mlflow_sink import MlflowSink, TrackingConfig
from burnish.platform.promoting import LivePromotion, ServingConfig
from burnish.platform.runs import RunStore
from burnish.policies.digests import policy_digest
from burnish.policies.lora import import_state
from burnish.policies.snapshot import load_start, save_adapter
from burnish.serve.client import Client
from burnish.serve.engine import load_version
from burnish.serve.local import local_server
from burnish.serve.store import ServeConfig, Store


@pytest.fixture(scope="module")
def place(smoke, tmp_path_factory):
    """A server's directory of the smoke run."""
    made = tmp_path_factory.mktemp("server") / "here"
    serving.prepare(made, source=smoke.id, runs_dir=smoke.path.parent, checkpoint="last", name="tuned")
    return made


@pytest.fixture(scope="session")
def ports():
    """A maker of free ports of loopback."""

    def free():
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            return found.getsockname()[1]

    return free


@pytest.fixture(scope="module")
def url(place, ports):
    port = ports()
    Store(place).token("admin")
    stop = local_server(ServeConfig(directory=str(place)), host="127.0.0.1", port=port)
    yield f"http://127.0.0.1:{port}"
    stop()


@pytest.fixture
def call(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as left:
            main([*map(str, arguments)])
        captured = capsys.readouterr()
        return left.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture
def picture(tmp_path):
    pixels = np.clip(0.5 + 0.2 * normal((3, 40, 56), 0, "test-picture"), 0, 1).astype(np.float32)
    save_png(tmp_path / "in.png", pixels)
    mask = np.zeros((1, 40, 56), np.float32)
    mask[:, 12:20, 30:40] = 1
    save_png(tmp_path / "mask.png", mask)
    return tmp_path / "in.png"


def test_a_directory_names_the_runs_policy_and_its_base_and_holds_its_gold_rewards(place, smoke):
    versions, probe = Store(place).read(), json.loads((place / "probe.json").read_text())
    assert [v.name for v in versions.loaded()] == ["tuned@1", "base@1"]
    assert versions.choose(None).lineage["run"] == smoke.id
    assert len(probe["examples"]) == serving.PROBES and probe["rewards"][0]["kind"] == "masked_pixel"


def test_what_is_served_stays_when_the_run_prunes_its_commit(smoke, tmp_path):
    runs = Path(shutil.copytree(smoke.path.parent, tmp_path / "runs", symlinks=True))
    serving.prepare(tmp_path / "served", source=smoke.id, runs_dir=runs, checkpoint=None, name="tuned")
    shutil.rmtree(runs / smoke.id / "stages")
    for version in Store(tmp_path / "served").read().loaded():
        load_version(version)
    again = serving.prepare(tmp_path / "served", source=smoke.id, runs_dir=runs, checkpoint="last", name="tuned")
    assert again is not None and again.id == smoke.id


def test_refining_on_a_server_gives_the_bytes_of_refining_here(call, smoke, url, picture):
    asked = ("refine", picture, "--mask", picture.with_name("mask.png"), "--reference", picture, "--seed", 3)
    here = call(
        *asked, "--run", smoke.id, "--checkpoint", "last", "--runs-dir", smoke.path.parent, "-o", f"{picture}.a.png"
    )
    there = call(*asked, "--server", url, "-o", f"{picture}.b.png", "--json")
    assert (here[0], there[0]) == (0, 0), here[2] + there[2]
    one, two = (picture.with_name(f"in.png.{name}.png").read_bytes() for name in "ab")
    assert one == two and json.loads(there[1])["moved"] == 0


def test_promote_and_rollback_from_the_command_line(call, smoke, url, place):
    token = ("--token-file", place / "admin.token")
    code, out, err = call("promote", smoke.id, "--to", url, "--runs-dir", smoke.path.parent, *token)
    assert code == 0 and "tuned@2 is active" in out, err
    assert call("rollback", "--to", url, *token, "--reason", "test")[1].strip() == "tuned@2 is given up, tuned@1 serves"
    code, _, err = call("rollback", "--to", url, *token)
    assert code == 2 and "no version to go back to" in err
    assert call("promote", smoke.id, "--to", url, "--runs-dir", smoke.path.parent)[0] == 2


def test_a_run_without_a_policy_of_its_own_or_without_a_token_is_refused(call, smoke, tmp_path):
    code, _, err = call("serve", "nobody", "--runs-dir", smoke.path.parent, "--directory", tmp_path / "x")
    assert code == 2 and "nobody" in err and not (tmp_path / "x").exists()
    with pytest.raises(ConfigError, match="no admin token"):
        promoting.admin_token(None)


def ledger(tmp_path, best="step-000002"):
    return SimpleNamespace(
        notes={"guard": [{"iteration": 2}]},
        best=best,
        checkpoints=tmp_path,
        name=lambda n: f"step-{n:06d}",
        warnings=[],
        warn=lambda lines: None,
        settle=lambda: None,
    )


def live(monkeypatch, made, every=1):
    sent, said = [], []
    promotion = LivePromotion(ServingConfig(to="http://x", every=every), made, "r", said.append, lambda i, t: None)
    promotion._promote = lambda commit, iteration: sent.append(commit.name) or {"model": "tuned@2", "state": "active"}
    return promotion, sent, said


def test_a_run_promotes_a_commit_that_is_the_best_on_dev_and_no_other(monkeypatch, tmp_path):
    promotion, sent, said = live(monkeypatch, ledger(tmp_path))
    promotion.committed(1)  # not evaluated
    promotion.committed(2)
    promotion.committed(2)  # not due again
    assert sent == ["step-000002"] and said == ["iteration 2: tuned@2 is active on http://x"]
    promotion, sent, _ = live(monkeypatch, ledger(tmp_path, best="step-000001"))
    promotion.committed(2)
    assert sent == []


def test_a_run_goes_on_when_its_promotion_is_refused(monkeypatch, tmp_path):
    promotion, _, said = live(monkeypatch, ledger(tmp_path))
    del promotion._promote
    promotion.committed(2)
    assert said[0].startswith("iteration 2: not promoted: no admin token")


def test_a_run_promotes_itself_on_a_live_server(burnish, smoke, url, place):
    child = burnish("smoke", "--from", smoke.id, "--seed", "1", "--grpo.iterations", "2", "--evaluation.every", "1",
                    "--serving.to", url, "--serving.every", "1", "--serving.canary", "0.5",
                    "--serving.token_file", str(place / "admin.token"), runs=smoke.path.parent)  # fmt: skip
    assert child.wait() == 0 and "on http://127.0.0.1" in child.text, child.text
    found = [event for event in Store(place).events() if event["event"] == "canary"]
    versions = Store(place).read().lines["tuned"].versions
    assert found and versions[found[0]["version"]].lineage["run"] == child.run.id


@pytest.fixture
def tracked(smoke, tmp_path):
    """A copy of the smoke run that has an MLflow run of its own, and a client of that MLflow."""
    shutil.copytree(smoke.path, tmp_path / "runs" / smoke.id)
    run = RunStore(tmp_path / "runs").open(smoke.id)
    config = (run.path / "config.yaml").read_text()
    (run.path / "config.yaml").write_text(config.replace("  enabled: false\n  uri", "  enabled: true\n  uri"))
    sink = MlflowSink(TrackingConfig(), runs_dir=tmp_path / "runs", run_id=run.id, mlflow_run_id=None, params={})
    return RunStore(tmp_path / "runs").open(run.update(mlflow_run_id=sink.mlflow_run_id).id), mlflow.MlflowClient(
        f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}"
    )


def tags_of(run, client):
    return client.get_run(run.info.mlflow_run_id).data.tags


def test_a_rollback_and_its_reason_reach_mlflow(tracked):
    run, client = tracked
    why = "canary score -0.3 is worse than -0.2 (8 examples)"
    serving.tag_event(run, {"event": "rolled_back", "policy": "tuned", "version": 2, "reason": why})
    tags = tags_of(run, client)
    assert tags["serve.tuned.2"] == tags["serve.last_event"] == f"tuned@2 rolled_back: {why}"


def spoilt(run, folder):
    """A snapshot of the run whose adapter is forty times too strong, sound in every other way."""
    chosen = choose_policy(run, "last")
    start = load_start(chosen.base, chosen.recipe.grpo.trained_adapter)
    state = {name: 40 * array for name, array in chosen.weights()[1].items()}
    import_state(start.policy.module, state)
    save_adapter(start.policy.module, folder / "adapter")
    record = json.loads((chosen.checkpoint / "snapshot.json").read_text())
    (folder / "snapshot.json").write_text(json.dumps(record | {"policy_digest": policy_digest(start.base, state)}))
    return folder


def test_a_served_canary_that_scores_worse_goes_back_by_itself_and_mlflow_hears_why(tracked, ports, tmp_path):
    (run, mlflow_client), port = tracked, ports()
    command = [sys.executable, "-m", "burnish.platform.cli", "serve", run.id, "--runs-dir", str(run.path.parent)]
    command += ["--directory", str(tmp_path / "server"), "--port", str(port), "--executor", "local"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: requests.get(f"{url}/readyz", timeout=5).status_code == 200)
        admin = Client(url, token=Store(tmp_path / "server").token("admin"))
        bad = spoilt(run, tmp_path / "bad")
        assert admin.promote(bad, policy="tuned", canary=0.5, lineage={})["state"] == "canary"
        until(lambda: "rolled_back" in tags_of(run, mlflow_client).get("serve.tuned.2", ""))
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)
    assert "canary score" in tags_of(run, mlflow_client)["serve.tuned.2"]
    assert Store(tmp_path / "server").read().choose("tuned").name == "tuned@1"


def until(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while True:
        with suppress(requests.RequestException):
            if condition():
                return
        assert time.monotonic() < end
        time.sleep(0.2)
