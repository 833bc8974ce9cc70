"""A thin client of a burnish server. Retries are safe: every request carries an idempotency key.

For scripts and for `burnish promote`. It follows no redirect and reads JSON only.
"""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from burnish.data.errors import ConfigError, InfrastructureError, Problem
from burnish.serve.schema import HEADER_IDEMPOTENCY

RETRIED = (429, 503)
MAX_PAUSE = 60.0
"""Seconds, the most that a reply is obeyed in waiting."""


@dataclass(frozen=True, eq=False)
class Refined:
    """Encoded pictures, one a sample, and the reply they came with (`schema.RefineReply` without `images`)."""

    images: tuple[bytes, ...]
    reply: Mapping[str, Any]


class Client:
    """Talks to a server.

    Args:
        url: where it listens.
        token: the users' or the admin token, or None.
        tries: how often a request is sent before it fails.
        timeout: seconds that one try may take.
    """

    def __init__(self, url: str, *, token: str | None = None, tries: int = 6, timeout: float = 150.0) -> None:
        self._url, self._tries, self._timeout = url.rstrip("/"), tries, timeout
        self._session = requests.Session()
        self._session.trust_env = False
        if token is not None:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def refine(
        self,
        image: bytes,
        *,
        mask: bytes | None = None,
        box: Sequence[int] | None = None,
        references: Sequence[tuple[str, bytes]] = (),
        key: str | None = None,
        **options: Any,
    ) -> Refined:
        """Refine a picture.

        Args:
            image, mask: encoded pictures.
            box: x1, y1, x2, y2 in place of a mask.
            references: (kind, encoded picture).
            key: idempotency key; None draws one, the same for all tries.
            options: other fields of `schema.RefineRequest`.

        Raises:
            ConfigError: the server refuses it; every problem.
            InfrastructureError: no answer after all tries.
        """
        tree: dict[str, Any] = {"image": _text(image), **options}
        if mask is not None:
            tree["mask"] = _text(mask)
        if box is not None:
            tree["box"] = list(box)
        if references:
            tree["references"] = [{"kind": kind, "image": _text(payload)} for kind, payload in references]
        headers = {HEADER_IDEMPOTENCY: key or uuid.uuid4().hex, "Content-Type": "application/json"}
        reply = self._ask("POST", "/v1/refine", fields=("images",), data=json.dumps(tree).encode(), headers=headers)
        images = tuple(base64.b64decode(entry["b64"]) for entry in reply.pop("images"))
        return Refined(images, reply)

    def policies(self) -> list[dict[str, Any]]:
        """Policies and their versions."""
        return self._ask("GET", "/v1/policies", fields=("policies",))["policies"]

    def feedback(self, request_id: str, verdict: str) -> None:
        """Say "better" or "worse" of an answer."""
        self._post("/v1/feedback", {"request_id": request_id, "verdict": verdict})

    def promote(
        self, snapshot: Path, *, policy: str, canary: float = 0.0, lineage: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Upload the adapter of a snapshot's directory and take it live; needs the admin token."""
        file = snapshot / "adapter" / "pytorch_lora_weights.safetensors"
        if not file.is_file():
            problem = Problem("snapshot", "no adapter: all weights were trained", "start a server with these weights")
            raise ConfigError("only adapters are promoted", [problem])
        options = {"policy": policy, "canary": canary, "lineage": dict(lineage)}
        headers = {
            "x-burnish-options": _text(json.dumps(options).encode()),
            "x-burnish-snapshot": _text((snapshot / "snapshot.json").read_bytes()),
            "Content-Type": "application/octet-stream",
        }
        with file.open("rb") as stream:
            fields = ("model", "state", "digest")
            return self._ask("POST", "/v1/admin/promote", fields=fields, data=stream, headers=headers, tries=1)

    def rollback(self, *, policy: str | None = None, reason: str = "asked for") -> dict[str, Any]:
        """Give up a canary, or go back to the version before; needs the admin token."""
        return self._post("/v1/admin/rollback", {"policy": policy, "reason": reason}, "rolled_back", "model")

    def _post(self, path: str, tree: Mapping[str, Any], *fields: str) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        return self._ask("POST", path, fields=fields, data=json.dumps(tree).encode(), headers=headers, tries=1)

    def _ask(
        self, method: str, path: str, *, fields: Sequence[str] = (), tries: int | None = None, **request: Any
    ) -> dict[str, Any]:
        left, why = tries or self._tries, ""
        while left:
            left -= 1
            try:
                reply = self._session.request(
                    method, self._url + path, timeout=(5.0, self._timeout), allow_redirects=False, **request
                )
            except requests.RequestException as error:
                why, pause = type(error).__name__, 1.0
            else:
                if reply.status_code not in RETRIED:
                    return _tree(reply, fields)
                why, pause = f"status {reply.status_code}", _pause(reply)
            if left:
                time.sleep(pause)
        raise InfrastructureError(f"{self._url} did not answer: {why}")


def _text(payload: bytes) -> str:
    return base64.b64encode(payload).decode()


def _pause(reply: requests.Response) -> float:
    """Seconds that a reply asks to wait; 1 where it says nothing, or a date as proxies may."""
    text = reply.headers.get("retry-after", "")
    return min(float(text), MAX_PAUSE) if text.isdigit() else 1.0


def _tree(reply: requests.Response, fields: Sequence[str]) -> dict[str, Any]:
    """The body of a reply, with these fields at least."""
    try:
        tree = reply.json()
        if reply.status_code < 300:
            return {**tree, **{name: tree[name] for name in fields}}
        error = tree["error"]
        problems = [Problem(**problem) for problem in error["problems"]]
        message = str(error["message"])
    except (ValueError, KeyError, TypeError) as wrong:
        raise InfrastructureError(f"no server of burnish answers: status {reply.status_code}") from wrong
    if reply.status_code >= 500:
        raise InfrastructureError(message, problems)
    raise ConfigError(message, problems)
