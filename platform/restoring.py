"""Bring a run back from its mirror: to a machine that never had it, or lost it.

Called by `resume.py` where a run is not in the runs directory. Every byte is checked before the run appears there; a
damaged commit is passed over for the one before.
"""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
from pathlib import Path

from burnish.data.errors import CheckpointError, Problem
from burnish.platform.bucket import Bucket, Commit, run_ids
from burnish.platform.manifest import NewerFormatError
from burnish.platform.mirror import Claim, write_claim
from burnish.platform.runs import Run, RunStore, check_run_id
from burnish.platform.sections import CheckpointConfig

RUN = "run.json"


def restore(config: CheckpointConfig, store: RunStore, run_id: str) -> Run | None:
    """A run from its mirror, in the store; None where the mirror has no such run.

    Args:
        config: where the mirror is.
        store: where the run will be.
        run_id: which run.

    Raises:
        ConfigError: a bad run id, or a URL that fsspec does not know.
        CheckpointError: no commit of it is whole; NewerFormatError where a newer burnish wrote the newest.
        InfrastructureError: the mirror cannot be reached.
    """
    assert config.mirror is not None
    bucket, problems = Bucket(config.mirror, config.mirror_options, check_run_id(run_id)), []
    numbers, damaged = bucket.commits(), list[str]()
    for number in reversed(numbers):
        try:
            return _bring(bucket, bucket.read(number), store, run_id, newest=numbers[-1], damaged=damaged)
        except NewerFormatError:  # nothing falls back past what it cannot read
            raise
        except CheckpointError as error:
            problems += error.problems
    if problems:
        raise CheckpointError(f"no whole commit of {run_id} in the mirror", problems)
    return None


def newest_unfinished(config: CheckpointConfig, recipe: str | None, seed: int | None) -> str | None:
    """The newest run in the mirror that is not done, for `--resume auto`; None if there is none."""
    assert config.mirror is not None
    found = []
    for run_id in run_ids(config.mirror, config.mirror_options):
        info = _info(Bucket(config.mirror, config.mirror_options, run_id))
        fits = recipe in (None, info.get("recipe")) and seed in (None, info.get("seed"))
        if info.get("id") == run_id and fits and info["status"] != "done":
            found.append((info["created"], run_id))
    return max(found)[1] if found else None


def _info(bucket: Bucket) -> dict[str, str]:
    """run.json of the newest commit that has a sound one; empty where none has."""
    for number in reversed(bucket.commits()):
        with tempfile.TemporaryDirectory() as folder:
            try:
                bucket.fetch(bucket.read(number).files[RUN], Path(folder) / RUN)
                return json.loads((Path(folder) / RUN).read_text())
            except (CheckpointError, KeyError, ValueError):
                continue
    return {}


def _bring(bucket: Bucket, commit: Commit, store: RunStore, run_id: str, *, newest: int, damaged: list[str]) -> Run:
    """A commit's files as a run of the store, which goes on behind the newest number there, sound or not.

    Files that turn out to be damaged are added to `damaged`; the run's mirror sends those anew.
    """
    aside = store.root / f".restored-{run_id}-{secrets.token_hex(4)}"
    try:
        for name, entry in commit.files.items():
            target = aside / name
            if not target.resolve().is_relative_to(aside.resolve()):
                raise CheckpointError("commit refused", [Problem(name, "a path outside the run", "a path below it")])
            try:
                bucket.fetch(entry, target)
            except CheckpointError:
                damaged.append(entry.sha256)
                raise
        write_claim(aside, Claim(secrets.token_hex(8), newest, tuple(damaged)))
        aside.rename(store.root / run_id)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    run = store.open(run_id)
    run.update(mlflow_run_id=None)  # found again by its tag where the tracking server still has it
    return run
