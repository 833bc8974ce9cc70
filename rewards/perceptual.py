"""Perceptual rewards per patch of the region: the papers' arithmetic, and a stand-in that needs no download.

Formula helpers are pure numpy and take embeddings from whatever encoder there is. Called by the reward server. Legend:
B batch, K patches, D embedding, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from burnish.data.errors import ConfigError
from burnish.data.records import Box, Example
from burnish.rewards.encoders import ConvEncoder, FeatureCache, cosine, unit
from burnish.rewards.regions import MIN_SIDE, crop_resized, region_box


def patch_tiling(box: Box, *, patch: int) -> tuple[Box, ...]:
    """Row-major windows of `patch` pixels over a half-open box, the last ones clipped to it (OmniRefiner eq. 7)."""
    x1, y1, x2, y2 = box
    rows = [(y, min(y + patch, y2)) for y in range(y1, y2, patch)]
    columns = [(x, min(x + patch, x2)) for x in range(x1, x2, patch)]
    return tuple((left, top, right, bottom) for top, bottom in rows for left, right in columns)


def region_patches(example: Example, *, height: int, width: int, patch: int, min_side: int) -> tuple[Box, ...]:
    """Windows over the example's region, those without a region pixel dropped (OmniRefiner eq. 7).

    A region smaller than `min_side` is grown to it first. Empty for an empty mask.
    """
    box = region_box(example, height=height, width=width, min_side=min_side)
    if box is None:
        return ()
    windows = patch_tiling(box, patch=patch)
    if example.mask is None:
        return windows
    return tuple(w for w in windows if example.mask[0, w[1] : w[3], w[0] : w[2]].any())


def centred_unit(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings [...,D] centred, then scaled to length 1, as DreamSim 0.2.1 does; so L2 = sqrt(2 cosine distance)."""
    return unit(embeddings - embeddings.mean(axis=-1, keepdims=True), axis=-1)


def patch_distance_reward(output: np.ndarray, target: np.ndarray, *, form: str = "l2") -> float:
    """Negative mean over patches of the embeddings' distance, R_ds (OmniRefiner eq. 7).

    Args:
        output: [K,D] raw embeddings of the output's patches.
        target: [K,D] raw embeddings of the target's patches.
        form: "l2", the paper's, in [-2,0]; or "cosine" (1 - cosine), the package's own distance, in [-2,0].

    Raises:
        ConfigError: unknown form.
    """
    a, b = centred_unit(output), centred_unit(target)
    if form == "l2":
        return -float(np.sqrt(np.square(a - b).sum(axis=-1)).mean())
    if form == "cosine":
        return -float((1 - cosine(a, b)).mean())
    raise ConfigError(f"patch distance form must be 'l2' or 'cosine', got {form!r}")


def omnirefiner_total_reward(r_ds: float, r_mm: float, *, lam: float = 0.5) -> float:
    """(1 - lambda) R_ds + lambda R_mm (OmniRefiner eq. 8; lambda is not published).

    In a rubric this is `aggregation: weighted_sum` with weights 1 - lambda and lambda.
    """
    return (1 - lam) * r_ds + lam * r_mm


def feature_distance(maps: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
    """Distance of feature maps as LPIPS forms it, without learned weights: float64 [B] in [0,4].

    Every position's channel vector is scaled to length 1; squared differences are summed over channels and averaged
    over positions, then over layers.

    Args:
        maps: a list of [B,C,h,w].
        targets: the same shapes.
    """
    layers = [np.square(unit(a, axis=1) - unit(b, axis=1)).sum(axis=1) for a, b in zip(maps, targets, strict=True)]
    return np.mean([layer.mean(axis=(1, 2), dtype=np.float64) for layer in layers], axis=0)


class PerceptualOptions(BaseModel):
    """How the region is cut up and looked at."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    size: int = Field(default=24, ge=8, multiple_of=4, description="side in pixels that a patch is resized to")
    patch: int = Field(default=512, ge=MIN_SIDE, description="side in pixels of a patch of the region")
    min_side: int = Field(default=8, ge=MIN_SIDE, description="side in pixels that a smaller region is grown to")


class ToyPerceptual:
    """Negative distance of fixed random features between output and target, mean over the region's patches.

    Stands in for DreamSim and LPIPS; missing where there is no target or the mask is empty.
    """

    Options = PerceptualOptions
    name = "toy_perceptual"
    direction = 1
    range = (-4.0, 0.0)
    needs_weights = False
    preprocessing = 1

    def __init__(self, options: PerceptualOptions) -> None:
        self.options = options
        self._encoder = ConvEncoder(self.name, size=options.size)
        self._cache: FeatureCache[list[np.ndarray]] = FeatureCache()

    def score(self, images: np.ndarray, examples: Sequence[Example]) -> np.ndarray:
        """Float32 [B] in [-4,0] of images [B,3,H,W] in [0,1]; NaN = missing."""
        unique = {id(e): e for e in examples}  # a group shares one example: its target is looked at once
        windows = {key: self._windows(e, images.shape[2:]) for key, e in unique.items()}
        counts = np.array([len(windows[id(e)]) for e in examples])
        total = np.zeros(len(examples))
        for k in range(max(counts)):
            total += np.where(k < counts, self._distances(images, examples, windows=windows, k=k), 0)
        return np.where(counts > 0, -total / np.maximum(counts, 1), np.nan).astype(np.float32)

    def _windows(self, example: Example, frame: tuple[int, ...]) -> tuple[Box, ...]:
        if example.target is None:
            return ()
        patch, min_side = self.options.patch, self.options.min_side
        return region_patches(example, height=frame[0], width=frame[1], patch=patch, min_side=min_side)

    def _distances(
        self, images: np.ndarray, examples: Sequence[Example], *, windows: dict[int, tuple[Box, ...]], k: int
    ) -> np.ndarray:
        """Float64 [B] distance of every row's k-th patch; rows with fewer patches give a value nobody reads."""
        frame = (0, 0, images.shape[3], images.shape[2])
        boxes = [windows[id(e)][k] if k < len(windows[id(e)]) else frame for e in examples]
        maps = self._encoder.features(self._crops(images, boxes))
        wanted = {}
        for e, box, image in zip(examples, boxes, images, strict=True):
            if id(e) not in wanted:
                crops = self._crops([image if e.target is None else e.target], [box])
                wanted[id(e)] = self._cache.get(crops, self._encoder.features)
        rows = [wanted[id(e)] for e in examples]
        return feature_distance(maps, [np.concatenate(layer) for layer in zip(*rows, strict=True)])

    def _crops(self, images: Sequence[np.ndarray] | np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
        crops = [crop_resized(i, b, size=self.options.size) for i, b in zip(images, boxes, strict=True)]
        return np.stack(crops)
