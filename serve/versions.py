"""Which policies are served, in which versions, and which of them answers the next request.

Plain state without locks or clocks of its own: one process owns it, changes it between two requests and writes it to
`state.json`. A version is chosen once a request; whatever the request does later, it does with that one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from burnish.data.errors import Problem
from burnish.serve.refusal import Refusal, invalid

FORMAT_VERSION = 1
HELD = 1
"""How many versions before the active one stay loaded for a rollback."""


@dataclass(frozen=True)
class ServedVersion:
    """One version of a policy, never changed.

    Args:
        policy: name.
        number: 1, 2, 3, ...; never used twice under one name.
        digest: sha256 of the weights (`policies/snapshot.py`).
        snapshot: directory with `snapshot.json` and `adapter/`.
        base: directory of the base.
        adapted: False: the base alone, without the snapshot's adapter.
        lineage: run, checkpoint, iterations, where known.
    """

    policy: str
    number: int
    digest: str
    snapshot: str
    base: str
    adapted: bool = True
    lineage: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """NAME@VERSION."""
        return f"{self.policy}@{self.number}"


@dataclass
class Standing:
    """What has become of a version: its state (see `schema.VersionOut`), canary score, since when and why."""

    state: str
    since: float
    reason: str = ""
    score: float | None = None


@dataclass
class Line:
    """All versions of one policy, oldest first."""

    versions: dict[int, ServedVersion] = field(default_factory=dict)
    standings: dict[int, Standing] = field(default_factory=dict)
    share: float = 0.0
    asked: int = 0

    def find(self, state: str) -> list[int]:
        """Numbers of the versions in a state, oldest first."""
        return [number for number, standing in self.standings.items() if standing.state == state]

    @property
    def active(self) -> int:
        """The version that serves."""
        return self.find("active")[0]

    @property
    def canary(self) -> int | None:
        """The version on trial."""
        return next(iter(self.find("canary")), None)


class Versions:
    """The state of a server.

    Args:
        default: the policy that answers where none is named.
    """

    def __init__(self, default: str) -> None:
        self.default = default
        self.lines: dict[str, Line] = {}

    def choose(self, model: str | None) -> ServedVersion:
        """The version that answers a request; every call counts towards the canary's share.

        Args:
            model: NAME, NAME@VERSION or None.

        Raises:
            Refusal: 422, no such policy, or a version that is not loaded.
        """
        name, _, pin = (model or self.default).partition("@")
        line = self.lines.get(name)
        if line is None:
            raise invalid(Problem("model", repr(model), ", ".join(self.lines)))
        if pin:
            number = int(pin)
            if number not in line.standings or line.standings[number].state in ("retired", "refused"):
                loaded = [v.name for v in self.loaded() if v.policy == name]
                raise invalid(Problem("model", repr(model), ", ".join(loaded)))
            return line.versions[number]
        return line.versions[self._number(line)]

    def _number(self, line: Line) -> int:
        """Spread evenly: of any hundred requests in a row, the canary gets its share to within one."""
        if line.canary is None:
            return line.active
        line.asked += 1
        trial = int(line.asked * line.share) > int((line.asked - 1) * line.share)
        return line.canary if trial else line.active

    def line(self, policy: str | None) -> Line:
        """Raises: Refusal 422, no such policy."""
        name = policy or self.default
        if name not in self.lines:
            raise invalid(Problem("policy", repr(policy), ", ".join(self.lines)))
        return self.lines[name]

    def next_number(self, policy: str) -> int:
        """The number of the policy's next version."""
        return max(self.lines[policy].versions, default=0) + 1 if policy in self.lines else 1

    def enter(self, version: ServedVersion, *, now: float, state: str, share: float = 0.0, reason: str = "") -> None:
        """Take in a version that every replica holds, as "active" (a promotion) or as "canary"."""
        line = self.lines.setdefault(version.policy, Line())
        if state == "active" and line.find("active"):
            self._step_down(line, now)
        line.versions[version.number] = version
        line.standings[version.number] = Standing(state, now, reason)
        line.share, line.asked = share, 0

    def _step_down(self, line: Line, now: float) -> None:
        line.standings[line.active] = Standing("held", now, "an other version took its place")
        for number in line.find("held")[:-HELD]:
            line.standings[number] = Standing("retired", now, "too old to be rolled back to")

    def accept(self, policy: str, *, now: float, reason: str) -> ServedVersion:
        """The canary becomes the active version."""
        line = self.lines[policy]
        number = line.canary
        if number is None:
            raise Refusal(
                409, "no_canary", "the policy has no canary", [Problem("policy", policy, "one with a canary")]
            )
        score = line.standings[number].score
        self._step_down(line, now)
        line.standings[number] = Standing("active", now, reason, score)
        return line.versions[number]

    def roll_back(self, policy: str, *, now: float, reason: str) -> tuple[ServedVersion, ServedVersion]:
        """(given up, serving now): a canary is given up, else the version before the active one returns.

        Raises:
            Refusal: 409, there is neither.
        """
        line = self.lines[policy]
        number, held = line.canary, line.find("held")
        if number is None and not held:
            raise Refusal(
                409, "nothing_to_roll_back", "no version to go back to", [Problem("policy", policy, "two versions")]
            )
        if number is None:
            number = line.active
            line.standings[held[-1]] = Standing("active", now, f"rolled back to: {reason}")
        line.standings[number] = Standing("refused", now, reason, line.standings[number].score)
        return line.versions[number], line.versions[line.active]

    def loaded(self) -> list[ServedVersion]:
        """Versions that replicas hold."""
        states = ("active", "canary", "held")
        return [v for line in self.lines.values() for v in line.versions.values() if self.state(v) in states]

    def needed(self, *, since: float) -> list[ServedVersion]:
        """Versions whose files may still be read: those loaded, and those given up after a moment (Unix time)."""
        every = [v for line in self.lines.values() for v in line.versions.values()]
        return self.loaded() + [v for v in every if self.lines[v.policy].standings[v.number].since >= since]

    def state(self, version: ServedVersion) -> str:
        """State of a version."""
        return self.lines[version.policy].standings[version.number].state

    def to_json(self) -> dict[str, Any]:
        """For `state.json`."""
        lines = {
            name: {
                "versions": [asdict(v) | {"lineage": dict(v.lineage)} for v in line.versions.values()],
                "standings": {str(n): vars(s) for n, s in line.standings.items()},
                "share": line.share,
            }
            for name, line in self.lines.items()
        }
        return {"format_version": FORMAT_VERSION, "default": self.default, "policies": lines}

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Versions:
        """What `to_json` wrote."""
        made = cls(tree["default"])
        for name, kept in tree["policies"].items():
            versions = [ServedVersion(**entry) for entry in kept["versions"]]
            standings = {int(n): Standing(**s) for n, s in kept["standings"].items()}
            made.lines[name] = Line({v.number: v for v in versions}, standings, kept["share"])
        return made
