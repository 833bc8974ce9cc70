"""Small frozen convolution encoders for the `toy_*` rewards: real arithmetic, no download.

Weights are drawn by layer name from a fixed key, so every process holds the same ones. Every forward has the shape
[B,3,S,S] whatever the image's size: regions are resized to S first. Used by the toy rewards only; never trained, never
given a real metric's name. Legend: B batch, C channels, S side of the encoder's input, H W pixels.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np
import torch
import torch.nn.functional as F

from burnish.data.seeding import normal

WEIGHT_SEED = 0
LAYERS = (("fine", 3, 12, 1), ("middle", 12, 16, 2), ("coarse", 16, 32, 2))
"""(name, channels in, channels out, stride) of the 3x3 convolutions, from the input on."""


class ConvEncoder:
    """Three 3x3 convolutions at full, half and quarter resolution; float32, CPU.

    Args:
        name: part of the weights' key; two names are two encoders.
        size: S, side in pixels of the input.
    """

    def __init__(self, name: str, *, size: int) -> None:
        self.size = size
        self._layers = [_draw_layer(name, *layer) for layer in LAYERS]

    def features(self, crops: np.ndarray) -> list[np.ndarray]:
        """Signed feature maps, fine to coarse: float32 [B,C,S/s,S/s] before the activation.

        Args:
            crops: float32 [B,3,S,S] in [0,1].
        """
        maps = []
        with torch.inference_mode():
            hidden = torch.from_numpy(crops) * 2 - 1
            for weight, bias, stride in self._layers:
                hidden = F.conv2d(hidden, weight, bias, stride=stride, padding=1)
                maps.append(hidden.numpy())
                hidden = F.relu(hidden)
        return maps


def _draw_layer(name: str, layer: str, c_in: int, c_out: int, stride: int) -> tuple[torch.Tensor, torch.Tensor, int]:
    scale = np.float32((2 / (9 * c_in)) ** 0.5)  # He initialisation: the signal keeps its size through the layers
    weight = normal((c_out, c_in, 3, 3), WEIGHT_SEED, "toy-encoder", name, layer, "weight") * scale
    bias = normal((c_out,), WEIGHT_SEED, "toy-encoder", name, layer, "bias") * np.float32(0.1)
    return torch.from_numpy(weight), torch.from_numpy(bias), stride


T = TypeVar("T")


class FeatureCache(Generic[T]):
    """Features of targets and references by the sha256 of their content.

    At most `limit`; the longest unused goes first. Each is computed alone, so it never depends on a batch beside it.
    """

    def __init__(self, *, limit: int = 64) -> None:
        self.limit = limit
        self._entries: OrderedDict[bytes, T] = OrderedDict()

    def get(self, content: np.ndarray, compute: Callable[[np.ndarray], T]) -> T:
        """`compute(content)`, or the result kept from the last time the same bytes and shape were asked for."""
        key = hashlib.sha256(repr(content.shape).encode() + content.tobytes()).digest()
        if key not in self._entries:
            self._entries[key] = compute(content)
            while len(self._entries) > self.limit:
                self._entries.popitem(last=False)
        self._entries.move_to_end(key)
        return self._entries[key]

    def __len__(self) -> int:
        return len(self._entries)


def unit(values: np.ndarray, *, axis: int | Sequence[int]) -> np.ndarray:
    """`values` divided by their Euclidean norm along `axis`; a zero vector stays zero."""
    axes = axis if isinstance(axis, int) else tuple(axis)
    norm = np.sqrt(np.square(values).sum(axis=axes, keepdims=True))
    return values / np.maximum(norm, np.finfo(values.dtype).tiny)


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of vectors [...,D], clipped to [-1,1]; 0 where one is zero. What CLIP-I, DINO, CSD and SigLIP report."""
    return np.clip((unit(a, axis=-1) * unit(b, axis=-1)).sum(axis=-1), -1, 1)
