"""The rubric a stage begins with: the recipe's, or on a resume what the run's journal says.

Called by the GRPO stage once its ledger knows where it stands.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from burnish.data.errors import ConfigError, Problem
from burnish.data.records import RewardVersion
from burnish.platform.candidates import Candidates
from burnish.platform.changes import Change
from burnish.platform.desk import RewardDesk
from burnish.platform.executor import Executor
from burnish.platform.ledger import Ledger
from burnish.platform.pools import Pools
from burnish.platform.rubric_log import START, RubricLog, RubricState, read_events, states_from
from burnish.platform.swaps import Swaps
from burnish.rewards.order import identity
from burnish.rewards.rubric import RewardSpec, RubricConfig, rubric_version

EVENTS = "events.jsonl"
"""In the run's directory: the changes that it repeats."""


def keep_events(source: Path, directory: Path) -> None:
    """Copy the rubric changes of an event file into a run's directory, checked.

    Raises:
        ConfigError: the file or a line of it is refused.
    """
    lines = [json.dumps(state.event(), sort_keys=True) for state in read_events(source)]
    if not lines:
        problem = Problem("--events", str(source), "at least one line of kind rubric", "a run's journal.jsonl will do")
        raise ConfigError("there is nothing to repeat", [problem])
    (directory / EVENTS).write_text("\n".join(lines) + "\n")


def open_swaps(
    config: RubricConfig,
    *,
    executor: Executor,
    pools: Pools,
    ledger: Ledger,
    desk: RewardDesk,
    deadline: float,
    directory: Path,
    required: Mapping[str, str] = MappingProxyType({}),
    changed: Callable[[RubricState], None] = lambda state: None,
) -> Swaps:
    """Load the rewards that the stage begins with and say which rubric scores what.

    Args:
        config: the recipe's rubric.
        executor, pools, ledger, desk: the run's.
        deadline: seconds that a candidate may take.
        directory: the run's; its event file, if there is one, is repeated.
        required: reward -> the recipe's field that names it.
        changed: told every state that scores from here on, the first included.

    Raises:
        ConfigError: a reward cannot be loaded, or is not the one the run was scored with.
    """
    states = states_from(ledger.rubric_events)
    log = RubricLog(states, required)
    held = pools.begin(_specs(log, ledger.iteration) if states else config.rewards)
    if not states:
        states.append(first_state(config, held))
        ledger.rubric_event(states[0])
    _same_rewards(log, ledger.iteration, held)
    asked = [state for state in states if state.action in (START, "resume")][-1]
    if _plain(asked.config) != _plain(config):
        _resumed_otherwise(log, config, ledger=ledger, pools=pools, held=held)
    changed(log.at(ledger.iteration))
    replay = read_events(directory / EVENTS) if (directory / EVENTS).is_file() else []
    return Swaps(
        executor,
        pools,
        ledger,
        desk,
        log,
        candidates=Candidates(executor, pools, held, deadline=deadline),
        replay=_left(replay, states),
        changed=changed,
    )


def first_state(config: RubricConfig, held: Mapping[str, str]) -> RubricState:
    """The recipe's rubric as the first state.

    Args:
        config: the rubric.
        held: reward identity -> digest.
    """
    versions = tuple(RewardVersion(spec.name, 1, held[identity(spec)]) for spec in config.rewards)
    plain = RubricConfig(rewards=config.rewards, aggregation=config.aggregation)
    return RubricState(0, plain, rubric_version(plain, versions), versions, why="the recipe")


def _specs(log: RubricLog, iteration: int) -> list[RewardSpec]:
    """Rewards of the states that score from here on, and of the one a rollback would return to."""
    before = log.before()
    states = [log.at(iteration), *(s for s in log.states if s.iteration > iteration), *([before] if before else [])]
    found = {identity(x): x for s in states for x in (*s.config.rewards, *(h.spec for h in s.shadows))}
    return list(found.values())


def _same_rewards(log: RubricLog, iteration: int, held: Mapping[str, str]) -> None:
    states = [log.at(iteration), *(s for s in log.states if s.iteration > iteration)]
    pairs = [(spec, v) for s in states for spec, v in zip(s.config.rewards, s.rewards, strict=True)]
    problems = {
        spec.name: Problem(f"rewards.{spec.name}", held[identity(spec)][:12], version.digest[:12], "its files changed")
        for spec, version in pairs
        if held[identity(spec)] != version.digest
    }
    if problems:
        raise ConfigError("rewards are not the ones the run was scored with", list(problems.values()))


def _resumed_otherwise(
    log: RubricLog, config: RubricConfig, *, ledger: Ledger, pools: Pools, held: dict[str, str]
) -> None:
    """A resume was allowed to change the recipe's rewards: that is a change like any other, from here on."""
    held |= pools.begin(config.rewards)
    plain = RubricConfig(rewards=config.rewards, aggregation=config.aggregation)
    digests = {spec.name: held[identity(spec)] for spec in plain.rewards}
    change = Change(action="rollback", why="the recipe was changed on resume")
    state = log.next(ledger.iteration, plain, digests=digests, change=change, shadows=log.newest.shadows)
    log.states.append(RubricState(**{**vars(state), "action": "resume"}))
    ledger.rubric_event(log.newest)


def _plain(config: RubricConfig) -> object:
    return config.model_dump(mode="json", include={"rewards", "aggregation"})


def _left(replay: Sequence[RubricState], states: Sequence[RubricState]) -> list[RubricState]:
    """The recorded states that are still to come.

    Raises:
        ConfigError: the recorded run began with another rubric.
    """
    if not replay:
        return []
    begin = [state for state in replay if state.action == START]
    if begin and begin[0].rubric.digest != states[0].rubric.digest:
        problem = Problem("--events", begin[0].rubric.digest[:12], states[0].rubric.digest[:12])
        raise ConfigError("the events belong to a run with another rubric", [problem])
    later = [state for state in replay if state.action != START]
    done = 0
    for state in states:  # a resumed replay has installed some of them, and perhaps dropped a shadow of its own
        if done < len(later) and _recorded(state) == _recorded(later[done]):
            done += 1
    return later[done:]


def _recorded(state: RubricState) -> object:
    return {**state.event(), "pending": None}
