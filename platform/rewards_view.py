"""Which rubrics scored a run and why they changed, read from the run's journal alone.

Called by `burnish runs show RUN --rewards` and, where nobody drives the run, by `burnish rewards list RUN`; the texts
are in `rewards_text.py`. It changes nothing. Iterations are counted from 0, as everywhere in the journal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.platform.journal import Journal

JOURNAL = "journal.jsonl"
FINAL = ("active", "refused")
"""States that a change does not leave."""
Entry = Mapping[str, Any]


def rewards_of(run_path: Path) -> dict[str, Any]:
    """The history of a run's rewards.

    Returns:
        `rubrics`: one row an event, with the first and the last iteration that it held for (last None = nothing scored
        yet; last < first = another event overtook it), version, digest, what changed, action, name, why. `rewards` of
        the present rubric. `shadows` with their agreement. `changes` with the last state of each. `mixed`: iterations
        that were not scored by exactly the rubric that holds for them; anything there is a fault.

    Raises:
        CheckpointError: the journal is damaged.
    """
    entries = Journal(run_path / JOURNAL).tail()
    events = _of(entries, "rubric")
    scored = _scored(entries)
    return {
        "run": run_path.name,
        "iterations_scored": len(scored),
        "rubrics": _rubrics(events, max(scored, default=None)),
        "rewards": _present(events[-1]) if events else [],
        "shadows": _shadows(events, _of(entries, "shadow")),
        "changes": _changes(entries),
        "mixed": [i for i, found in sorted(scored.items()) if events and found != {_digest_at(events, i)}],
    }


def status_of(run_path: Path) -> dict[str, Any]:
    """What the control API would say if the run were driven: present rubric, rewards, shadows, changes.

    Raises:
        CheckpointError: the journal is damaged.
    """
    found = rewards_of(run_path)
    rubric = found["rubrics"][-1] if found["rubrics"] else None
    return {
        "run": found["run"],
        "iteration": found["iterations_scored"],
        "rubric": None if rubric is None else {key: rubric[key] for key in ("version", "digest")},
        "rewards": found["rewards"],
        "shadows": [shadow for shadow in found["shadows"] if shadow["state"] == "shadow"],
        "changes": found["changes"],
    }


def shadow_spec(run_path: Path, name: str) -> dict[str, Any] | None:
    """The spec of a reward that is being shadowed now, None if there is none of that name.

    Raises:
        CheckpointError: the journal is damaged.
    """
    events = _of(Journal(run_path / JOURNAL).tail(), "rubric")
    specs = [shadow["spec"] for shadow in (events[-1]["shadows"] if events else ())]
    return next((dict(spec) for spec in specs if spec["name"] == name), None)


def decided(run_path: Path, change_id: str) -> dict[str, Any] | None:
    """A change as the journal has it, None if it is neither active nor refused there.

    Raises:
        CheckpointError: the journal is damaged.
    """
    changes = {change["id"]: change for change in _changes(Journal(run_path / JOURNAL).tail())}
    found = changes.get(change_id)
    return found if found is not None and found["state"] in FINAL else None


def _of(entries: Sequence[Entry], kind: str) -> list[Entry]:
    return [entry for entry in entries if entry.get("kind") == kind]


def _scored(entries: Sequence[Entry]) -> dict[int, set[str]]:
    """Iteration -> digests of the rubrics that its groups are stamped with."""
    lines = _of(entries, "scores")
    return {line["iteration"]: {group["rubric"]["digest"] for group in line["groups"]} for line in lines}


def _digest_at(events: Sequence[Entry], iteration: int) -> str | None:
    return next((e["rubric"]["digest"] for e in reversed(events) if e["iteration"] <= iteration), None)


def _rubrics(events: Sequence[Entry], last_scored: int | None) -> list[dict[str, Any]]:
    rows = []
    for number, event in enumerate(events):
        first = event["iteration"]
        if number + 1 < len(events):
            last = events[number + 1]["iteration"] - 1
        else:
            last = last_scored if last_scored is not None and last_scored >= first else None
        row = {"first": first, "last": last, **{key: event["rubric"][key] for key in ("version", "digest")}}
        words = {key: event.get(key, "") for key in ("action", "name", "why")}
        rows.append({**row, "what": what_changed(events[: number + 1]), **words})
    return rows


def what_changed(events: Sequence[Entry]) -> str:
    """What the last event changed, in a few words."""
    event, before = events[-1], events[-2] if len(events) > 1 else events[-1]
    action, name = event["action"], event["name"]
    old, new = ({spec["name"]: spec for spec in e["config"]["rewards"]} for e in (before, event))
    if action == "start":
        return f"start: {', '.join(new)}"
    if action == "weight" and name in old and name in new:
        return f"weight {name}: {weight_text(old[name])} -> {weight_text(new[name])}"
    if action == "swap":
        came = [other for other in new if other not in old]
        return f"swap {name} -> {came[0]}" if came else f"swap {name}"
    if action == "rollback":
        same = [e["rubric"]["version"] for e in events[:-1] if e["rubric"]["digest"] == event["rubric"]["digest"]]
        return f"rollback to rubric {same[-1]}" if same else "rollback"
    if action == "shadow":  # an event's name may be that of the reward that the shadow is compared with
        known = {shadow["spec"]["name"] for shadow in before["shadows"]}
        name = next((s["spec"]["name"] for s in event["shadows"] if s["spec"]["name"] not in known), name)
    return f"{action} {name}".strip()


def weight_text(reward: Entry) -> str:
    """A weight, or its schedule as `iteration:weight` pairs."""
    points = reward.get("weight_schedule") or ()
    return ",".join(f"{p['iteration']}:{p['weight']:g}" for p in points) or f"{reward['weight']:g}"


def _present(event: Entry) -> list[dict[str, Any]]:
    pairs = zip(event["config"]["rewards"], event["rewards"], strict=True)
    return [_reward(spec, version, "active") for spec, version in pairs]


def _reward(spec: Entry, version: Entry, state: str) -> dict[str, Any]:
    kept = {key: spec[key] for key in ("name", "kind", "weight", "weight_schedule", "gold") if key in spec}
    return {**kept, "version": version["version"], "digest": version["digest"], "state": state}


def _shadows(events: Sequence[Entry], lines: Sequence[Entry]) -> list[dict[str, Any]]:
    """Every stretch in which a reward was shadowed: what it is, since when, whether it goes on, how far it agreed."""
    rows: list[dict[str, Any]] = []
    running: dict[tuple[str, str], dict[str, Any]] = {}
    for event in events:
        present = {(s["spec"]["name"], s["version"]["digest"]): s for s in event["shadows"]}
        for key in running.keys() - present.keys():
            running.pop(key)["state"] = "ended"
        for key, shadow in present.items():
            if key not in running:
                row = _reward(shadow["spec"], shadow["version"], "shadow")
                running[key] = {**row, "against": shadow.get("against", ""), "first": event["iteration"]}
                rows.append(running[key])
    for row in rows:
        following = [r["first"] for r in rows if r["name"] == row["name"] and r["first"] > row["first"]]
        own = (x for x in lines if x["name"] == row["name"] and x["iteration"] >= row["first"])
        row |= _agreement([x for x in own if not following or x["iteration"] < min(following)])
    return rows


def _agreement(lines: Sequence[Entry]) -> dict[str, Any]:
    """Over iterations: how many, means of the score and of the rank correlation, number of valid scores."""
    return {
        "iterations": len(lines),
        "mean": _mean([x["mean"] for x in lines]),
        "rank_correlation": _mean([x["rank_correlation"] for x in lines]),
        "valid": sum(x["valid"] for x in lines),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _changes(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """The last state of every change, in the order they were begun.

    `iteration` is where it was decided, for an active one the first that it holds for; `reason` is a refused one's.
    """
    found: dict[str, dict[str, Any]] = {}
    effective = None
    for entry in entries:
        if entry.get("kind") == "rubric":
            effective = entry["iteration"]
        if entry.get("kind") == "change" and entry.get("id"):
            row = {key: entry.get(key, "") for key in ("id", "action", "name", "state", "iteration", "why")}
            if row["state"] == "active" and effective is not None:
                row["iteration"] = effective
            found[row["id"]] = {**row, "reason": row["why"] if row["state"] == "refused" else ""}
    return list(found.values())
