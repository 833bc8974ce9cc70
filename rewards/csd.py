"""Style likeness by CSD: the cosine of style vectors of the output and of the style reference.

The model is CLIP's ViT-L/14 vision tower with two matrices in place of its projection; built through open_clip, loaded
from the public checkpoint. Called by the reward server. Legend: B batch, S side of the model's input, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from pydantic import Field

from burnish.data.errors import ConfigError, Problem
from burnish.data.records import Box, Example
from burnish.rewards.style import style_reference
from burnish.rewards.vision import FrozenEncoder, VisionOptions, encoder_cosine, place
from burnish.rewards.weights import files_digest, load_strict, load_tensors, weights_file

if TYPE_CHECKING:
    from PIL.Image import Image

KIND = "csd"
FILES = ("pytorch_model.bin", "checkpoint.pth", "model.safetensors")
"""Names of the checkpoint in a directory or a hub repository; the first is that of tomg-group-umd/CSD-ViT-L."""
HEADS = ("last_layer_style", "last_layer_content")
"""The checkpoint's two matrices, [features, D] each; the reward reads the first."""


class CSDOptions(VisionOptions):
    """Which CSD model, and what it looks at."""

    region: Literal["box", "frame"] = Field(
        default="frame", description="what is looked at: frame = the whole output (DyRef), box = the edit region's box"
    )
    model: str = Field(
        default="ViT-L-14-quickgelu", description="open_clip's name of the vision tower that the checkpoint is of"
    )


class StyleTower(torch.nn.Module):
    """CLIP's vision tower without its projection, and CSD's two heads; keys as in the public checkpoint.

    Args:
        backbone: open_clip's tower, `proj` None.
        shapes: head -> its shape in the checkpoint, [features, D].
    """

    def __init__(self, backbone: torch.nn.Module, shapes: dict[str, torch.Size]) -> None:
        super().__init__()
        self.backbone = backbone
        self.last_layer_style = torch.nn.Parameter(torch.empty(shapes["last_layer_style"]))
        self.last_layer_content = torch.nn.Parameter(torch.empty(shapes["last_layer_content"]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Style vectors [B,D], not yet of length 1, of normalised images [B,3,S,S]."""
        return self.backbone(images) @ self.last_layer_style


class CSD:
    """Cosine in [-1,1] of the CSD style vectors of the output and of the first style reference (DyRef's csd_score).

    Missing where there is no style reference, or the region is asked for and the mask is empty.

    Raises:
        ConfigError: the checkpoint is missing or has another layout, no such model, or the device is not there.
    """

    Options = CSDOptions
    name = KIND
    direction = 1
    range = (-1.0, 1.0)
    needs_weights = True
    preprocessing = 1

    def __init__(self, options: CSDOptions) -> None:
        self.options = options
        path = weights_file(options.weights, FILES, kind=KIND)
        self.weights_digest = files_digest([path])
        placement = place(options)
        tower, side = load_csd(path, model=options.model)
        self._encoder = FrozenEncoder(clip_preparation(side), placement.put(tower), placement=placement)
        self.take_counters = self._encoder.take_counters

    def score(self, images: np.ndarray, examples: Sequence[Example]) -> np.ndarray:
        """Float32 [B] in [-1,1] of images [B,3,H,W] in [0,1]; NaN = missing."""
        return encoder_cosine(images, examples, encoder=self._encoder, options=self.options, wanted=_style)


def _style(example: Example, _box: Box) -> np.ndarray | None:
    """The style reference, whole, wherever the region lies."""
    return style_reference(example)


def clip_preparation(side: int) -> Callable[[Image], torch.Tensor]:
    """CSD's `transforms_branch0`: bicubic to `side` at the short edge, centre crop, CLIP's mean and deviation."""
    from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
    from torchvision import transforms

    return transforms.Compose(
        [
            transforms.Resize(side, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(side),
            transforms.ToTensor(),
            transforms.Normalize(OPENAI_DATASET_MEAN, OPENAI_DATASET_STD),
        ]
    )


def load_csd(path: Path, *, model: str) -> tuple[StyleTower, int]:
    """The public checkpoint in open_clip's tower, and S in pixels.

    Args:
        path: a file with `model_state_dict`, or its keys alone; a prefix `module.` is taken off.
        model: open_clip's name of the tower.

    Raises:
        ConfigError: it cannot be read, has another layout, or open_clip does not know the model.
    """
    loaded = load_tensors(path, kind=KIND)
    state = {key.removeprefix("module."): value for key, value in loaded.get("model_state_dict", loaded).items()}
    missing = [head for head in HEADS if not isinstance(state.get(head), torch.Tensor)]
    if missing:
        problem = Problem("options.weights", f"{path} without {missing}", f"CSD's keys backbone.*, {', '.join(HEADS)}")
        raise ConfigError("the CSD checkpoint has another layout", [problem])
    backbone = _empty_tower(model)
    tower = StyleTower(backbone, {head: state[head].shape for head in HEADS})
    load_strict(tower, state, path=path, kind=KIND, assign=True)
    side = backbone.image_size
    return tower, side if isinstance(side, int) else side[0]


def _empty_tower(model: str) -> Any:
    """open_clip's vision tower without storage: nothing is drawn, and the text tower costs nothing."""
    import open_clip

    known = open_clip.list_models()
    if model not in known:
        problem = Problem("options.model", repr(model), "a model that open_clip.list_models() names")
        raise ConfigError("open_clip does not know the model", [problem])
    with torch.device("meta"):
        tower: Any = open_clip.create_model(model, device="meta").visual  # pyright: ignore[reportAttributeAccessIssue]
    tower.proj = None
    return tower
