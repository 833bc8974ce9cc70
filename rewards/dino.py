"""DINOv2 and DINOv3 similarity: cosine of image embeddings, through transformers.

Called by the reward server. Legend: B batch, N tokens, D features, S side of the input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from burnish.data.records import Example
from burnish.rewards.against import AgainstOptions, compared_image
from burnish.rewards.towers import transformers_tower
from burnish.rewards.vision import FrozenEncoder, encoder_cosine, place

KIND = "dino"
MODELS = {"dinov2": "Dinov2Model", "dinov3_vit": "DINOv3ViTModel"}
"""`model_type` in a directory of transformers -> class."""
POOLINGS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "cls": lambda tokens: tokens[:, 0],
    "mean": lambda tokens: tokens.mean(dim=1),
}
"""Last hidden state [B,N,D], the class token first -> embedding [B,D]."""


class DinoOptions(AgainstOptions):
    """What the files hold decides between DINOv2 and DINOv3."""

    pooling: Literal["cls", "mean"] = Field(
        default="cls",
        description="cls: the class token (OmniRefiner, DyRef's reward); mean: all tokens of the last hidden state, "
        "class and register tokens too (OmniRef-Bench)",
    )


class Dino:
    """Cosine of the DINO embeddings of output and target, or of a reference; 1 for the same picture.

    Missing where there is nothing to compare with or the mask is empty.
    """

    Options = DinoOptions
    name = KIND
    direction = 1
    range = (-1.0, 1.0)
    needs_weights = True
    preprocessing = 1

    def __init__(self, options: DinoOptions) -> None:
        self.options = options
        placement = place(options)
        tower = transformers_tower(options.weights, models=MODELS, kind=KIND)
        self.weights_digest = tower.digest
        forward = partial(_embed, placement.put(tower.model), pooling=options.pooling)
        self._encoder = FrozenEncoder(tower.preprocess, forward, placement=placement)
        self.take_counters = self._encoder.take_counters

    def score(self, images: np.ndarray, examples: Sequence[Example]) -> np.ndarray:
        """Float32 [B] in [-1,1] of images [B,3,H,W] in [0,1]; NaN = missing."""
        wanted = partial(compared_image, options=self.options)
        return encoder_cosine(images, examples, encoder=self._encoder, options=self.options, wanted=wanted)


def _embed(model: Any, pixels: torch.Tensor, *, pooling: str) -> torch.Tensor:
    """Embeddings [B,D] of pixels [B,3,S,S]."""
    return POOLINGS[pooling](model(pixel_values=pixels).last_hidden_state.float())
