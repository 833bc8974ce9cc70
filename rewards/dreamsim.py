"""DreamSim between output and target, per patch of the region, through the public `dreamsim` package.

Called by the reward server. The package would download what it misses and run code from a hub: here every file must be
in one directory beforehand, and nothing is fetched. Legend: B batch, K patches, D embedding, H W pixels.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.hub
from pydantic import Field

from burnish.data.errors import ConfigError, Problem
from burnish.data.records import Box, Example
from burnish.rewards.perceptual import patch_distance_reward, region_patches
from burnish.rewards.regions import MIN_SIDE
from burnish.rewards.vision import FrozenEncoder, ModelOptions, Placement, crop, crop_pil, finite_rows, place
from burnish.rewards.weights import (
    UNREADABLE,
    Name,
    files_digest,
    is_local,
    load_strict,
    load_tensors,
    require_files,
    weights_dir,
)

KIND = "dreamsim"
DINO: Name = ("checkpoints/dino_vitbase16_pretrain.pth", "dino_vitbase16_pretrain.pth")
DINOV2: Name = ("checkpoints/dinov2_vitb14_pretrain.pth", "dinov2_vitb14_pretrain.pth")
"""The backbones that the package takes from torch.hub; it keeps them in `checkpoints/`."""
HUB_CODE = "facebookresearch_dinov2_main"
"""Folder of torch.hub's copy of the DINOv2 code; its Python runs."""
FILES: dict[str, tuple[Name, ...]] = {
    "open_clip_vitb32": ("open_clip_vitb32_pretrain.pth.tar",),
    "clip_vitb32": ("clip_vitb32_pretrain.pth.tar",),
    "dino_vitb16": ("dino_vitb16_pretrain.pth", DINO),
    "dinov2_vitb14": ("dinov2_vitb14_pretrain.pth", DINOV2, f"{HUB_CODE}/hubconf.py"),
    "ensemble": (
        "dino_vitb16_pretrain.pth",
        DINO,
        "clip_vitb16_pretrain.pth.tar",
        "open_clip_vitb16_pretrain.pth.tar",
    ),
}
"""Type -> the files it needs in the directory of weights, beside its adapter."""


class DreamSimOptions(ModelOptions):
    """Which DreamSim, and how the region is cut up."""

    type: Literal["open_clip_vitb32", "clip_vitb32", "ensemble", "dino_vitb16", "dinov2_vitb14"] = Field(
        default="open_clip_vitb32",
        description="the package's dreamsim_type; ensemble is the paper's, dinov2_vitb14 runs torch.hub's code from "
        "the directory of weights",
    )
    form: Literal["l2", "cosine"] = Field(
        default="l2",
        description="l2 = distance of the centred unit embeddings (OmniRefiner); cosine = the package's own distance",
    )
    patch: int = Field(default=512, ge=MIN_SIDE, description="side in pixels of a patch of the region")
    min_side: int = Field(default=64, ge=MIN_SIDE, description="side in pixels that a smaller region is grown to")


class DreamSim:
    """Negative mean over the region's patches of the DreamSim distance between output and target (OmniRefiner eq. 7).

    Missing where there is no target or the mask is empty.

    Raises:
        ConfigError: files are missing or have another layout, or the device is not there.
    """

    Options = DreamSimOptions
    name = KIND
    direction = 1
    range = (-2.0, 0.0)
    needs_weights = True
    preprocessing = 1

    def __init__(self, options: DreamSimOptions) -> None:
        self.options = options
        directory, files = find_files(options)
        self.weights_digest = files_digest(files)
        placement = place(options)
        model, prepare = load_dreamsim(directory, model_type=options.type, placement=placement)
        self._encoder = FrozenEncoder(lambda image: prepare(image)[0], model.embed, placement=placement)
        self.take_counters = self._encoder.take_counters

    def score(self, images: np.ndarray, examples: Sequence[Example]) -> np.ndarray:
        """Float32 [B] in [-2,0] of images [B,3,H,W] in [0,1]; NaN = missing."""
        unique = {id(e): e for e in examples}  # a group shares one example: its target is looked at once
        windows = {key: self._windows(e, images.shape[2:]) for key, e in unique.items()}
        counts = [len(windows[id(e)]) for e in examples]
        if not any(counts):
            return np.full(len(images), np.nan, np.float32)
        crops = [crop_pil(image, box) for image, e in zip(images, examples, strict=True) for box in windows[id(e)]]
        ours = np.split(self._encoder.embed_in_batches(crops, batch=len(images)), np.cumsum(counts)[:-1])
        theirs = {key: self._targets(e, windows[key]) for key, e in unique.items() if windows[key]}
        rows = zip(ours, examples, strict=True)
        values = [self._distance(row, theirs[id(e)]) if len(row) else np.nan for row, e in rows]
        return np.where(finite_rows(images), values, np.nan).astype(np.float32)

    def _windows(self, example: Example, frame: tuple[int, ...]) -> tuple[Box, ...]:
        if example.target is None:
            return ()
        patch, min_side = self.options.patch, self.options.min_side
        return region_patches(example, height=frame[0], width=frame[1], patch=patch, min_side=min_side)

    def _targets(self, example: Example, windows: tuple[Box, ...]) -> np.ndarray:
        """Embeddings [K,D] of the target's patches."""
        assert example.target is not None
        return np.stack([self._encoder.cached(crop(example.target, box)) for box in windows])

    def _distance(self, ours: np.ndarray, theirs: np.ndarray) -> float:
        return patch_distance_reward(ours.astype(np.float64), theirs.astype(np.float64), form=self.options.form)


def adapter(model_type: str) -> str:
    """Folder of a type's LoRA adapter in the directory of weights."""
    return "ensemble_lora" if model_type == "ensemble" else f"{model_type}_single_lora"


def find_files(options: DreamSimOptions) -> tuple[Path, list[Path]]:
    """The directory of weights and every file in it that the scores depend on, the hub's code among them.

    Raises:
        ConfigError: it is not there, or files in it are missing; names each.
    """
    folder = adapter(options.type)
    tensors = (f"{folder}/adapter_model.safetensors", f"{folder}/adapter_model.bin")
    names = (*FILES[options.type], f"{folder}/adapter_config.json", tensors)
    if options.type == "dinov2_vitb14" and not is_local(options.weights):
        problem = Problem("options.weights", options.weights, "a directory of this machine: code in it is run")
        raise ConfigError("DreamSim's dinov2_vitb14 is not taken from a hub", [problem])
    directory = weights_dir(options.weights, names, kind=KIND)
    found = require_files(directory, names, kind=KIND)
    code = (directory / HUB_CODE).rglob("*.py") if options.type == "dinov2_vitb14" else ()
    return directory, sorted({*found, *code})


def load_dreamsim(directory: Path, *, model_type: str, placement: Placement) -> tuple[Any, Any]:
    """The package's model with its adapter merged, and its own preparation of a PIL image -> [1,3,224,224] in [0,1].

    The model's `embed` takes [B,3,224,224] and gives raw embeddings [B,D], neither centred nor scaled.

    Args:
        directory: holds the files that `find_files` names.
        model_type: the package's dreamsim_type.
        placement: where the model goes.

    Raises:
        ConfigError: a file has another layout.
    """
    try:
        with _quiet_package(), _hub_in(directory):
            from dreamsim import dreamsim

            model, prepare = dreamsim(
                device=str(placement.device), cache_dir=str(directory), normalize_embeds=False, dreamsim_type=model_type
            )
            _check_adapter(model, directory / adapter(model_type))
            merged: Any = placement.put(model.merge_and_unload())
    except ConfigError:
        raise
    except UNREADABLE as error:
        reason = f"{type(error).__name__}: {str(error)[:300]}"
        problem = Problem("options.weights", f"{directory} ({reason})", f"the public files of DreamSim {model_type}")
        raise ConfigError("DreamSim's weight files have another layout", [problem]) from error
    for extractor in merged.extractor_list:
        if isinstance(getattr(extractor, "proj", None), torch.Tensor):
            extractor.proj = extractor.proj.to(placement.device, placement.dtype)  # no parameter: `put` leaves it
    return merged, prepare


def _check_adapter(model: Any, folder: Path) -> None:
    """peft only warns where an adapter's keys do not fit, and goes on with a model that lacks it."""
    from peft import get_peft_model_state_dict

    path = require_files(folder, [("adapter_model.safetensors", "adapter_model.bin")], kind=KIND)[0]
    wanted, found = set(get_peft_model_state_dict(model)), set(load_tensors(path, kind=KIND))
    if wanted != found:
        odd = sorted(wanted ^ found)
        got = f"{len(odd)} keys that differ, the first is {odd[0]!r}"
        problem = Problem("options.weights", f"{path} ({got})", "the adapter that the package saved")
        raise ConfigError("DreamSim's adapter has another layout", [problem])


@contextmanager
def _quiet_package() -> Iterator[None]:
    """Silence what the package says although nothing is wrong: it prints, and it wraps the adapter twice."""
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
        warnings.filterwarnings("ignore", message="Found missing adapter keys")  # `_check_adapter` refuses them
        warnings.filterwarnings("ignore", message=r"`?torch.nn.utils.weight_norm", category=FutureWarning)
        warnings.filterwarnings("ignore", category=UserWarning, message="xFormers is not available")
        yield


@contextmanager
def _hub_in(directory: Path) -> Iterator[None]:
    """Let the package's calls of `torch.hub.load` find their models in a directory, without a network or a pickle.

    The hub's own loader asks the network which branch is current and reads checkpoints with a plain pickle. Its
    directory, which the package changes, is put back. For one thread at a time: rewards are built under a lock.
    """
    before, load = torch.hub.get_dir(), torch.hub.load

    def load_here(_repository: str, model: str, **_: Any) -> Any:
        from dreamsim.feature_extraction.vision_transformer import vit_base

        net: Any
        if model == "dinov2_vitb14":
            found, net = DINOV2, load(str(directory / HUB_CODE), model, source="local", pretrained=False)
        else:
            found, net = DINO, vit_base(patch_size=16)  # the package's copy of the DINO code
        path = require_files(directory, [found], kind=KIND)[0]
        load_strict(net, load_tensors(path, kind=KIND), path=path, kind=KIND)
        return net

    torch.hub.load = load_here
    try:
        yield
    finally:
        torch.hub.load = load
        torch.hub.set_dir(before)
