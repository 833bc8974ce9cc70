"""LPIPS between output and target in the region, or between output and input around it, through the `lpips` package.

The linear heads come with the package; the trunk is torchvision's AlexNet or VGG16, from a local file. Called by the
reward server. Legend: B batch, C channels, H W pixels.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from burnish.data.masks import mask_bbox
from burnish.data.records import Box, Example
from burnish.rewards.regions import region_box, resize_matrix
from burnish.rewards.vision import CountedCache, ModelOptions, crop, finite_rows, place
from burnish.rewards.weights import Name, files_digest, load_strict, load_tensors, weights_file

KIND = "lpips"
FILES: dict[str, Name] = {
    "alex": ("alexnet-owt-7be5be79.pth", "alexnet.pth", "alexnet.safetensors"),
    "vgg": ("vgg16-397923af.pth", "vgg16.pth", "vgg16.safetensors"),
}
"""Trunk -> names of its file in a directory; the first is that of torchvision's download."""
SMALLEST = 32
"""Side in pixels below which a trunk has no output left: what is smaller is enlarged to it."""
Features = list[torch.Tensor]
"""The trunk's five maps [1,C,h,w], scaled to length 1 over channels."""


class LPIPSOptions(ModelOptions):
    """Which LPIPS, and what is compared with what."""

    net: Literal["alex", "vgg"] = Field(default="alex", description="trunk: alex is LPIPS's own default, vgg is slower")
    region: Literal["box", "frame", "outside_copied"] = Field(
        default="box",
        description="box = output and target in the edit region's box; frame = both whole; outside_copied = output and "
        "input, whole, after the input's box is copied into the output: what changed around it (RefineAnything)",
    )
    min_side: int = Field(default=64, ge=SMALLEST, description="side in pixels that a smaller region is grown to")


class LPIPS:
    """Negative LPIPS distance, version 0.1, in [-8,0]: 0 = equal.

    Missing where there is no target (`outside_copied`: no input, no mask, or nothing outside its box) and where the
    region is asked for and the mask is empty. The lowest value is below what the package's heads allow.

    Raises:
        ConfigError: the trunk's file is missing or has another layout, or the device is not there.
    """

    Options = LPIPSOptions
    name = KIND
    direction = 1
    range = (-8.0, 0.0)
    needs_weights = True
    preprocessing = 1

    def __init__(self, options: LPIPSOptions) -> None:
        self.options = options
        path = weights_file(options.weights, FILES[options.net], kind=KIND)
        digests = files_digest([path]) + files_digest([heads_file(options.net)])
        self.weights_digest = hashlib.sha256(digests.encode()).hexdigest()
        self._placement = place(options)
        self._model = load_lpips(path, net=options.net).to(self._placement.device)
        self._goals: CountedCache[Features] = CountedCache(lambda image: self._features(np.stack([image])), limit=8)
        self.take_counters = self._goals.take_counters

    def score(self, images: np.ndarray, examples: Sequence[Example]) -> np.ndarray:
        """Float32 [B] in [-8,0] of images [B,3,H,W] in [0,1]; NaN = missing."""
        frame: Box = (0, 0, images.shape[3], images.shape[2])
        looks = {key: self._look(e, frame) for key, e in {id(e): e for e in examples}.items()}
        lanes: dict[tuple[int, ...], list[int]] = {}  # rows whose crops have one size share a call
        for row, example in enumerate(examples):
            if (look := looks[id(example)]) is not None:
                lanes.setdefault(look.goal.shape, []).append(row)
        values = np.full(len(images), np.nan, np.float32)
        for rows in lanes.values():
            chosen = [look for row in rows if (look := looks[id(examples[row])]) is not None]
            values[rows] = -self._distances(images[rows], chosen, batch=len(images))
        return np.where(finite_rows(images), values, np.nan).astype(np.float32)

    def _look(self, example: Example, frame: Box) -> Look | None:
        region = self.options.region
        if region == "outside_copied":
            return outside_look(example, frame)
        box = (
            frame
            if region == "frame"
            else region_box(example, height=frame[3], width=frame[2], min_side=self.options.min_side)
        )
        if box is None or example.target is None:
            return None
        return Look(box, None, enlarged(crop(example.target, box)))

    def _distances(self, images: np.ndarray, looks: Sequence[Look], *, batch: int) -> np.ndarray:
        """Float64 [N] of N rows of one size; all steps have `batch` rows, the last real one repeated."""
        count, rows = len(looks), [*looks, *[looks[-1]] * (batch - len(looks))]
        crops = [look.seen(image) for image, look in zip(images, looks, strict=True)]
        ours = self._features(np.stack([*crops, *[crops[-1]] * (batch - count)]))
        goals = {key: self._goals.get(look.goal) for key, look in {id(look): look for look in looks}.items()}
        total = np.zeros(batch)
        with torch.inference_mode():
            for layer, (head, maps) in enumerate(zip(self._model.lins, ours, strict=True)):
                wanted = torch.cat([goals[id(look)][layer] for look in rows])
                total += head(torch.square(maps - wanted)).mean(dim=(1, 2, 3)).cpu().numpy()
        return total[:count]

    def _features(self, crops: np.ndarray) -> Features:
        """The trunk's maps [B,C,h,w] of crops [B,3,h,w] in [0,1]: in half precision on a GPU, scaled in float32."""
        import lpips

        device, dtype = self._placement.device, self._placement.dtype
        with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            scaled = self._model.scaling_layer(torch.from_numpy(crops).to(device) * 2 - 1)
            return [lpips.normalize_tensor(maps.float()) for maps in self._model.net(scaled)]


@dataclass(frozen=True, eq=False)
class Look:
    """What is compared for one example.

    Args:
        box: the part of the output.
        inside: [3,h,w] and its box, copied over the output first; None = nothing.
        goal: [3,h,w] that the part should equal.
    """

    box: Box
    inside: tuple[np.ndarray, Box] | None
    goal: np.ndarray

    def seen(self, image: np.ndarray) -> np.ndarray:
        """The part of an output [3,H,W] that is compared."""
        if self.inside is not None:
            content, (x1, y1, x2, y2) = self.inside
            image = image.copy()
            image[:, y1:y2, x1:x2] = content
        return enlarged(crop(image, self.box))


def outside_look(example: Example, frame: Box) -> Look | None:
    """Output and input outside the mask's box; None where there is no input, no mask or nothing outside."""
    if example.image is None or example.mask is None or not (example.mask > 0).any():
        return None
    box = mask_bbox(example.mask)
    return None if box == frame else Look(frame, (crop(example.image, box), box), enlarged(example.image))


def enlarged(image: np.ndarray) -> np.ndarray:
    """[3,h,w] with sides of at least 32 pixels, bilinear; larger sides stay as they are."""
    height, width = (max(side, SMALLEST) for side in image.shape[1:])
    if (height, width) == image.shape[1:]:
        return image
    return resize_matrix(image.shape[1], height) @ image @ resize_matrix(image.shape[2], width).T


def heads_file(net: str) -> Path:
    """The package's own file of linear heads."""
    import lpips

    return Path(lpips.__file__).parent / "weights" / "v0.1" / f"{net}.pth"


def load_lpips(path: Path, *, net: str) -> Any:
    """The package's model with its heads and a trunk from torchvision's file, in float32 on the CPU.

    Args:
        path: torchvision's state dict; of its classifier nothing is read.
        net: "alex" or "vgg".

    Raises:
        ConfigError: the file cannot be read or has another layout.
    """
    import lpips

    state = load_tensors(path, kind=KIND)
    with warnings.catch_warnings():  # the package calls torchvision as it was before 0.13
        warnings.filterwarnings("ignore", message="The parameter 'pretrained' is deprecated", category=UserWarning)
        warnings.filterwarnings("ignore", message="Arguments other than a weight enum", category=UserWarning)
        model = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    names = {f"features.{name.split('.', 1)[1]}": name for name in model.net.state_dict()}  # slice1.0.weight
    trunk = {names.get(key, key): value for key, value in state.items() if not key.startswith("classifier.")}
    load_strict(model.net, trunk, path=path, kind=KIND)
    return model.eval().requires_grad_(False)
