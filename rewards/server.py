"""Scores whole groups under one rubric version at a time.

A plain class: the platform wraps it in an actor or calls it in process. One call at a time. It never combines rewards
into advantages and never retries: a reward that is not applicable is missing, a reward that misbehaves is an error.
Legend: G group, B batch, H W pixels.
"""

from __future__ import annotations

import time

import numpy as np

from burnish.data.errors import ConfigError, DataError
from burnish.data.records import Group, RewardVersion, RubricVersion, Scores
from burnish.rewards.batches import score_batches
from burnish.rewards.drs import DrsConfig, drs_scale
from burnish.rewards.loaded import LoadedRubric, load_rubric
from burnish.rewards.rubric import RubricConfig


class RewardServer:
    """Holds at most two rubrics: the active one and one beside it (a candidate, or the one before).

    Args:
        config: the rubric to start with.
        version: its counter; the driver keeps it, so that a restarted server can be told.
    """

    def __init__(self, config: RubricConfig, *, version: int = 1) -> None:
        self._beside: LoadedRubric | None = None
        self._active = load_rubric(config, number=version)

    @property
    def version(self) -> RubricVersion:
        """The active rubric."""
        return self._active.version

    @property
    def versions(self) -> tuple[RubricVersion, ...]:
        """All rubrics held, the active one first."""
        return tuple(loaded.version for loaded in self._held())

    @property
    def reward_versions(self) -> tuple[RewardVersion, ...]:
        """The active rubric's rewards, in its order."""
        return self._active.reward_versions

    def load(self, config: RubricConfig, *, version: int | None = None) -> RubricVersion:
        """Prepare a rubric beside the active one and score a canary with it; what stood there before is dropped.

        Rewards whose kind, options and batch are unchanged are shared, not loaded again.

        Args:
            config: the new rubric.
            version: its counter; None = the active one's plus 1.

        Raises:
            ConfigError: a reward cannot be built. RewardError: one fails on the canary. Nothing changes in both cases.
        """
        number = self.version.version + 1 if version is None else version
        self._beside = load_rubric(config, number=number, held=self._held())
        return self._beside.version

    def activate(self, version: RubricVersion) -> None:
        """Switch to a rubric that is held; the one before stays beside it. Between groups only.

        Raises:
            ConfigError: the version is not held.
        """
        chosen = self._find(version)
        if chosen is not self._active:
            self._active, self._beside = chosen, self._active

    def score(self, group: Group, *, version: RubricVersion | None = None) -> Scores:
        """Score every sample of a group with every reward.

        Args:
            group: one example and its trajectories, whose images are float32 [3,H,W] of one size.
            version: a rubric that is held, to score with a candidate beside the active one; None = the active one.

        Raises:
            DataError: the images are not as above. RewardError: a reward misbehaves; names it.
        """
        started = time.process_time()
        loaded = self._active if version is None else self._find(version)
        images = _stack_images(group)
        raw, scaled, valid = {}, {}, {}
        count = group.example.num_references
        for spec, reward in zip(loaded.config.rewards, loaded.rewards, strict=True):
            name = spec.name
            values = score_batches(reward, images, example=group.example, name=name, batch=spec.batch)
            valid[name] = np.isfinite(values)
            raw[name] = np.where(valid[name], values, np.float32(0))
            scaled[name] = _scale(raw[name], valid[name], drs=spec.drs, num_references=count)
        seconds = time.process_time() - started
        return Scores(group.example.id, group.iteration, loaded.version, raw, scaled, valid, seconds)

    def _held(self) -> tuple[LoadedRubric, ...]:
        return (self._active,) if self._beside is None else (self._active, self._beside)

    def _find(self, version: RubricVersion) -> LoadedRubric:
        for loaded in self._held():
            if loaded.version == version:
                return loaded
        raise ConfigError(f"rubric {version} is not loaded, held are {self.versions}")


def _stack_images(group: Group) -> np.ndarray:
    """Images float32 [G,3,H,W] of a group, checked."""
    images = [trajectory.image for trajectory in group.trajectories]
    kinds = {(image.dtype.name, image.shape) for image in images}
    if len(kinds) != 1 or images[0].dtype != np.float32 or images[0].ndim != 3 or images[0].shape[0] != 3:
        got = sorted(f"{name} {list(shape)}" for name, shape in kinds)
        raise DataError(f"the images of group {group.example.id!r} must be float32 [3,H,W] of one size, got {got}")
    return np.stack(images)


def _scale(raw: np.ndarray, keep: np.ndarray, *, drs: DrsConfig | None, num_references: int) -> np.ndarray:
    """Float32 [G] after DRS; 0 where missing."""
    if drs is None:
        return raw
    scaled = drs_scale(raw.astype(np.float64), num_references, drs)
    return np.where(keep, scaled, 0).astype(np.float32)
