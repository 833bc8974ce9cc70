"""A reward made ready to score: built, its files checked, a canary scored, probed.

Called by the reward server only.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from burnish.data.errors import BurnishError, ConfigError, Problem
from burnish.rewards.batches import BUGS, RewardError
from burnish.rewards.canary import score_canary
from burnish.rewards.probe import crosses_groups
from burnish.rewards.protocol import HasCounters, HasWeights, Reward, is_remote
from burnish.rewards.rubric import RewardSpec, reward_version
from burnish.rewards.table import make_reward


@dataclass(frozen=True)
class Prepared:
    """What is known of a reward that is ready.

    Args:
        digest: which reward it is, see `rubric.reward_version`.
        canary: raw scores of the canary's outputs, NaN = missing.
        crosses: rows of several groups may share a model call.
        seconds: wall seconds that building and trying it took.
    """

    digest: str
    canary: tuple[float, ...]
    crosses: bool
    seconds: float


@dataclass(frozen=True, eq=False)
class LoadedReward:
    """A reward that is ready to score.

    Args:
        reward: what scores.
        batch: B, rows of every call.
        weights_digest: of its weight files, '' where it has none.
        prepared: what is known of it.
    """

    reward: Reward
    batch: int
    weights_digest: str
    prepared: Prepared


def load_reward(spec: RewardSpec, *, again: bool = False) -> LoadedReward:
    """Build a reward and try it.

    Args:
        spec: which.
        again: it was tried before and is only missing here. A remote one is then not asked anything: its judge may be
            down, which is no reason to stop.

    Raises:
        ConfigError: it cannot be built, or its weight files are not those that the spec names.
        RewardError: it fails on the canary. OSError: a file or a connection failed.
    """
    started = time.perf_counter()
    reward = _build(spec)
    weights = reward.weights_digest if isinstance(reward, HasWeights) else ""
    check_weights(spec, weights)
    digest, canary, crosses = reward_version(spec, reward).digest, np.zeros(0, np.float32), False
    if not (again and is_remote(reward)):
        _check_ready(spec, reward)
        canary = score_canary(reward, name=spec.name, batch=spec.batch)
        crosses = crosses_groups(reward, canary, name=spec.name, batch=spec.batch)
    if isinstance(reward, HasCounters):
        reward.take_counters()  # what the canary cost is no group's
    prepared = Prepared(digest, tuple(canary.tolist()), crosses, time.perf_counter() - started)
    return LoadedReward(reward, spec.batch, weights, prepared)


def check_weights(spec: RewardSpec, found: str) -> None:
    """Refuse weight files other than those that the spec names.

    Args:
        spec: the reward.
        found: digest of its files, '' where it has none.

    Raises:
        ConfigError: `spec.weights_sha256` is set and the reward's files have another digest, or it has no files.
    """
    if spec.weights_sha256 and spec.weights_sha256 != found:
        field = f"rewards.{spec.name}.weights_sha256"
        allowed = f"{found}, the digest of the files" if found else "'', it has no weight files"
        raise ConfigError(
            f"the weight files of reward {spec.name!r} are not those that it names",
            [Problem(field, spec.weights_sha256, allowed)],
        )


def _build(spec: RewardSpec) -> Reward:
    try:
        return make_reward(spec)
    except BurnishError:
        raise
    except BUGS as error:
        raise ConfigError(f"reward {spec.name!r} cannot be built: {type(error).__name__}: {error}") from error


def _check_ready(spec: RewardSpec, reward: Reward) -> None:
    """Call the reward's own `check_ready()`, where it has one."""
    check_ready = getattr(reward, "check_ready", None)
    if check_ready is None:
        return
    try:
        check_ready()
    except BurnishError:
        raise
    except BUGS as error:
        raise RewardError(f"reward {spec.name!r} is not ready: {type(error).__name__}: {error}") from error
