"""CLIP-I: cosine of CLIP image embeddings (OmniRefiner's and OmniRef-Bench's metric), through open_clip.

Called by the reward server.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from burnish.data.records import Example
from burnish.rewards.against import compared_image
from burnish.rewards.open_clip_towers import CLIP_LOOK, OpenClipOptions, open_clip_tower
from burnish.rewards.vision import FrozenEncoder, encoder_cosine, place

KIND = "clip_i"


class ClipImage:
    """Cosine of the CLIP embeddings of output and target, or of a reference; 1 for the same picture.

    Any model of open_clip. Missing where there is nothing to compare with or the mask is empty.
    """

    Options = OpenClipOptions
    name = KIND
    direction = 1
    range = (-1.0, 1.0)
    needs_weights = True
    preprocessing = 1

    def __init__(self, options: OpenClipOptions) -> None:
        self.options = options
        placement = place(options)
        tower = open_clip_tower(options, kind=KIND, look=CLIP_LOOK)
        self.weights_digest = tower.digest
        self._encoder = FrozenEncoder(tower.preprocess, placement.put(tower.model), placement=placement)
        self.take_counters = self._encoder.take_counters

    def score(self, images: np.ndarray, examples: Sequence[Example]) -> np.ndarray:
        """Float32 [B] in [-1,1] of images [B,3,H,W] in [0,1]; NaN = missing."""
        wanted = partial(compared_image, options=self.options)
        return encoder_cosine(images, examples, encoder=self._encoder, options=self.options, wanted=wanted)
