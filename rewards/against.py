"""What an output is compared with: the target's region, or a reference of one kind.

Called by the rewards that are a cosine of image embeddings. Knows no encoder. Legend: H W pixels.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from burnish.data.records import REFERENCE_KINDS, Box, Example
from burnish.rewards.vision import VisionOptions, crop


class AgainstOptions(VisionOptions):
    """A model that compares what it looks at with the target or with a reference."""

    against: str = Field(
        default="target",
        pattern=rf"^(target|reference:({'|'.join(REFERENCE_KINDS)}))$",
        description="what outputs are compared with: target = its same region; "
        f"reference:KIND = the first reference of that kind, whole, KIND one of {', '.join(REFERENCE_KINDS)}",
    )


def compared_image(example: Example, box: Box, *, options: AgainstOptions) -> np.ndarray | None:
    """The image float32 [3,h,w] in [0,1] that an output's box is compared with; None where the example has none.

    Args:
        example: whose target and references.
        box: half-open, what of the output is looked at.
        options: which image is wanted.
    """
    _, _, kind = options.against.partition(":")
    if kind:
        return next((r.image for r in example.references if r.kind == kind), None)
    whole = options.region == "frame" or example.mask is None  # a target without a mask may differ in size from outputs
    return example.target if whole or example.target is None else crop(example.target, box)
