"""What a change makes of a rubric: pure rules, one an action.

Called when a change is asked for, so that a bad one is refused at once, and again when its turn comes.
"""

from __future__ import annotations

from collections.abc import Callable

from pydantic import ValidationError

from burnish.data.errors import ConfigError, Problem
from burnish.platform.changes import Change
from burnish.platform.rubric_log import RubricLog
from burnish.rewards.rubric import RewardSpec, RubricConfig
from burnish.rewards.table import nearest

_TRAINED_ON = ("weight", "weight_schedule", "gold")


def edited(log: RubricLog, change: Change) -> RubricConfig:
    """The rubric after a change; the same one where only a shadow begins or ends.

    Raises:
        ConfigError: the change does not fit the present rubric: field, got, allowed.
    """
    try:
        config = _RULES[change.action](log, change)
    except ValidationError as error:
        problems = [Problem("rewards", change.action, str(detail["msg"])) for detail in error.errors()]
        raise ConfigError("the change is refused", problems) from None
    names = {spec.name for spec in config.rewards}
    for name, where in log.required.items():
        if name not in names:
            raise _refuse("name", name, f"a reward that nothing else needs: {where} names it", "swap it under its name")
    return config


def _refuse(field: str, got: str, allowed: str, hint: str = "") -> ConfigError:
    return ConfigError("the change is refused", [Problem(field, got, allowed, hint)])


def _config(log: RubricLog, rewards: list[RewardSpec]) -> RubricConfig:
    return RubricConfig(rewards=tuple(rewards), aggregation=log.newest.config.aggregation)


def _place(log: RubricLog, name: str) -> int:
    names = [spec.name for spec in log.newest.config.rewards]
    if name not in names:
        raise _refuse("name", name, f"a reward of the rubric: {', '.join(names)}", f"nearest is {nearest(name, names)}")
    return names.index(name)


def _free(log: RubricLog, name: str) -> None:
    if name in [spec.name for spec in log.newest.config.rewards]:
        raise _refuse("spec.name", name, "a name that is not in the rubric", f"burnish rewards swap RUN {name} …")


def chosen_spec(log: RubricLog, change: Change) -> RewardSpec:
    """The spec that a change brings; one that is being shadowed may be called by its name alone.

    Raises:
        ConfigError: there is none.
    """
    if change.spec is not None:
        return change.spec
    shadows = {shadow.spec.name: shadow.spec for shadow in log.newest.shadows}
    if change.name in shadows:
        return shadows[change.name]
    raise _refuse("spec", "nothing", "a reward, or the name of a shadow")


def _add(log: RubricLog, change: Change) -> RubricConfig:
    spec = chosen_spec(log, change)
    _free(log, spec.name)
    return _config(log, [*log.newest.config.rewards, spec])


def _remove(log: RubricLog, change: Change) -> RubricConfig:
    place, rewards = _place(log, change.name), list(log.newest.config.rewards)
    del rewards[place]
    if not rewards:
        raise _refuse("name", change.name, "a rubric keeps at least one reward")
    return _config(log, rewards)


def _swap(log: RubricLog, change: Change) -> RubricConfig:
    """The new reward takes the old one's place, and its weight unless it brings one."""
    place, rewards = _place(log, change.name), list(log.newest.config.rewards)
    spec, old = chosen_spec(log, change), rewards[place]
    if spec.name != old.name:
        _free(log, spec.name)
    if not spec.model_fields_set.intersection(_TRAINED_ON):
        kept = {name: getattr(old, name) for name in _TRAINED_ON}
        spec = RewardSpec(**{**{f: getattr(spec, f) for f in spec.model_fields_set}, **kept})
    rewards[place] = spec
    return _config(log, rewards)


def _weight(log: RubricLog, change: Change) -> RubricConfig:
    place, rewards = _place(log, change.name), list(log.newest.config.rewards)
    if (change.weight is None) == (not change.schedule):
        raise _refuse("weight", "both or none", "a weight or a schedule")
    fields = {f: getattr(rewards[place], f) for f in RewardSpec.model_fields}
    new = {"weight_schedule": change.schedule} if change.weight is None else {"weight": change.weight}
    rewards[place] = RewardSpec(**{**fields, "weight_schedule": (), **new})
    return _config(log, rewards)


def _rollback(log: RubricLog, change: Change) -> RubricConfig:
    if change.to_version is not None:
        return log.rubric_of(change.to_version).config
    before = log.before()
    if before is None:
        raise _refuse("to_version", "nothing", "a rubric to go back to: this one is the first")
    return before.config


def _shadow(log: RubricLog, change: Change) -> RubricConfig:
    spec = chosen_spec(log, change)
    if spec.name in [shadow.spec.name for shadow in log.newest.shadows]:
        raise _refuse("spec.name", spec.name, "a name that is not being shadowed")
    return log.newest.config


def _unshadow(log: RubricLog, change: Change) -> RubricConfig:
    names = [shadow.spec.name for shadow in log.newest.shadows]
    if change.name not in names:
        raise _refuse("name", change.name, f"a shadow: {', '.join(names) or 'there is none'}")
    return log.newest.config


_RULES: dict[str, Callable[[RubricLog, Change], RubricConfig]] = {
    "add": _add,
    "remove": _remove,
    "swap": _swap,
    "weight": _weight,
    "rollback": _rollback,
    "shadow": _shadow,
    "unshadow": _unshadow,
}
