"""The refiner: the one path from an example to a refined image with every other pixel untouched.

Focus-and-Refine (RefineAnything section 3.2): crop round the region, resize to the model, sample, resize back, blend,
paste. Evaluation, agents, serving and `burnish refine` call it; it never trains.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from burnish.data.crops import cut, focus_crop, model_size
from burnish.data.errors import CheckpointError, DataError, Problem
from burnish.data.images import resize
from burnish.data.masks import blend_reach, mask_bbox
from burnish.data.paste import paste_back
from burnish.data.records import Box, Example, Reference, SamplerSpec
from burnish.policies.protocol import Policy
from burnish.policies.sampling import keyed_noise, render
from burnish.policies.snapshot import FORMAT_VERSION, base_digest, load_adapter, load_base


class RefinerConfig(BaseModel):
    """How an image of any size meets a model of one size."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    margin: float = Field(
        default=0.5, description="context round the edit box, in the frame below", ge=0.0, allow_inf_nan=False
    )
    margin_frame: Literal["box", "pixels", "area1024"] = Field(
        default="box",
        description="what margin counts: box sides, source pixels, or pixels of an image scaled to 1024^2 pixels",
    )
    area: int = Field(default=576, description="pixels of the crop as the model sees it", ge=16)
    multiple: int = Field(default=4, description="sides that the model sees are multiples of this", ge=1)
    reference_area: int = Field(default=144, description="pixels of a reference as the model sees it", ge=16)
    dilate_size: int = Field(
        default=7, description="side of the square that grows the mask before blending, pixels", ge=1
    )
    blur_size: int = Field(default=11, description="side of the Gaussian that softens the mask, pixels, odd", ge=1)


class Refiner:
    """Refines the masked region of an image.

    Args:
        policy: makes the pixels.
        sampler: the deployment sampler, recorded in `snapshot.json`.
        config: crop, sizes and blending.
    """

    def __init__(self, policy: Policy, sampler: SamplerSpec, config: RefinerConfig | None = None) -> None:
        self.policy = policy
        self.sampler = sampler
        self.config = config or RefinerConfig()

    def refine(self, example: Example, *, seed: int = 0) -> np.ndarray:
        """The refined image, float32 [3,H,W]; bit for bit the input where the 8-bit blend mask is 0.

        Args:
            example: image of any size, mask (None = whole frame), references of any size.
            seed: keys the start noise together with the example's id.

        Raises:
            DataError: no image, an empty mask, or a size the policy does not take.
        """
        if example.image is None:
            raise DataError(f"{example.id!r} has no image to refine")
        height, width = example.image.shape[1:]
        mask = np.ones((1, height, width), np.float32) if example.mask is None else example.mask
        box = self._crop(mask, height, width)
        generated = self._generate(self._model_view(example, mask, box), seed)
        full = resize(generated, height=box[3] - box[1], width=box[2] - box[0])
        sizes = {"dilate_size": self.config.dilate_size, "blur_size": self.config.blur_size}
        return paste_back(example.image, full, mask, box=box, **sizes)

    def _crop(self, mask: np.ndarray, height: int, width: int) -> Box:
        box = mask_bbox(mask)
        frame, margin = self.config.margin_frame, self.config.margin
        if frame == "box":
            margin, frame = margin * max(box[2] - box[0], box[3] - box[1]), "pixels"
        reach = blend_reach(self.config.dilate_size, self.config.blur_size)
        return focus_crop(
            box, height=height, width=width, margin=round(margin), margin_frame=frame, min_margin=reach + 1
        )

    def _model_view(self, example: Example, mask: np.ndarray, box: Box) -> Example:
        assert example.image is not None
        config = self.config

        def fitted(image: np.ndarray, area: int, method: str) -> np.ndarray:
            size = model_size(height=image.shape[1], width=image.shape[2], area=area, multiple=config.multiple)
            same = size == image.shape[1:]
            return image if same else resize(image, height=size[0], width=size[1], method=method)

        return replace(
            example,
            image=fitted(cut(example.image, box), config.area, "bicubic"),
            mask=(fitted(cut(mask, box), config.area, "area") > 0).astype(np.float32),
            references=tuple(
                Reference(r.kind, fitted(r.image, config.reference_area, "bicubic")) for r in example.references
            ),
            target=None,
        )

    def _generate(self, example: Example, seed: int) -> np.ndarray:
        conditions = [self.policy.encode(example)]
        noise = keyed_noise(self.policy, conditions, seed=seed, purpose="refine-noise")
        return render(self.policy, conditions, sampler=self.sampler, noise=noise)[0]


def load_refiner(snapshot: Path, *, base: Path) -> Refiner:
    """The refiner of a snapshot: base and adapter by diffusers' own loader, sampler and crop as snapshot.json says.

    Args:
        snapshot: directory with `snapshot.json` and `adapter/`, already verified.
        base: directory of the base, already verified.

    Raises:
        CheckpointError: no snapshot, one written by a newer burnish, or one of another base.
    """
    file = snapshot / "snapshot.json"
    try:
        record = json.loads(file.read_text())
        version, digest = int(record["format_version"]), str(record["base_digest"])
        sampler, config = SamplerSpec(**record["sampler"]), RefinerConfig(**record["refiner"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError("snapshot not readable", [Problem(str(file), str(error), "a snapshot")]) from error
    if version > FORMAT_VERSION:
        raise CheckpointError("snapshot too new", [Problem(str(file), str(version), f"at most {FORMAT_VERSION}")])
    policy = load_base(base)
    found = base_digest(policy.module)
    if found != digest:
        raise CheckpointError("snapshot of another base", [Problem(str(base), found[:12], digest[:12])])
    load_adapter(policy.module, snapshot / "adapter")
    return Refiner(policy, sampler, config)
