"""A desk that knows two rewards, and takes changes through the states that it is told to."""

from dataclasses import dataclass, field

from burnish.data.errors import ConfigError, Problem

REWARDS = [
    {"name": "pixels", "kind": "masked_pixel", "weight": 1.0, "gold": False, "version": 1, "digest": "a" * 64},
    {"name": "outside", "kind": "outside_preservation", "weight": 0.3, "gold": True, "version": 2, "digest": "b" * 64},
]


@dataclass
class FakeDesk:
    """Every look at a change moves it one state further."""

    states: tuple[str, ...] = ("queued", "preparing", "active")
    reason: str = ""
    known: tuple[str, ...] = ("pixels", "outside")
    changes: list = field(default_factory=list)
    looks: int = 0

    def submit(self, change):
        """Refuse an unknown reward, else take it."""
        if change.name == "boom":
            raise KeyError("secret of the desk")
        if change.name and change.name not in self.known:
            problems = [Problem("name", change.name, "pixels, outside"), Problem("why", change.why, "a reason")]
            raise ConfigError("the change is refused", problems)
        self.changes.append(change)
        return f"c{len(self.changes)}"

    def status(self):
        """As the real one's."""
        rubric = {"version": 3, "digest": "c" * 64}
        rewards = [{**reward, "state": "active"} for reward in REWARDS]
        changes = [self._entry(i) for i in range(len(self.changes))]
        return {"run": "r", "iteration": 7, "rubric": rubric, "rewards": rewards, "shadows": [], "changes": changes}

    def change(self, change_id):
        """The change in its next state."""
        if change_id not in [f"c{i + 1}" for i in range(len(self.changes))]:
            return None
        self.looks += 1
        return self._entry(int(change_id[1:]) - 1)

    def _entry(self, index):
        state = self.states[min(self.looks, len(self.states)) - 1]
        reason = self.reason if state == "refused" else ""
        iteration = 9 if state == "active" else None
        found = {"id": f"c{index + 1}", "state": state, "reason": reason, "iteration": iteration, "requested": "now"}
        return {**found, **self.changes[index].to_json()}
