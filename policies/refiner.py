"""The refiner: the one path from an example to a refined image with every other pixel untouched.

Focus-and-Refine (RefineAnything section 3.2): crop round the region, resize to the model, sample, resize back, blend,
paste. Evaluation, agents, serving and `burnish refine` call it; it never trains.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import Field

from burnish.data.errors import CheckpointError, DataError, Problem
from burnish.data.images import resize
from burnish.data.masks import blend_reach
from burnish.data.paste import paste_back
from burnish.data.records import Example, SamplerSpec
from burnish.policies.digests import base_digest
from burnish.policies.focus import FocusConfig, focus_box, focus_view
from burnish.policies.protocol import Policy
from burnish.policies.sampling import keyed_noise, render
from burnish.policies.snapshot import FORMAT_VERSION, load_adapter, load_base


class RefinerConfig(FocusConfig):
    """How an image of any size meets a model of one size, and how the result is blended in."""

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
        reach = blend_reach(self.config.dilate_size, self.config.blur_size)
        box = focus_box(mask, self.config, min_margin=reach + 1)
        view = focus_view(replace(example, mask=mask, target=None), self.config, box=box)
        generated = self._generate(view, seed)
        full = resize(generated, height=box[3] - box[1], width=box[2] - box[0])
        sizes = {"dilate_size": self.config.dilate_size, "blur_size": self.config.blur_size}
        return paste_back(example.image, full, mask, box=box, **sizes)

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
