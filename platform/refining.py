"""`burnish refine`: one image file, one region, one policy; and the proof that nothing else moved.

Called by `cli_results.py`. The pixels are made by `policies/refiner.py`, the path that evaluation and serving use too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from burnish.data.crops import check_box
from burnish.data.errors import ConfigError, Problem, RefusedError
from burnish.data.images import load_image, load_mask, save_png, to_uint8
from burnish.data.masks import box_mask
from burnish.data.paste import alpha_uint8
from burnish.data.records import Example, Reference, SamplerSpec
from burnish.platform.commands import choose_policy
from burnish.platform.manifest import load_verified
from burnish.platform.runs import Run
from burnish.platform.start_from import BASE
from burnish.policies.refiner import Refiner, load_refiner
from burnish.policies.snapshot import load_start


def read_request(
    image: Path, *, mask: Path | None, box: str | None, references: Sequence[Path], instruction: str
) -> Example:
    """What the user asks for; its id is constant, so that a file's name changes no pixel.

    Raises:
        ConfigError: neither or both of mask and box, or a box that is not four integers.
        DataError: a file that cannot be read, a mask of another size, a box outside the image, too many references.
    """
    if (mask is None) == (box is None):
        raise ConfigError("option refused", [Problem("--mask, --box", "both or none", "one of the two")])
    pixels = load_image(image)
    height, width = pixels.shape[1:]
    if mask is not None:
        region = load_mask(mask)
    else:
        corners = _corners(str(box))
        check_box(corners, height=height, width=width)
        region = box_mask(corners, height=height, width=width)
    found = tuple(Reference("detail", load_image(path, min_side=1)) for path in references)
    return Example("request", instruction, pixels, region, references=found)


def _corners(text: str) -> tuple[int, int, int, int]:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4 or not all(part.isdecimal() for part in parts):
        raise ConfigError("option refused", [Problem("--box", text, "four integers x1,y1,x2,y2")])
    x1, y1, x2, y2 = (int(part) for part in parts)
    return x1, y1, x2, y2


def run_refiner(run: Run, *, name: str | None) -> Refiner:
    """The refiner of a run's policy, as its snapshot says; the base alone takes the recipe's sampler."""
    chosen = choose_policy(run, name)
    if chosen.checkpoint is not None:
        return load_refiner(chosen.checkpoint, base=chosen.base)
    training = chosen.recipe.grpo.sampler.spec
    sampler: SamplerSpec = replace(training, kind="ode", eta=0.0)
    return Refiner(load_start(chosen.base, chosen.recipe.grpo.adapter).policy, sampler, chosen.recipe.refiner)


def exported_refiner(path: Path) -> Refiner:
    """The refiner of a directory that `burnish export` made; every byte is verified first."""
    load_verified(path)
    return load_refiner(path, base=path / BASE)


@dataclass(frozen=True)
class Proof:
    """What a refinement changed, counted in the file that was written.

    Args:
        path: the file.
        pixels: pixels of the image.
        outside: pixels outside the blended mask.
        moved: how many of these differ from the input; 0.
        changed: pixels inside the blended mask that differ.
    """

    path: Path
    pixels: int
    outside: int
    moved: int
    changed: int

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {**vars(self), "path": str(self.path)}

    def text(self) -> str:
        """Two lines for people."""
        inside = self.pixels - self.outside
        return (
            f"{self.path}: {self.changed} of {inside} pixels inside the blended mask changed\n"
            f"all {self.outside} pixels outside it are identical to the input"
        )


def refine_file(refiner: Refiner, request: Example, *, output: Path, seed: int) -> Proof:
    """Refine, write a PNG, read it back and compare it with the input.

    Raises:
        ConfigError: the output is no PNG: another format would change every pixel.
        RefusedError: a pixel outside the blended mask moved.
    """
    import torch

    if output.suffix.lower() != ".png":
        raise ConfigError("option refused", [Problem("--output", str(output), "a path that ends in .png")])
    torch.set_num_threads(1)
    assert request.image is not None and request.mask is not None
    save_png(output, refiner.refine(request, seed=seed))
    sizes = {"dilate_size": refiner.config.dilate_size, "blur_size": refiner.config.blur_size}
    outside = alpha_uint8(request.mask, **sizes)[0] == 0
    different = (to_uint8(load_image(output)) != to_uint8(request.image)).any(axis=0)
    moved = int(np.count_nonzero(different & outside))
    if moved:
        raise RefusedError(f"{moved} pixels outside the blended mask moved; {output} is not to be used")
    changed = int(np.count_nonzero(different & ~outside))
    return Proof(output, outside.size, int(np.count_nonzero(outside)), moved, changed)
