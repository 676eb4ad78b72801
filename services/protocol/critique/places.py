"""Places: boxes that a critique points at, on a grid of 0 to 1000 across the edited picture, each with a word or two.

Models that ground know such grids: Qwen-VL writes ``bbox_2d`` with left and top first, Gemini ``box_2d`` with top and left first.
A place is an addition to a critique: what cannot be read as one is left out, and never costs the critique.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from services.protocol.critique.special_tokens import without_tokens

GRID: Final = 1000
MAX_PLACES: Final = 8
MAX_WORD: Final = 40
"""Characters of the word of a place."""
_CORNERS: Final = 4
_NUMBER: Final = re.compile(r"\s{0,3}(\d{1,4}(?:\.\d{1,6})?)\s{0,3}", re.ASCII)
_LEFT_FIRST: Final = ("box", "bbox_2d", "bbox")
_TOP_FIRST: Final = "box_2d"
_WORDS: Final = ("word", "label", "text")


@dataclass(frozen=True, slots=True)
class Place:
    """A box on a grid of 0 to `GRID`, and a word for what is there; it may be empty.

    Attributes:
        left, top, right, bottom: `right` and `bottom` are larger than their counterparts.
    """

    left: int
    top: int
    right: int
    bottom: int
    word: str = ""


def places_in(value: object) -> tuple[Place, ...]:
    """The places in a reply's ``places``: the first `MAX_PLACES` that can be read, each once; total on any JSON value."""
    rows = [value] if isinstance(value, dict) else value if isinstance(value, list) else []
    found: dict[Place, None] = {}
    for row in rows[: 4 * MAX_PLACES]:
        place = _place(row) if isinstance(row, dict) else None
        if place is not None and len(found) < MAX_PLACES:
            found.setdefault(place)
    return tuple(found)


def dump_places(places: Iterable[Place]) -> list[dict[str, Any]]:
    """The places as the JSON that `places_in` reads."""
    return [{"box": [place.left, place.top, place.right, place.bottom], "word": place.word} for place in places]


def top_first(places: Iterable[Place]) -> str:
    """The places as JSON with boxes of top, left, bottom, right, as FLUX 3 takes them at the end of a prompt."""
    rows = [{"bbox": [place.top, place.left, place.bottom, place.right], "label": place.word} for place in places]
    return json.dumps(rows, ensure_ascii=False)


def _place(row: dict[str, Any]) -> Place | None:
    corners = next((row[key] for key in _LEFT_FIRST if key in row), None)
    if corners is None and isinstance(row.get(_TOP_FIRST), list):
        corners = row[_TOP_FIRST]
        corners = [corners[index] for index in (1, 0, 3, 2)] if len(corners) == _CORNERS else None
    if corners is None:
        corners = [row.get(key) for key in ("left", "top", "right", "bottom")]
    if not isinstance(corners, list) or len(corners) != _CORNERS:
        return None
    numbers = [number for number in map(_number, corners) if number is not None]
    if len(numbers) != _CORNERS:
        return None
    # No box lies within the first unit of the grid: these are shares.
    scale = GRID if max(numbers) <= 1 else 1
    (left, right), (top, bottom) = (sorted(round(number * scale) for number in numbers[axis::2]) for axis in (0, 1))
    if left == right or top == bottom:
        return None
    word = next((row[key] for key in _WORDS if isinstance(row.get(key), str)), "")
    return Place(left, top, right, bottom, _clean(word))


def _number(value: object) -> float | None:
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value) if len(value) < MAX_WORD else None
        value = float(match[1]) if match else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= GRID:
        return None
    return float(value)


def _clean(word: str) -> str:
    """One line without special tokens: the word may enter an editor's model."""
    whole = word[: 4 * MAX_WORD].encode("utf-8", "replace").decode()
    return " ".join(without_tokens(whole).split())[:MAX_WORD].strip()
