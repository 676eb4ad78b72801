"""The benchmark's photographs, cases and recipes."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.cases import Case, cases
from benchmarks.colorimetry import difference, to_pixels
from benchmarks.photos import names, photo
from benchmarks.targets import FAMILIES, RECIPES, target

VISIBLE = (4.0, 45.0)


def test_there_are_enough_cases_with_unique_ids_and_words() -> None:
    every = cases()
    assert len(every) >= 60
    assert len({case.id for case in every}) == len(every)
    assert len({case.instruction for case in every}) == len(every)


def test_every_recipe_and_every_photo_is_asked_for() -> None:
    assert {case.recipe for case in cases()} == set(RECIPES)
    assert {case.photo for case in cases()} == set(names())
    assert sum(map(len, FAMILIES.values())) == len(RECIPES)


@pytest.mark.parametrize("name", names())
def test_photo_is_in_colour_with_masks_of_its_size(name: str) -> None:
    source = photo(name)
    assert source.pixels.dtype == np.uint8
    assert source.pixels.shape[2] == 3
    for mask in (source.subject, source.accent):
        assert mask.shape == source.pixels.shape[:2]
        assert 0 <= mask.min() <= mask.max() <= 1
        assert 0 < mask.mean() < 1


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.id)
def test_target_keeps_the_shape_and_differs_visibly(case: Case) -> None:
    source = photo(case.photo).pixels
    expected = target(case.photo, case.recipe)
    assert expected.shape == source.shape
    assert expected.dtype == source.dtype
    low, high = VISIBLE
    assert low <= difference(source, expected) <= high


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_is_deterministic_and_leaves_the_photo_alone(recipe: str) -> None:
    name = next(case.photo for case in cases() if case.recipe == recipe)
    source = photo(name)
    before = [plane.tobytes() for plane in (source.pixels, source.subject, source.accent)]
    again = to_pixels(RECIPES[recipe](source))
    assert np.array_equal(again, target(name, recipe))
    assert before == [plane.tobytes() for plane in (source.pixels, source.subject, source.accent)]


def test_targets_of_one_photo_differ_from_each_other() -> None:
    recipes = ["golden-hour", "blue-hour", "foggy", "sepia", "film-noir", "neon"]
    pictures = [target("cat", recipe) for recipe in recipes]
    gaps = [difference(a, b) for i, a in enumerate(pictures) for b in pictures[i + 1 :]]
    assert min(gaps) > VISIBLE[0]
