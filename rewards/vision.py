"""What the real vision rewards share: where a model runs, images as the public packages take them, a frozen encoder.

Called by the rewards that hold a model. An encoder's pre-processing is the public package's own, on 8-bit PIL images,
so that the numbers are those that its users know. Legend: B batch, S side of the model's input, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from burnish.data.errors import ConfigError, Problem
from burnish.data.images import to_uint8
from burnish.data.records import Box, Example
from burnish.rewards.encoders import FeatureCache, cosine
from burnish.rewards.regions import MIN_SIDE, region_box
from burnish.rewards.weights import WEIGHTS

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")
Module = TypeVar("Module", bound=torch.nn.Module)


class ModelOptions(BaseModel):
    """Where a model's files are and how it runs."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    weights: str = Field(min_length=1, description=WEIGHTS, json_schema_extra={"run_option": True})
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto = the GPU where there is one, else the CPU; or cpu, cuda, cuda:1",
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        default="auto", description="precision of the model; auto = float16 on a GPU, float32 on the CPU"
    )


class VisionOptions(ModelOptions):
    """A model that looks at the edit region or at the whole frame."""

    region: Literal["box", "frame"] = Field(
        default="box", description="what is looked at: box = the edit region's box, frame = the whole image"
    )
    min_side: int = Field(default=64, ge=MIN_SIDE, description="side in pixels that a smaller region is grown to")


@dataclass(frozen=True)
class Placement:
    """Device and precision of a model."""

    device: torch.device
    dtype: torch.dtype

    def put(self, model: Module) -> Module:
        """The model moved there, frozen and in evaluation mode."""
        return model.to(device=self.device, dtype=self.dtype).eval().requires_grad_(False)


def place(options: ModelOptions) -> Placement:
    """Device and precision that the options ask for.

    Raises:
        ConfigError: a GPU is asked for that this machine does not have.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    device = torch.device(("cuda" if count else "cpu") if options.device == "auto" else options.device)
    if device.type == "cuda" and (device.index or 0) >= count:
        allowed = f"cpu or auto, or one of the {count} CUDA devices of this machine"
        raise ConfigError("the device is not there", [Problem("options.device", options.device, allowed)])
    automatic = "float16" if device.type == "cuda" else "float32"
    return Placement(device, getattr(torch, automatic if options.dtype == "auto" else options.dtype))


def to_pil(image: np.ndarray) -> Image:
    """An 8-bit RGB image of float32 [3,H,W]; clipped to [0,1], rounded half up; NaN = black."""
    from PIL import Image

    levels = to_uint8(np.nan_to_num(image))  # the pixels that a saved image has
    return Image.fromarray(np.ascontiguousarray(levels.transpose(1, 2, 0)))


def finite_rows(images: np.ndarray) -> np.ndarray:
    """Bool [B]: the rows of [B,3,H,W] that hold no NaN or infinity; the others' scores are missing."""
    return np.array([bool(np.isfinite(image).all()) for image in images])


def crop(image: np.ndarray, box: Box) -> np.ndarray:
    """The half-open box of [3,H,W] as contiguous [3,h,w]."""
    x1, y1, x2, y2 = box
    return np.ascontiguousarray(image[:, y1:y2, x1:x2])


def crop_pil(image: np.ndarray, box: Box) -> Image:
    """The half-open box of float32 [3,H,W] in [0,1] as an 8-bit RGB image."""
    return to_pil(crop(image, box))


class CountedCache(Generic[T]):
    """Features of targets and references by content, with counts of what was computed and what was found.

    Args:
        compute: float32 [3,h,w] -> features; called alone, so they never depend on a batch.
        limit: entries kept; the longest unused goes first.
    """

    def __init__(self, compute: Callable[[np.ndarray], T], *, limit: int) -> None:
        self.embedded = 0
        self.hits = 0
        self._compute = compute
        self._entries: FeatureCache[T] = FeatureCache(limit=limit)

    def get(self, image: np.ndarray) -> T:
        """Features of an image float32 [3,h,w] in [0,1]."""
        before = self.embedded
        features = self._entries.get(image, self._counted)
        self.hits += self.embedded == before
        return features

    def take_counters(self) -> dict[str, float]:
        """What was computed (embedded) and what was found (cache_hits) since the last call."""
        counters = {"embedded": float(self.embedded), "cache_hits": float(self.hits)}
        self.embedded = self.hits = 0
        return counters

    def _counted(self, image: np.ndarray) -> T:
        self.embedded += 1
        return self._compute(image)


class FrozenEncoder:
    """A frozen vision model with its own pre-processing, and a cache for images that are asked for again.

    Args:
        preprocess: PIL image -> float32 [3,S,S], the public package's own.
        forward: [B,3,S,S] in the placement's precision -> [B,...], features of each row from that row alone.
        placement: where the model is.
        limit: images whose features are kept by content.
    """

    def __init__(
        self,
        preprocess: Callable[[Image], torch.Tensor],
        forward: Callable[[torch.Tensor], torch.Tensor],
        *,
        placement: Placement,
        limit: int = 256,
    ) -> None:
        self._preprocess = preprocess
        self._forward = forward
        self._placement = placement
        self._cache = CountedCache(self._alone, limit=limit)
        self.take_counters = self._cache.take_counters

    def embed(self, images: Sequence[Image]) -> np.ndarray:
        """Features float32 [B,...] of B images in one model call."""
        with torch.inference_mode():
            rows = torch.stack([self._preprocess(image) for image in images])
            return self._forward(rows.to(self._placement.device, self._placement.dtype)).float().cpu().numpy()

    def embed_in_batches(self, images: Sequence[Image], *, batch: int) -> np.ndarray:
        """Features float32 [N,...] of N >= 1 images by calls of `batch` rows; a short one repeats the last image."""
        padded = [*images, *[images[-1]] * (-len(images) % batch)]
        parts = [self.embed(padded[start : start + batch]) for start in range(0, len(padded), batch)]
        return np.concatenate(parts)[: len(images)]

    def cached(self, image: np.ndarray) -> np.ndarray:
        """Features float32 [...] of one image float32 [3,h,w] in [0,1]; computed once, by a call of one row."""
        return self._cache.get(image)

    def _alone(self, image: np.ndarray) -> np.ndarray:
        return self.embed([to_pil(image)])[0]


def seen_box(example: Example, *, height: int, width: int, options: VisionOptions) -> Box | None:
    """The box that the options look at; None where it is the region's and the mask is empty."""
    if options.region == "frame":
        return 0, 0, width, height
    return region_box(example, height=height, width=width, min_side=options.min_side)


def encoder_cosine(
    images: np.ndarray,
    examples: Sequence[Example],
    *,
    encoder: FrozenEncoder,
    options: VisionOptions,
    wanted: Callable[[Example, Box], np.ndarray | None],
    similarity: Callable[[np.ndarray, np.ndarray], np.ndarray] = cosine,
) -> np.ndarray:
    """Float32 [B] similarity of each output with the image that its example wants; NaN where that is None.

    All B rows go through the model in one call, or none where no row applies. A row that is not finite is NaN too.

    Args:
        images: float32 [B,3,H,W] in [0,1].
        examples: B entries; one that stands in several rows is asked once.
        encoder: what embeds the outputs, and the wanted images by content.
        options: what part of the output is looked at.
        wanted: (example, box looked at) -> image float32 [3,h,w] in [0,1], or None where the reward does not apply.
        similarity: (features [...] of the output, of the wanted image) -> a number.
    """
    height, width = images.shape[2:]
    unique = {id(e): e for e in examples}
    boxes = {key: seen_box(e, height=height, width=width, options=options) for key, e in unique.items()}
    asked = {key: None if (box := boxes[key]) is None else wanted(e, box) for key, e in unique.items()}
    if all(image is None for image in asked.values()):
        return np.full(len(images), np.nan, np.float32)
    goals = {key: encoder.cached(image) for key, image in asked.items() if image is not None}
    frame = (0, 0, width, height)
    rows = zip(images, examples, strict=True)
    ours = encoder.embed([crop_pil(image, boxes[id(e)] or frame) for image, e in rows])
    pairs = zip(ours, [goals.get(id(e)) for e in examples], strict=True)
    values = [np.nan if goal is None else float(similarity(row, goal)) for row, goal in pairs]
    return np.where(finite_rows(images), values, np.nan).astype(np.float32)
