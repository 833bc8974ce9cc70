"""The few MLflow calls that burnish makes, and where MLflow is.

Called by `tracking.py`, which never waits for it, and by what registers or tags a run afterwards.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

_OPTION: JsonDict = {"run_option": True}
_SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "databricks")
MAX_PARAM, MAX_TAG = 6_000, 100_000
"""Characters of a run's parameter, and of a model version's tag, that MLflow accepts."""
_PARAMS_PER_BATCH = 100
ENDED = {"done": "FINISHED", "failed": "FAILED", "interrupted": "KILLED", "paused": "KILLED"}
"""burnish's status of a run that is over -> MLflow's; a run that goes on is not here."""


class TrackingConfig(BaseModel):
    """Where the experiment tracker is. None of it changes a number of the run."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    enabled: bool = Field(
        default=True, description="log to MLflow; false = metrics.jsonl only", json_schema_extra=_OPTION
    )
    uri: str | None = Field(
        default=None,
        description="tracking URI; null = sqlite file mlflow.db beside the runs",
        json_schema_extra=_OPTION,
    )
    experiment: str = Field(
        default="burnish", description="experiment name", min_length=1, max_length=200, json_schema_extra=_OPTION
    )
    close_seconds: float = Field(
        default=30.0, description="seconds to wait for MLflow when the run ends", ge=0.0, json_schema_extra=_OPTION
    )

    @model_validator(mode="after")
    def _check_uri(self) -> TrackingConfig:
        if self.uri is None:
            return self
        parts = urlsplit(self.uri)
        if parts.scheme not in _SCHEMES:
            raise ValueError(f"uri: got {parts.scheme or 'a path'}, allowed {', '.join(_SCHEMES)} (never a file store)")
        if parts.password is not None:
            raise ValueError("uri: got a password, allowed a URI without secrets; use MLFLOW_TRACKING_PASSWORD")
        return self


class MlflowSink:
    """The few MLflow calls that a run needs. Imports mlflow when it is made; any call may raise.

    Args:
        config: tracking URI and experiment.
        runs_dir: directory of all runs; the default database and artifacts stand there.
        run_id: burnish's run id, a tag by which a restarted driver finds its MLflow run.
        mlflow_run_id: what run.json remembers, or None.
        params: flat text parameters, logged when the MLflow run is new.
    """

    def __init__(
        self,
        config: TrackingConfig,
        *,
        runs_dir: Path,
        run_id: str,
        mlflow_run_id: str | None,
        params: Mapping[str, str],
    ) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        logging.getLogger("alembic").setLevel(logging.WARNING)
        from mlflow.tracking import MlflowClient

        root = runs_dir.resolve()
        self._client = MlflowClient(tracking_uri=config.uri or f"sqlite:///{root / 'mlflow.db'}")
        experiment = self._experiment(config, root)
        known = mlflow_run_id or self._find(experiment, run_id)
        if known is not None:
            self._client.update_run(known, status="RUNNING")
        self.mlflow_run_id = known or self._new(experiment, run_id, params)

    def log(self, step: int, *, timestamp_ms: int, metrics: Mapping[str, float]) -> None:
        """Send one step's metrics in one batch."""
        from mlflow.entities import Metric

        self._client.log_batch(self.mlflow_run_id, [Metric(k, v, timestamp_ms, step) for k, v in metrics.items()])

    def tag(self, name: str, text: str) -> None:
        """Set a tag of the run."""
        self._client.set_tag(self.mlflow_run_id, name, text)

    def register(self, name: str, place: str, tags: Mapping[str, str]) -> str:
        """Enter files as a version of a registered model of this run; returns the version's number."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return str(self._client.create_model_version(name, place, self.mlflow_run_id, tags=dict(tags)).version)

    def finish(self, status: str) -> None:
        """Close the MLflow run: FINISHED, FAILED or KILLED."""
        self._client.set_terminated(self.mlflow_run_id, status)

    def leave(self, status: str) -> None:
        """Close the MLflow run again, for a visitor: what burnish's `status` says; one that goes on stays open."""
        if status in ENDED:
            self.finish(ENDED[status])

    def _experiment(self, config: TrackingConfig, root: Path) -> str:
        found = self._client.get_experiment_by_name(config.experiment)
        if found is not None:
            return found.experiment_id
        local = config.uri is None or config.uri.startswith("sqlite")
        location = (root / "mlflow-artifacts").as_uri() if local else None
        return self._client.create_experiment(config.experiment, artifact_location=location)

    def _find(self, experiment: str, run_id: str) -> str | None:
        found = self._client.search_runs([experiment], f"tags.`burnish.run_id` = '{run_id}'", max_results=1)
        return found[0].info.run_id if found else None

    def _new(self, experiment: str, run_id: str, params: Mapping[str, str]) -> str:
        from mlflow.entities import Param

        run = self._client.create_run(experiment, run_name=run_id, tags={"burnish.run_id": run_id})
        entries = [Param(key, value[:MAX_PARAM]) for key, value in params.items()]
        for start in range(0, len(entries), _PARAMS_PER_BATCH):
            self._client.log_batch(run.info.run_id, params=entries[start : start + _PARAMS_PER_BATCH])
        return run.info.run_id
