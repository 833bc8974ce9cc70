"""Sections of a recipe that belong to no room: where updates run, when state is committed, what a run puts up with.

Read by `config.py`, which puts the recipe together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.config import JsonDict

from burnish.learners.engine import EngineConfig

_MODEL = ConfigDict(frozen=True, extra="forbid", strict=True)
_RUN_OPTION: JsonDict = {"run_option": True}
_SECRETS = ("key", "secret", "token", "password", "credential", "credentials", "connection_string")


class LearnersConfig(BaseModel):
    """Where the update is computed."""

    model_config = _MODEL

    engine: EngineConfig = Field(default=EngineConfig(), description="DeepSpeed or plain torch")
    deadline: float = Field(
        default=3600.0,
        description="seconds after which an update, or a block of fine-tuning steps, counts as hung",
        gt=0.0,
        json_schema_extra=_RUN_OPTION,
    )
    ranks: int = Field(
        default=1,
        description="learner processes; another number changes results by about 1e-6, and no byte with the "
        "reproducible reduction",
        ge=1,
    )
    num_cpus: float = Field(default=1.0, description="CPUs each of them takes", ge=0, json_schema_extra=_RUN_OPTION)
    num_gpus: float = Field(
        default=0.0, description="share of a GPU each of them takes", ge=0, json_schema_extra=_RUN_OPTION
    )
    resources: dict[str, float] = Field(
        default={}, description="Ray's custom resources each of them takes", json_schema_extra=_RUN_OPTION
    )


class CheckpointConfig(BaseModel):
    """How often the run's state is committed, and how long it is kept."""

    model_config = _MODEL

    every: int = Field(
        default=1,
        description="GRPO iterations between commits; the last one is committed anyway",
        ge=1,
        json_schema_extra=_RUN_OPTION,
    )
    keep_last: int = Field(
        default=2,
        description="newest commits that stay beside the best, >= 2: one to fall back to",
        ge=2,
        json_schema_extra=_RUN_OPTION,
    )
    mirror: str | None = Field(
        default=None,
        description="fsspec URL below which each commit is kept a second time, for example s3://bucket/runs; "
        "--resume brings a run back from it",
        json_schema_extra=_RUN_OPTION,
    )
    mirror_options: dict[str, Any] = Field(
        default={},
        description="what fsspec's file system of that URL takes, for example {endpoint_url: …}; no secrets",
        json_schema_extra=_RUN_OPTION,
    )

    @field_validator("mirror")
    @classmethod
    def _no_password(cls, url: str | None) -> str | None:
        if url is not None and urlsplit(url).password is not None:
            raise ValueError("got a password, allowed a URL without secrets; they belong into the environment")
        return url

    @field_validator("mirror_options")
    @classmethod
    def _no_secrets(cls, options: dict[str, Any]) -> dict[str, Any]:
        if named := sorted(_secret_names(options)):
            raise ValueError(
                f"got {', '.join(named)}, allowed options without secrets; they belong into the environment"
            )
        return options


def _secret_names(options: Mapping[str, Any]) -> set[str]:
    """Names of options, at any depth, that end as a credential's name does."""
    nested = [_secret_names(value) for value in options.values() if isinstance(value, Mapping)]
    return {name for name in options if name.lower().endswith(_SECRETS)}.union(*nested)


class ClusterConfig(BaseModel):
    """What a run puts up with before it stops with exit code 4; read where it runs on Ray."""

    model_config = _MODEL

    resend_budget: int = Field(
        default=64, description="calls that may be sent again after a worker, a node or an object was lost", ge=0
    )
    restarts: int = Field(
        default=3, description="how often a stage rebuilds a lost learner gang from the last commit", ge=0
    )
    autoscaled: bool = Field(
        default=False,
        description="the cluster adds nodes when they are asked for: roles that find no place yet are waited for, and "
        "only a kind of resource that no node has is refused",
    )
    wait_for_nodes: float = Field(
        default=0.0,
        description="seconds that a run which joins a cluster waits for nodes that its roles need and that have not "
        "joined yet: a launcher starts them after the head; 0 = refused at once",
        ge=0,
        allow_inf_nan=False,
    )
