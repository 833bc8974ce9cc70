"""`burnish refine`: one image file, one region, one policy; and the proof that nothing else moved.

Called by `cli_results.py`. The pixels are made by `policies/refiner.py`, the path that evaluation and serving use too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from burnish.data.crops import check_box
from burnish.data.errors import ConfigError, Problem, RefusedError
from burnish.data.images import load_image, load_mask, to_uint8
from burnish.data.masks import box_mask
from burnish.data.paste import alpha_uint8
from burnish.data.pictures import Picture, load_picture, write_picture
from burnish.data.records import Example, Reference
from burnish.platform.commands import choose_policy
from burnish.platform.manifest import load_verified
from burnish.platform.runs import Run
from burnish.platform.start_from import BASE
from burnish.policies.refiner import Refiner, load_refiner
from burnish.policies.snapshot import load_start
from burnish.rollouts.evaluation import deployed


def read_request(
    picture: Picture, *, mask: Path | None, box: str | None, references: Sequence[Path], instruction: str
) -> Example:
    """What the user asks for; its id is constant, so that a file's name changes no pixel.

    Raises:
        ConfigError: neither or both of mask and box, or a box that is not four integers.
        DataError: a file that cannot be read, a mask of another size, a box outside the image, too many references.
    """
    if (mask is None) == (box is None):
        raise ConfigError("option refused", [Problem("--mask, --box", "both or none", "one of the two")])
    pixels = picture.pixels
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
    sampler = deployed(chosen.recipe.grpo.sampler.spec, chosen.recipe.evaluation)
    return Refiner(load_start(chosen.base, chosen.recipe.grpo.trained_adapter).policy, sampler, chosen.recipe.refiner)


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
        outside: pixels outside the blended mask (of a server's answer: outside the crop).
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


def refine_file(refiner: Refiner, request: Example, *, like: Picture, output: Path, seed: int) -> Proof:
    """Refine, write a PNG with the alpha channel and profile of the input, read it back and compare the two.

    Raises:
        ConfigError: the output is no PNG: another format would change every pixel.
        RefusedError: a pixel outside the blended mask moved.
    """
    import torch

    _check_output(output)
    torch.set_num_threads(1)
    assert request.mask is not None
    output.write_bytes(write_picture(refiner.refine(request, seed=seed), like=like, format="PNG"))
    sizes = {"dilate_size": refiner.config.dilate_size, "blur_size": refiner.config.blur_size}
    return _prove(output, like, alpha_uint8(request.mask, **sizes)[0] == 0)


def refine_remote(
    url: str, request: Example, *, image: Path, like: Picture, output: Path, seed: int, token: str | None
) -> Proof:
    """As `refine_file`, by a server; what counts as outside is all beyond the crops that it names.

    Raises:
        InfrastructureError: no answer.
        ConfigError: the server refuses the request.
    """
    from burnish.serve.client import Client

    _check_output(output)
    assert request.mask is not None
    references = [(r.kind, _png(r.image)) for r in request.references]
    found = Client(url, token=token).refine(
        image.read_bytes(),
        mask=_png(request.mask),
        references=references,
        instruction=request.instruction,
        seed=seed,
        output_format="png",
    )
    output.write_bytes(found.images[0])
    outside = np.ones(like.pixels.shape[1:], bool)
    for region in found.reply["regions"]:
        x1, y1, x2, y2 = region["crop"]
        outside[y1:y2, x1:x2] = False
    return _prove(output, like, outside)


def _png(image: np.ndarray) -> bytes:
    pixels = np.repeat(image, 3, axis=0) if image.shape[0] == 1 else image
    return write_picture(pixels, like=Picture(pixels, "PNG"), format="PNG")


def _check_output(output: Path) -> None:
    if output.suffix.lower() != ".png":
        raise ConfigError("option refused", [Problem("--output", str(output), "a path that ends in .png")])
    if not output.absolute().parent.is_dir():
        raise ConfigError("option refused", [Problem("--output", str(output), "a file in a directory that is there")])


def _prove(output: Path, like: Picture, outside: np.ndarray) -> Proof:
    """Read the file and count what differs from the input, outside and elsewhere."""
    different = (to_uint8(load_picture(output).pixels) != to_uint8(like.pixels)).any(axis=0)
    moved = int(np.count_nonzero(different & outside))
    if moved:
        raise RefusedError(f"{moved} pixels outside the blended mask moved; {output} is not to be used")
    changed = int(np.count_nonzero(different & ~outside))
    return Proof(output, outside.size, int(np.count_nonzero(outside)), moved, changed)
