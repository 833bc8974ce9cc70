"""An exported policy as a version in MLflow's model registry, with where it came from.

Called by `cli_results.py` after an export. The registry holds names, tags and the place of the files, never a second
copy of them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from burnish.data.errors import ConfigError, InfrastructureError, Problem
from burnish.platform.config import load_recipe
from burnish.platform.exporting import Exported
from burnish.platform.mlflow_sink import MAX_TAG, MlflowSink, TrackingConfig
from burnish.platform.runs import CONFIG, Run

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Registered:
    """A version in the registry: its model's name and its number there."""

    name: str
    version: str


def check(run: Run, name: str) -> TrackingConfig:
    """Where a run's exports are registered.

    Raises:
        ConfigError: a name other than `[a-z0-9][a-z0-9._-]{0,63}`, or the run's recipe turned tracking off.
    """
    tracking, problems = load_recipe(str(run.path / CONFIG)).tracking, []
    if not _NAME.fullmatch(name):
        problems.append(Problem("--register", repr(name), _NAME.pattern))
    if not tracking.enabled:
        problems.append(Problem("tracking.enabled", "false", "a run that has MLflow"))
    if problems:
        raise ConfigError("the export cannot be registered", problems)
    return tracking


def register(run: Run, exported: Exported, *, name: str) -> Registered:
    """Enter an export as the newest version of a registered model.

    Args:
        run: where it came from; its recipe says which tracking server.
        exported: what was written.
        name: of the model, made where there is none.

    Raises:
        ConfigError: see `check`.
        InfrastructureError: MLflow did not take it; the export stays.
    """
    tracking, known = check(run, name), run.info.mlflow_run_id
    place = exported.path.resolve().as_uri()
    tags = {key: text for key, text in lineage(run, exported).items() if len(text) <= MAX_TAG}
    try:
        sink = MlflowSink(tracking, runs_dir=run.path.parent, run_id=run.id, mlflow_run_id=known, params={})
        version = sink.register(name, place, tags)
        sink.leave(run.info.status)
    except Exception as error:  # of whatever type MLflow's stores raise
        raise InfrastructureError(
            f"MLflow did not register {exported.path}: {type(error).__name__}: {error}"
        ) from error
    return Registered(name, version)


def lineage(run: Run, exported: Exported) -> dict[str, str]:
    """Where an export came from, as flat text: run, recipe, weights, base, rewards, data, machine."""
    info = run.info
    snapshot = json.loads((exported.path / "snapshot.json").read_text())
    state = json.loads((run.path / "stages" / "grpo" / "checkpoints" / exported.checkpoint / "state.json").read_text())
    sources = load_recipe(str(run.path / CONFIG)).data.model_dump(mode="json")["sources"]
    return {
        "burnish.run_id": run.id,
        "burnish.checkpoint": exported.checkpoint,
        "burnish.recipe": info.recipe,
        "burnish.seed": str(info.seed),
        "burnish.config_digest": info.config_digest,
        "burnish.policy_digest": exported.policy_digest,
        "burnish.state_digest": state["state_digest"],
        "burnish.base_digest": snapshot["base_digest"],
        "burnish.family": snapshot["family"],
        "burnish.rubrics": json.dumps(state["rubrics"]),
        "burnish.sources": json.dumps(sources, sort_keys=True),
        "burnish.start_from": info.start_from or "",
        "burnish.reproducible": str(info.reproducible).lower(),
        "burnish.versions": json.dumps(dict(info.versions), sort_keys=True),
    }
