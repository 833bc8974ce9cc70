"""The directory of a server: `state.json`, `events.jsonl`, `requests.jsonl`, and the versions that were promoted.

One process writes it; replicas read `state.json` when they start. It is all that a restart needs.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import time
from collections.abc import Mapping
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from burnish.data.errors import CheckpointError, ConfigError, Problem
from burnish.serve.hosts import LOOPBACK, host_name
from burnish.serve.schema import MAX_INPUT
from burnish.serve.versions import FORMAT_VERSION, Versions

STATE, EVENTS, REQUESTS = "state.json", "events.jsonl", "requests.jsonl"
MIN_TOKEN = 16
"""Characters of a token, at least."""
_LOG_BYTES = 16 << 20


class ServeConfig(BaseModel):
    """How a server behaves. Plain values: it travels to every replica, and stands in a declarative Serve config."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    directory: str = Field(description="the server's directory, which every replica can read")
    replicas: int = Field(default=1, description="processes that hold the policies", ge=1, le=256)
    batch: int = Field(
        default=1, description="rows of every forward; 1 gives the bytes of `burnish refine`", ge=1, le=64
    )
    queue: int = Field(default=16, description="requests in work or waiting; more get 429", ge=1, le=1024)
    max_seconds: float = Field(default=120.0, description="seconds a request may take", gt=0.0)
    tolerance: float = Field(default=0.02, description="relative loss of canary score that is forgiven", ge=0.0)
    feedback: str | None = Field(default=None, description="directory for feedback; null = no feedback")
    feedback_bytes: int = Field(default=1 << 30, description="bytes that feedback may fill", ge=1 << 20)
    hosts: tuple[str, ...] = Field(
        default=LOOPBACK,
        description="names that a request's Host may have, with any port; others than loopback need a user token",
    )
    promote_bytes: int = Field(default=1 << 30, description="bytes of a promoted adapter", ge=1 << 10)
    input_pixels: int = Field(
        default=MAX_INPUT, description="pixels of all pictures of a request, by their headers", ge=1 << 10
    )
    cpus: float = Field(default=1.0, description="CPUs that Ray reserves for a replica", ge=0.0)
    gpus: float = Field(default=0.0, description="GPUs that Ray reserves for a replica", ge=0.0)

    @field_validator("hosts")
    @classmethod
    def _named(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not host_name(host):
                raise ValueError(f"got {host!r}, allowed a host name, with its port or without")
        return tuple(map(host_name, hosts))


class Store:
    """Reads and writes a server's directory.

    Args:
        directory: it exists.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def read(self) -> Versions:
        """The versions as they were last written.

        Raises:
            CheckpointError: no state, or one of another format.
        """
        file = self.directory / STATE
        try:
            tree = json.loads(file.read_text())
            if tree["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format_version {tree['format_version']}")
            return Versions.from_json(tree)
        except (OSError, ValueError, KeyError, TypeError) as error:
            problem = Problem(str(file), str(error)[:120], f"the state of a server, format {FORMAT_VERSION}")
            raise CheckpointError("no server's directory", [problem]) from error

    def write(self, versions: Versions) -> None:
        """All of it or nothing, on disk before it returns."""
        aside = self.directory / f".{STATE}.{os.getpid()}"
        with aside.open("w") as stream:
            json.dump(versions.to_json(), stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        aside.rename(self.directory / STATE)

    def event(self, kind: str, **details: Any) -> dict[str, Any]:
        """Append what happened to a version; returns the entry."""
        entry = {"time": round(time.time(), 3), "event": kind, **details}
        with (self.directory / EVENTS).open("a") as stream:
            stream.write(json.dumps(entry) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        return entry

    def events(self) -> list[dict[str, Any]]:
        """All events, oldest first; a line that is being written is left out."""
        file = self.directory / EVENTS
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def token(self, name: str) -> str:
        """A secret of this server, made on first use, in a file that only this user can read.

        Raises:
            ConfigError: what stands there is too short for a secret, or nothing at all.
        """
        file = self.directory / f"{name}.token"
        if not file.exists():
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w") as stream:
                stream.write(secrets.token_urlsafe(32))
        return strong(file.read_text().strip(), str(file))


def strong(token: str, where: str) -> str:
    """A token that may guard a route.

    Raises:
        ConfigError: it is shorter than `MIN_TOKEN`, for example cut off or empty.
    """
    if len(token) < MIN_TOKEN:
        hint = "write one, or delete the file for a new admin token"
        raise ConfigError("token refused", [Problem(where, f"{len(token)} characters", f"at least {MIN_TOKEN}", hint)])
    return token


class RequestLog:
    """One JSON line a request, in a file that is cut at 16 MiB."""

    def __init__(self, directory: Path) -> None:
        self._handler = RotatingFileHandler(directory / REQUESTS, maxBytes=_LOG_BYTES, backupCount=1, delay=True)

    def write(self, entry: Mapping[str, Any]) -> None:
        """Append an entry."""
        text = json.dumps({"time": round(time.time(), 3), **entry})
        self._handler.emit(logging.LogRecord("serve", logging.INFO, "", 0, text, None, None))

    def close(self) -> None:
        """Close the file."""
        self._handler.close()
