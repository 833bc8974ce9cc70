"""A run that takes its own weights live: commits that pass the evaluation gate are promoted on a server.

Called by the GRPO stage after each commit. The server decides, by its own canary, whether it takes them; whatever it
says, the run goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from burnish.data.errors import BurnishError, ConfigError, Problem

if TYPE_CHECKING:
    from burnish.platform.ledger import Ledger

ADMIN_TOKEN = "BURNISH_ADMIN_TOKEN"


class ServingConfig(BaseModel):
    """Where a run promotes its policy to while it goes on."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    to: str | None = Field(
        default=None, description="URL of a server of burnish; null = promote nothing", pattern=r"^https?://\S+$"
    )
    every: int = Field(
        default=10,
        description="least iterations between promotions; the commit must be the best on dev so far",
        ge=1,
    )
    policy: str = Field(default="tuned", description="name on the server", pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    canary: float = Field(default=0.0, description="share of requests to try it on; 0 = switch at once", ge=0.0, lt=1.0)
    token_file: str | None = Field(
        default=None, description=f"the server's admin.token; null = the variable {ADMIN_TOKEN}"
    )


def read_token(file: Path) -> str:
    """A token in a file.

    Raises:
        ConfigError: the file is not readable.
    """
    try:
        return file.read_text().strip()
    except OSError as error:
        raise ConfigError("option refused", [Problem("token_file", str(file), "a readable file")]) from error


def admin_token(file: Path | None) -> str:
    """A server's admin token.

    Raises:
        ConfigError: the file is not readable, or there is neither file nor variable.
    """
    if file is not None:
        return read_token(file)
    token = os.environ.get(ADMIN_TOKEN, "")
    if not token:
        raise ConfigError("no admin token", [Problem("token_file", "nothing", f"a file, or {ADMIN_TOKEN}")])
    return token


@dataclass(eq=False)
class LivePromotion:
    """Promotes commits of a stage.

    Args:
        config: where to, and how often.
        ledger: of the stage; says which commit is the best.
        run_id: goes into the version's lineage.
        say: shows a line.
        event: remembers what happened at an iteration.
        last: iteration of the latest try, 0 = none.
    """

    config: ServingConfig
    ledger: Ledger
    run_id: str
    say: Callable[[str], None]
    event: Callable[[int, str], None]
    last: int = 0

    def committed(self, iteration: int) -> None:
        """Promote the commit of an iteration, where it is due and has passed the gate."""
        if self.config.to is None or iteration - self.last < self.config.every or not self._passed(iteration):
            return
        self.last = iteration
        self.ledger.settle()  # a disk that refuses, or a lost learner, is the run's trouble and not the promotion's
        try:
            found = self._promote(self.ledger.checkpoints / self.ledger.name(iteration), iteration)
            text = f"{found['model']} is {found['state']} on {self.config.to}"
        except BurnishError as error:
            why = "; ".join(map(str, error.problems))
            text = f"not promoted: {error.message}" + (f" ({why})" if why else "")
            self.ledger.warn([f"iteration {iteration}: {text}"])
        self.say(f"iteration {iteration}: {text}")
        self.event(iteration, text[:200])

    def _passed(self, iteration: int) -> bool:
        """Evaluated on dev at this iteration and the best so far: committed whatever `checkpoints.every` says."""
        history = self.ledger.notes.get("guard", [])
        evaluated = bool(history) and history[-1]["iteration"] == iteration
        return evaluated and self.ledger.best == self.ledger.name(iteration) and not self.ledger.notes.get("ended")

    def _promote(self, commit: Path, iteration: int) -> dict[str, Any]:
        from burnish.serve.client import Client

        config = self.config
        token = admin_token(None if config.token_file is None else Path(config.token_file))
        lineage = {"run": self.run_id, "checkpoint": commit.name, "iterations": iteration}
        return Client(str(config.to), token=token).promote(
            commit, policy=config.policy, canary=config.canary, lineage=lineage
        )
