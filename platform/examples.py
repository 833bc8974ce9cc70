"""The examples of a recipe: its sources, seen whole or through the refiner's crop."""

from __future__ import annotations

from burnish.data.sources import Source, make_source
from burnish.platform.config import Recipe
from burnish.policies.focus import FocusedSource


def recipe_source(recipe: Recipe, *, thorough: bool = False) -> Source:
    """The recipe's examples.

    Args:
        recipe: with `data.crop: focus` every example is its focused view.
        thorough: decode every file now, as the driver does; workers start after its check, and headers are enough.
    """
    source = make_source(recipe.data, thorough=thorough)
    return FocusedSource(source, recipe.refiner) if recipe.data.crop == "focus" else source
