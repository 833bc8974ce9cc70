"""The examples of a recipe: its sources, seen whole or through the refiner's crop."""

from __future__ import annotations

from burnish.data.sources import Source, make_source
from burnish.platform.config import Recipe
from burnish.policies.families import FAMILIES
from burnish.policies.focus import FocusedSource
from burnish.policies.pieces import least_margin


def recipe_source(recipe: Recipe, *, thorough: bool = False) -> Source:
    """The recipe's examples.

    Args:
        recipe: with `data.crop: focus` every example is its focused view.
        thorough: decode every file now, as the driver does; workers start after its check, and headers are enough.

    Raises:
        DataError: rows that cannot be used, also those that lack what `needs` names.
    """
    source = make_source(recipe.data, thorough=thorough, needs=needs(recipe))
    if recipe.data.crop != "focus":
        return source
    return FocusedSource(source, recipe.refiner, min_margin=least_margin(recipe.refiner))


def needs(recipe: Recipe) -> frozenset[str]:
    """What no row of a data set may lack under this recipe: "image", "target"."""
    sft = recipe.sft if "sft" in recipe.stages else None
    image = FAMILIES[recipe.policy.family].needs_image
    image |= sft is not None and (sft.weight == "boundary" or sft.restoration < 1.0)
    return frozenset(name for name, wanted in (("image", image), ("target", sft is not None)) if wanted)
