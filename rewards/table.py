"""The one table of rewards: name -> class. Adding a reward is a file and a line here."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any, Protocol

from pydantic import BaseModel, JsonValue, ValidationError

from burnish.data.errors import ConfigError, Problem
from burnish.rewards.clip import ClipImage
from burnish.rewards.colour import ColourLight
from burnish.rewards.copy_paste import CopyPaste
from burnish.rewards.csd import CSD
from burnish.rewards.dino import Dino
from burnish.rewards.dreamsim import DreamSim
from burnish.rewards.fidelity import Psnr, Ssim
from burnish.rewards.judge import Judge
from burnish.rewards.lpips import LPIPS
from burnish.rewards.perceptual import ToyPerceptual
from burnish.rewards.pixels import BoundaryBand, MaskedPixel, OutsidePreservation
from burnish.rewards.protocol import Reward
from burnish.rewards.remote import HttpReward
from burnish.rewards.semantic import ToySemantic
from burnish.rewards.siglip import Siglip
from burnish.rewards.style import ToyStyle

TABLE: dict[str, type[Any]] = {
    "masked_pixel": MaskedPixel,
    "outside_preservation": OutsidePreservation,
    "boundary_band": BoundaryBand,
    "ssim": Ssim,
    "psnr": Psnr,
    "colour_light": ColourLight,
    "copy_paste": CopyPaste,
    "dreamsim": DreamSim,
    "lpips": LPIPS,
    "csd": CSD,
    "siglip": Siglip,
    "clip_i": ClipImage,
    "dino": Dino,
    "http": HttpReward,
    "judge": Judge,
    "toy_perceptual": ToyPerceptual,
    "toy_style": ToyStyle,
    "toy_semantic": ToySemantic,
}
"""Reward kind -> class with `Options` (a pydantic model) that is built as `cls(options)`."""


class Spec(Protocol):
    """What the table reads of a `RewardSpec`, which checks itself against the table."""

    @property
    def name(self) -> str:
        """Name in the rubric."""
        ...

    @property
    def kind(self) -> str:
        """Name in the table."""
        ...

    @property
    def options(self) -> Mapping[str, JsonValue]:
        """The reward class's own options, not yet checked."""
        ...


def nearest(word: str, known: list[str]) -> str:
    """The known word closest to `word`."""
    return max(known, key=lambda name: difflib.SequenceMatcher(None, word, name).ratio())


def reward_class(kind: str) -> type[Any]:
    """The class of a reward kind.

    Raises:
        ConfigError: no such kind; names the nearest.
    """
    if kind not in TABLE:
        raise ConfigError(f"unknown reward {kind!r}, nearest is {nearest(kind, list(TABLE))!r}")
    return TABLE[kind]


def reward_options(spec: Spec) -> BaseModel:
    """The spec's options, validated and with defaults filled in.

    Raises:
        ConfigError: unknown kind or option (names the nearest), or a value out of bounds.
    """
    model: type[BaseModel] = reward_class(spec.kind).Options
    try:
        return model.model_validate_json(json.dumps(spec.options))
    except ValidationError as error:
        problems = [_problem(spec, model, dict(detail)) for detail in error.errors()]
        raise ConfigError(f"options of reward {spec.name!r} are refused", problems) from None


def _problem(spec: Spec, model: type[BaseModel], detail: dict[str, Any]) -> Problem:
    key = ".".join(str(part) for part in detail["loc"])
    known = list(model.model_fields)
    unknown = detail["type"] == "extra_forbidden"
    allowed = (f"one of {known}" if known else "no options") if unknown else detail["msg"]
    hint = f"nearest is {nearest(key, known)!r}" if unknown and known else ""
    return Problem(f"rewards.{spec.name}.options.{key}", repr(detail["input"]), allowed, hint)


def make_reward(spec: Spec) -> Reward:
    """Build the reward that a spec describes.

    Raises:
        ConfigError: unknown kind or bad options.
    """
    return reward_class(spec.kind)(reward_options(spec))
