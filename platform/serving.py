"""From a run or an export to a server's directory, and the process that keeps the server up.

Called by `cli_serve.py`. Everything is verified before it is served; what happens to versions goes to MLflow too.
"""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from burnish.data.errors import CheckpointError, ConfigError, Problem
from burnish.data.sources import make_source
from burnish.platform.commands import choose_policy
from burnish.platform.config import load_recipe
from burnish.platform.manifest import load_verified
from burnish.platform.runs import CONFIG, Run, RunStore
from burnish.platform.start_from import BASE
from burnish.policies.refiner import load_refiner, read_snapshot
from burnish.policies.snapshot import ADAPTER_FILE, WEIGHTS_FILE, adapted_digest

PROBES = 8
"""Canary examples of a server, from the run's dev split."""
POLL_SECONDS = 1.0


def source_of(text: str, runs_dir: Path, checkpoint: str | None) -> tuple[Path, Path, dict[str, Any], Run | None]:
    """(snapshot, base, lineage, run) of a run's id or an export's path, verified.

    Raises:
        ConfigError: neither, or a run without a committed snapshot.
        CheckpointError: damaged.
    """
    path = Path(text)
    if (path / "snapshot.json").is_file():
        load_verified(path)
        return path.resolve(), (path / BASE).resolve(), {"snapshot": path.name}, None
    run = RunStore(runs_dir).open(text)
    chosen = choose_policy(run, checkpoint)
    if chosen.checkpoint is None:
        raise ConfigError("nothing to serve", [Problem("RUN", run.id, "a run with a checkpoint of its grpo stage")])
    lineage = {"run": run.id, "checkpoint": chosen.name}
    return chosen.checkpoint.resolve(), chosen.base.resolve(), lineage, run


def prepare(directory: Path, *, source: str, runs_dir: Path, checkpoint: str | None, name: str) -> Run | None:
    """Make a server's directory; one that is there goes on with its own versions, whatever `source` says.

    Args:
        directory: the server's.
        source: a run's id, or an export's path.
        runs_dir: where runs are.
        checkpoint: best, last or a commit's name, None = the run's result.
        name: of the policy.

    Returns:
        The run, for MLflow; None for an export, or where it is gone.

    Raises:
        ConfigError, CheckpointError: see `source_of`.
    """
    from burnish.serve.probe import write_probe
    from burnish.serve.store import STATE, Store
    from burnish.serve.versions import ServedVersion, Versions

    if (directory / STATE).exists():
        with suppress(ConfigError):
            return RunStore(runs_dir).open(source)
        return None
    found, base, lineage, run = source_of(source, runs_dir, checkpoint)
    directory.mkdir(parents=True, exist_ok=True)
    snapshot = _keep(found, directory / "versions" / f"{name}-000001")
    versions, now = Versions(name), time.time()
    record = read_snapshot(snapshot)
    plain = adapted_digest(load_refiner(snapshot, base=base, adapted=False).policy.module)
    own = {"base_digest": record.base_digest, **lineage}
    tuned = ServedVersion(
        name, 1, digest=record.policy_digest, snapshot=str(snapshot), base=str(base), adapted=True, lineage=own
    )
    versions.enter(tuned, now=now, state="active", reason="served from the start")
    if name != BASE:
        bare = ServedVersion(BASE, 1, digest=plain, snapshot=str(snapshot), base=str(base), adapted=False, lineage=own)
        versions.enter(bare, now=now, state="active", reason="served from the start")
    if run is not None:
        recipe = load_recipe(str(run.path / CONFIG))
        dev = make_source(recipe.data, thorough=False)
        gold = [spec for spec in recipe.rewards.rewards if spec.gold]
        specs = [spec.model_dump(mode="json") for spec in gold] or [{"name": "masked_pixel", "kind": "masked_pixel"}]
        write_probe(directory, [dev.example("dev", index) for index in range(PROBES)], specs)
    Store(directory).write(versions)
    return run


def _keep(snapshot: Path, place: Path) -> Path:
    """What is served, in the server's own directory: a run that goes on prunes its commits. Returns the place."""
    shutil.rmtree(place, ignore_errors=True)
    whole = read_snapshot(snapshot).adapter is None
    for name in ("snapshot.json", WEIGHTS_FILE if whole else f"adapter/{ADAPTER_FILE}"):
        target = place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.hardlink_to(snapshot / name)  # no byte more on disk; sealed files are never written again
        except OSError:
            _copy(snapshot / name, target)
    return place


def _copy(file: Path, target: Path) -> None:
    try:
        shutil.copyfile(file, target)
    except OSError as error:
        problem = Problem(str(file), str(error), "a file", "start again: the run may have pruned this commit")
        raise CheckpointError("what is to be served cannot be read", [problem]) from error


def keep_up(directory: Path, run: Run | None, *, stop: Callable[[], None]) -> None:
    """Wait for SIGINT or SIGTERM, bringing events of versions to MLflow meanwhile; then drain."""
    from burnish.serve.store import Store

    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    store = Store(directory)
    seen = len(store.events())
    try:
        while not ended.wait(POLL_SECONDS):
            events = store.events()
            for entry in events[seen:]:
                tag_event(run, entry)
            seen = len(events)
    finally:
        stop()


def tag_event(run: Run | None, entry: dict[str, Any]) -> None:
    """Write an event as tags of the run's MLflow run, where there is one; serving never waits for MLflow's troubles."""
    from burnish.platform.console import note
    from burnish.platform.mlflow_sink import MlflowSink

    words = f"{entry['policy']}@{entry['version']} {entry['event']}: {entry.get('reason', '')}"
    note(f"serve: {words}")
    if run is None or run.info.mlflow_run_id is None:
        return
    try:
        tracking = load_recipe(str(run.path / CONFIG)).tracking
        sink = MlflowSink(
            tracking, runs_dir=run.path.parent, run_id=run.id, mlflow_run_id=run.info.mlflow_run_id, params={}
        )
        sink.tag(f"serve.{entry['policy']}.{entry['version']}", words)
        sink.tag("serve.last_event", words)
        sink.leave(run.info.status)
    except Exception as error:  # whatever MLflow's trouble is, requests go on
        note(f"serve: MLflow did not take the event: {type(error).__name__}")
