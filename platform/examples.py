"""The examples of a recipe: its sources, seen whole or through the refiner's crop, in sizes that the policy takes."""

from __future__ import annotations

from burnish.data.errors import DataError, Problem
from burnish.data.sources import Source, eval_indices, make_source
from burnish.platform.config import Recipe
from burnish.policies.families import FAMILIES
from burnish.policies.focus import FocusedSource
from burnish.policies.pieces import least_margin


def recipe_source(recipe: Recipe, *, thorough: bool = False) -> Source:
    """The recipe's examples.

    Args:
        recipe: with `data.crop: focus` every example is its focused view; else a pretrained family sees whole frames
            of `data.image_size`^2 pixels, at their own aspect.
        thorough: decode every file now, as the driver does; workers start after its check, and headers are enough.

    Raises:
        DataError: rows that cannot be used, also those that lack what `needs` names.
    """
    source = make_source(recipe.data, thorough=thorough, needs=needs(recipe))
    if recipe.data.crop != "focus" and recipe.policy.family == "tiny":
        return source
    if recipe.data.crop != "focus":
        sizes = recipe.refiner.model_copy(update={"area": recipe.data.image_size**2})
        return FocusedSource(source, sizes, whole=True)
    return FocusedSource(source, recipe.refiner, min_margin=least_margin(recipe.refiner))


def needs(recipe: Recipe) -> frozenset[str]:
    """What no row of a data set may lack under this recipe: "image", "target"."""
    sft = recipe.sft if "sft" in recipe.stages else None
    image = FAMILIES[recipe.policy.family].needs_image
    image |= sft is not None and (sft.weight == "boundary" or sft.restoration < 1.0)
    return frozenset(name for name, wanted in (("image", image), ("target", sft is not None)) if wanted)


def check_splits(source: Source, recipe: Recipe) -> None:
    """Refuse data that cannot be evaluated, before anything is trained on it.

    Raises:
        DataError: no held-out example has a target, or, where GRPO is to run, none of dev.
    """
    problems = []
    for split in ("dev", "heldout") if "grpo" in recipe.stages else ("heldout",):
        try:
            found: object = eval_indices(source, split, 1, block=recipe.data.block)
        except DataError:
            found = ()
        if not found:
            problems.append(Problem(f"data: split {split}", "no example with a target", "at least one"))
    if problems:
        raise DataError("the data cannot be evaluated", problems)
