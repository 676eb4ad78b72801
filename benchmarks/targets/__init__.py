"""The pictures a professional retoucher would hand in for each wish.

Every recipe is written from photography alone (illuminants, film stocks, published grading practice), at a
moderate strength, without a look at how the editor or the thinker of this project do their work: they are what
the stack is measured against. A recipe is a pure function of the photograph; grain has a fixed seed.
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
RECIPES: dict[str, Recipe] = {wish: recipe for family in FAMILIES.values() for wish, recipe in family.items()}


def family_of(wish: str) -> str:
    """The wish family a recipe belongs to."""
    return next(family for family, recipes in FAMILIES.items() if wish in recipes)


@lru_cache(maxsize=16)
def target(photo_name: str, wish: str) -> Pixels:
    """The picture wished for: same size as the photograph, eight bits."""
    return to_pixels(RECIPES[wish](photo(photo_name)))
