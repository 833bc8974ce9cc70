"""Holds loaded rewards and scores whole groups by any part of a rubric.

A plain class: the platform wraps it in an actor or calls it in process. Every order describes its rewards completely,
so a server that was restarted loads again what it is asked for. It never combines rewards into advantages and never
retries: a reward that is not applicable is missing, a reward that misbehaves is an error.

`prepare` and `retain` may run beside scoring; scoring itself is for one thread at a time (see `batcher.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from burnish.data.errors import ConfigError, RefusedError
from burnish.data.records import Group, RewardVersion, Scores
from burnish.rewards.jobs import Failure
from burnish.rewards.lanes import Lanes
from burnish.rewards.loaded import LoadedReward, Prepared, check_weights, load_reward
from burnish.rewards.order import RewardOrder, identity
from burnish.rewards.rubric import RewardSpec


class RewardServer:
    """Starts empty."""

    def __init__(self) -> None:
        self._held: dict[str, LoadedReward] = {}
        self._loading = threading.Lock()
        self._changing = threading.Lock()

    def prepare(self, spec: RewardSpec) -> Prepared:
        """Have a reward ready: build it if none is held that can serve the spec, score a canary, probe it.

        Raises:
            ConfigError: it cannot be built, files are missing, or they are not those that the spec names.
            RewardError: it fails on the canary. Nothing changes in either case.
        """
        try:
            return self._load(spec, again=False).prepared
        except OSError as error:
            reason = f"{type(error).__name__}: {error}"
            raise ConfigError(f"reward {spec.name!r} cannot be loaded: {reason}") from error

    def score(self, group: Group, order: RewardOrder) -> Scores:
        """Score every sample of a group with every reward of the order; what is not held is loaded first.

        Args:
            group: one example and its trajectories, whose images are float32 [3,H,W] of one size.
            order: by what.

        Raises:
            DataError: the images are not as above. RewardError: a reward misbehaves; names it.
            RefusedError: a reward is not the version that the order names. ConfigError: one cannot be built.
        """
        found = self.score_many([(group, order)])[0]
        if isinstance(found, Scores):
            return found
        raise found

    def score_many(self, requests: Sequence[tuple[Group, RewardOrder]]) -> list[Scores | Failure]:
        """Score several groups; rows that one reward scores under one rubric share model calls.

        Returns one entry a request: the scores that `score` gives, byte for byte, or what it raises.
        """
        ends: dict[int, Scores | Failure] = {}
        lanes = self.lanes()
        for number, (group, order) in enumerate(requests):
            lanes.add(group, order, lambda end, number=number: ends.__setitem__(number, end))
        lanes.run()
        return [ends[number] for number in range(len(requests))]

    def lanes(self) -> Lanes:
        """A queue of rows for this server's rewards."""
        return Lanes(self._ready)

    def retain(self, specs: Sequence[RewardSpec]) -> None:
        """Forget every reward but those that serve these specs."""
        kept = {identity(spec) for spec in specs}
        with self._changing:
            self._held = {key: loaded for key, loaded in self._held.items() if key in kept}

    def _ready(self, spec: RewardSpec, version: RewardVersion | None) -> LoadedReward:
        loaded = self._load(spec, again=version is not None)
        found = loaded.prepared.digest
        if version is not None and version.digest != found:
            raise RefusedError(
                f"reward {spec.name!r} is not the one that the order names: got digest {found}, "
                f"allowed {version.digest} (version {version.version}); its weight files or its code differ"
            )
        return loaded

    def _load(self, spec: RewardSpec, *, again: bool) -> LoadedReward:
        key = identity(spec)
        loaded = self._held.get(key)
        if loaded is None:
            with self._loading:  # the same reward is not built twice; scoring by other rewards goes on
                loaded = self._held.get(key) or self._hold(key, load_reward(spec, again=again))
        check_weights(spec, loaded.weights_digest)
        return loaded

    def _hold(self, key: str, loaded: LoadedReward) -> LoadedReward:
        with self._changing:
            self._held = {**self._held, key: loaded}
        return loaded
