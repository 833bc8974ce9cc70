"""The rubrics of a run, one after another: pure records of what held from which iteration on, and why.

A change is a journal line of kind "rubric", written before it is obeyed; the lines of a journal replay the changes in
another run (`--events`). Nothing here loads a reward or asks a clock.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from burnish.data.errors import ConfigError, Problem
from burnish.data.records import RewardVersion, RubricVersion
from burnish.platform.changes import Change, change_from
from burnish.rewards.rubric import RewardSpec, RubricConfig, rubric_version

START = "start"


@dataclass(frozen=True)
class Shadow:
    """A reward that is scored beside the rubric and changes nothing.

    Args:
        spec: what it is.
        version: which reward it turned out to be.
        against: the active reward it is compared with; "" = the weighted total.
    """

    spec: RewardSpec
    version: RewardVersion
    against: str = ""


@dataclass(frozen=True)
class Pending:
    """A change that waits for its shadow to end.

    Args:
        change: what will be done.
        until: the first iteration it will hold for.
        id: the change's id.
    """

    change: Change
    until: int
    id: str = ""


@dataclass(frozen=True)
class RubricState:
    """What scores from one iteration on.

    Args:
        iteration: the first iteration it holds for.
        config: the rewards and how they are combined.
        rubric: which rubric that is.
        rewards: which rewards, in the rubric's order.
        shadows: what is scored beside it.
        pending: what happens when a shadow ends.
        action, name, why: the change that led here.
    """

    iteration: int
    config: RubricConfig
    rubric: RubricVersion
    rewards: tuple[RewardVersion, ...]
    shadows: tuple[Shadow, ...] = ()
    pending: Pending | None = None
    action: str = START
    name: str = ""
    why: str = ""

    def event(self) -> dict[str, Any]:
        """The journal's line."""
        return {
            "kind": "rubric",
            "action": self.action,
            "iteration": self.iteration,
            "name": self.name,
            "why": self.why,
            "rubric": vars(self.rubric),
            "rewards": [vars(v) for v in self.rewards],
            "config": self.config.model_dump(mode="json", include={"rewards", "aggregation"}),
            "shadows": [
                {"spec": s.spec.model_dump(mode="json"), "version": vars(s.version), "against": s.against}
                for s in self.shadows
            ],
            "pending": self.pending and {**vars(self.pending), "change": self.pending.change.to_json()},
        }


def state_from(event: Mapping[str, Any]) -> RubricState:
    """The state that a journal line of kind "rubric" records.

    Raises:
        ConfigError: the line is not one of ours.
    """
    try:
        pending = event["pending"]
        return RubricState(
            iteration=int(event["iteration"]),
            config=RubricConfig.model_validate_json(json.dumps(event["config"])),
            rubric=RubricVersion(**event["rubric"]),
            rewards=tuple(RewardVersion(**v) for v in event["rewards"]),
            shadows=tuple(_shadow(s) for s in event["shadows"]),
            pending=None if pending is None else Pending(**{**pending, "change": change_from(pending["change"])}),
            action=str(event["action"]),
            name=str(event["name"]),
            why=str(event["why"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"not a rubric event: {error}") from None


def _shadow(entry: Mapping[str, Any]) -> Shadow:
    spec = RewardSpec.model_validate_json(json.dumps(entry["spec"]))
    return Shadow(spec, RewardVersion(**entry["version"]), str(entry["against"]))


@dataclass
class RubricLog:
    """All states of a run in the order they were decided.

    Args:
        states: the first is the recipe's own rubric.
        required: reward -> the recipe's field that names it; no change may take it away.
    """

    states: list[RubricState]
    required: Mapping[str, str] = field(default_factory=dict)

    def at(self, iteration: int) -> RubricState:
        """What scores in an iteration: the newest state that holds from it or from an earlier one."""
        return [state for state in self.states if state.iteration <= iteration][-1]

    @property
    def newest(self) -> RubricState:
        """The last state decided."""
        return self.states[-1]

    def rubric_of(self, version: int) -> RubricState:
        """The state that introduced a rubric version.

        Raises:
            ConfigError: there is none.
        """
        for state in self.states:
            if state.rubric.version == version:
                return state
        known = sorted({s.rubric.version for s in self.states})
        raise ConfigError("no such rubric", [Problem("to_version", str(version), f"one of {known}")])

    def before(self) -> RubricState | None:
        """The newest state whose rubric differs from the present one's; what a rollback returns to."""
        present = self.newest.rubric.digest
        return next((s for s in reversed(self.states) if s.rubric.digest != present), None)

    def number(self, name: str, digest: str) -> RewardVersion:
        """A reward's version: a digest that was seen under the name keeps its number, a new one gets the next."""
        seen = [v for s in self.states for v in (*s.rewards, *(x.version for x in s.shadows)) if v.name == name]
        known = next((v.version for v in seen if v.digest == digest), 0)
        return RewardVersion(name, known or max((v.version for v in seen), default=0) + 1, digest)

    def next(
        self,
        iteration: int,
        config: RubricConfig,
        *,
        digests: Mapping[str, str],
        change: Change,
        shadows: Sequence[Shadow],
    ) -> RubricState:
        """The state that a change leads to; not yet part of the log.

        Args:
            iteration: the first iteration it holds for.
            config: the whole rubric after the change.
            digests: reward name -> digest, of every reward of `config`.
            change: what was asked for.
            shadows: what is scored beside it from then on.
        """
        versions = tuple(self.number(spec.name, digests[spec.name]) for spec in config.rewards)
        number = max(s.rubric.version for s in self.states) + 1
        rubric = rubric_version(config, versions, number=number)
        name = change.name or (change.spec.name if change.spec is not None else "")
        return RubricState(
            iteration, config, rubric, versions, tuple(shadows), None, change.action, name=name, why=change.why
        )

    def shadowed(
        self, iteration: int, shadows: Sequence[Shadow], change: Change, pending: Pending | None
    ) -> RubricState:
        """The state that a shadow's start or end leads to: the rubric stays what it is."""
        name = change.name or (change.spec.name if change.spec is not None else "")
        action = "shadow" if len(shadows) > len(self.newest.shadows) else "unshadow"
        return replace(
            self.newest,
            iteration=iteration,
            shadows=tuple(shadows),
            pending=pending,
            action=action,
            name=name,
            why=change.why,
        )


def read_events(path: Path) -> list[RubricState]:
    """The rubric changes of an event file: JSON lines, of which those of kind "rubric" count (a journal will do).

    Raises:
        ConfigError: no such file, or a line that is not JSON or not a rubric event; names the line.
    """
    if not path.is_file():
        raise ConfigError("cannot read the events", [Problem("--events", str(path), "a file of JSON lines")])
    return states_from(_lines(path))


def _lines(path: Path) -> Iterable[Mapping[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError("cannot read the events", [Problem(str(path), str(error), "UTF-8 text")]) from None
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            entry = json.loads(line)
        except ValueError:
            problem = Problem(f"{path}, line {number}", repr(line[:40]), "a JSON object")
            raise ConfigError("cannot read the events", [problem]) from None
        yield entry if isinstance(entry, dict) else {}


def states_from(entries: Iterable[Mapping[str, Any]]) -> list[RubricState]:
    """The states among journal entries, oldest first."""
    return [state_from(entry) for entry in entries if entry.get("kind") == "rubric"]
