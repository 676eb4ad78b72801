"""The target pictures: what a professional retoucher would deliver for each look.

The stack is measured against them, so every recipe is written from photography alone (illuminants, film stocks, published
grading practice), at a moderate strength, and independent of how the editor and the thinker of this project work. A
recipe is a pure function of the photograph; grain has a fixed seed.
"""

from __future__ import annotations

from functools import lru_cache

from benchmarks.colorimetry import Pixels, to_pixels
from benchmarks.photos import Recipe, photo
from benchmarks.targets import film, light, mood, selective

FAMILIES: dict[str, dict[str, Recipe]] = {
    "light and weather": light.RECIPES,
    "film and print": film.RECIPES,
    "mood and grade": mood.RECIPES,
    "subject and background": selective.RECIPES,
}
RECIPES: dict[str, Recipe] = {name: recipe for family in FAMILIES.values() for name, recipe in family.items()}


def family_of(recipe: str) -> str:
    """The family of a recipe."""
    return next(family for family, recipes in FAMILIES.items() if recipe in recipes)


@lru_cache(maxsize=16)
def target(photo_name: str, recipe: str) -> Pixels:
    """The target picture of a recipe: the size of the photograph, eight bits."""
    return to_pixels(RECIPES[recipe](photo(photo_name)))
