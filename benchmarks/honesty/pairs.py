"""The photographs with their regions, and the pairs of a photograph and an instruction, read from the two data files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal, cast, get_args

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from benchmarks.colorimetry import Pixels, display, from_pixels, lab, linear, to_pixels

Mask = NDArray[np.bool_]
Right = Literal["done", "refused", "unchanged"]
Free = Literal["colour", "clipping", "detail", "tones", "grain", "geometry"]
"""A kind of damage that an instruction asks for itself, which is then not counted."""

COMPUTED: Final = (
    "all",
    "left",
    "right",
    "top",
    "bottom",
    "centre",
    "corners",
    "shadows",
    "highlights",
)
"""Regions that every photograph has; shadows and highlights are the darkest and the lightest third of the source."""
_CHECK: Final = re.compile(r"(\w+) (\w+) ([<>=~!]) (-?[\d.]+)")


@dataclass(frozen=True, slots=True)
class Check:
    """One measured condition of a done edit, such as ``L sky < -3``.

    Attributes:
        measure: a name of `benchmarks.honesty.measures.MEASURES`.
        relation: ``<``, ``>``, ``=``, ``~`` (within 40 degrees), or ``!`` (either sign, at least so much).
    """

    measure: str
    region: str
    relation: str
    limit: float

    @classmethod
    def read(cls, text: str) -> Check:
        """Parse the text of a check."""
        found = _CHECK.fullmatch(text)
        if found is None:
            raise ValueError(f"not a check: {text!r}")
        measure, region, relation, limit = found.groups()
        return cls(measure, region, relation, float(limit))

    def __str__(self) -> str:
        return f"{self.measure} {self.region} {self.relation} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Pair:
    """A photograph, what is asked of it, and what would be right.

    Attributes:
        right: the endings that are right.
        checks: what a done edit must measure, all of it. Empty when `right` does not have ``done``.
        only: the region that may change, or empty.
        outside: the region that may not change, or empty.
        side: the longest side of the source in pixels; 0 as the photograph is.
        held_out: whether it is of the set that nothing is tuned on.
    """

    id: str
    kind: str
    photo: str
    instruction: str
    right: frozenset[Right]
    checks: tuple[Check, ...] = ()
    only: str = ""
    outside: str = ""
    free: frozenset[Free] = frozenset()
    side: int = 0
    held_out: bool = False

    @property
    def promised(self) -> bool:
        """Whether only a done edit is right, because docs/embedded-editor.md promises it."""
        return self.right == {"done"}


@dataclass(frozen=True, slots=True)
class Photo:
    """A source picture and its regions, each a mask of the picture's size."""

    pixels: Pixels
    regions: Mapping[str, Mask]


@cache
def pairs() -> tuple[Pair, ...]:
    """Every pair, in the order of the files, those that are held out last."""
    return _pairs("instructions.yaml") + _pairs("held_out.yaml", held_out=True)


def choose(everything: Sequence[Pair], count: int | None, seed: int) -> list[Pair]:
    """`count` pairs drawn at random, in their order, with every kind in its share of the whole."""
    if count is None or count >= len(everything):
        return list(everything)
    rng = np.random.default_rng(seed)
    shuffled = [everything[index] for index in rng.permutation(len(everything))]
    shuffled.sort(key=lambda pair: pair.kind)
    start = rng.uniform(0, len(everything) / count)
    drawn = {shuffled[int(start + index * len(everything) / count) % len(everything)].id for index in range(count)}
    return [pair for pair in everything if pair.id in drawn]


@cache
def photo(name: str, side: int = 0) -> Photo:
    """A photograph by name, scaled so that its longest side is `side`, with its regions."""
    row = _photos()[name]
    base = _photos()[row["from"]] if "from" in row else row
    pixels = _load(str(base["file"]), int(base.get("width", 0)))
    height, width = pixels.shape[:2]
    drawn = {region: _filled(shapes, (height, width)) for region, shapes in base["regions"].items()}
    if "made" in row:
        pixels = _faulty(pixels, row["made"])
        # A tilt moves and crops the frame: what was drawn no longer fits.
        drawn = {} if "tilt" in row["made"] else drawn
    if side:
        scale = side / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = _resized(pixels, size)
        drawn = {region: _resized(mask.astype(np.uint8), size) > 0 for region, mask in drawn.items()}
    return Photo(pixels, drawn | _computed(pixels))


def regions_of(name: str) -> frozenset[str]:
    """The names of a photograph's regions."""
    row = _photos()[name]
    base = _photos()[row["from"]] if "from" in row else row
    return frozenset(base["regions"]) | frozenset(COMPUTED)


@cache
def _photos() -> dict[str, dict[str, Any]]:
    return cast(dict[str, dict[str, Any]], _read("photos.yaml"))


def _read(file: str) -> object:
    return yaml.safe_load((files("benchmarks.honesty") / file).read_text(encoding="utf-8"))


def _pairs(file: str, *, held_out: bool = False) -> tuple[Pair, ...]:
    kinds = cast(dict[str, list[dict[str, Any]]], _read(file))
    return tuple(
        _pair(kind, number, row, held_out=held_out) for kind, rows in kinds.items() for number, row in enumerate(rows, 1)
    )


def _pair(kind: str, number: int, row: dict[str, Any], *, held_out: bool) -> Pair:
    right, free = frozenset(row["right"]), frozenset(row.get("free", ()))
    if unknown := (right - set(get_args(Right))) | (free - set(get_args(Free))):
        raise ValueError(f"unknown in {kind} {number}: {', '.join(sorted(unknown))}")
    return Pair(
        id=f"{'held-' * held_out}{kind.replace(' ', '-')}-{number:02}",
        kind=kind,
        photo=row["photo"],
        instruction=row["instruction"],
        right=right,
        checks=tuple(Check.read(text) for text in row.get("check", ())),
        only=row.get("only", ""),
        outside=row.get("outside", ""),
        free=free,
        side=row.get("side", 0),
        held_out=held_out,
    )


def _load(file: str, width: int) -> Pixels:
    package = "benchmarks.honesty" if file.startswith("photos/") else "skimage.data"
    encoded = np.frombuffer((files(package) / file).read_bytes(), dtype=np.uint8)
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    if decoded is None:
        raise FileNotFoundError(f"{package}: {file} cannot be decoded")
    pixels = np.ascontiguousarray(decoded[..., ::-1]).astype(np.uint8)
    if width:
        pixels = _resized(pixels, (width, round(width * pixels.shape[0] / pixels.shape[1])))
    return pixels


def _resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    smaller = size[0] < pixels.shape[1]
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC), dtype=np.uint8)


def _filled(shapes: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> Mask:
    plane = np.zeros(size, dtype=np.uint8)
    for shape in shapes:
        if "box" in shape:
            left, top, right, bottom = shape["box"]
            plane[top:bottom, left:right] = 1
        elif "ellipse" in shape:
            x, y, half_width, half_height = shape["ellipse"]
            cv2.ellipse(plane, (x, y), (half_width, half_height), 0, 0, 360, (1.0,), -1)
        else:
            cv2.fillPoly(plane, [np.array(shape["polygon"], dtype=np.int32)], (1.0,))
    return plane > 0


def _computed(pixels: Pixels) -> dict[str, Mask]:
    height, width = pixels.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    u, v = np.abs((x + 0.5) / width * 2 - 1), np.abs((y + 0.5) / height * 2 - 1)
    lightness = lab(from_pixels(pixels))[..., 0]
    dark, light = np.percentile(lightness, [33, 67])
    return {
        "all": np.ones((height, width), dtype=np.bool_),
        "left": x < width // 2,
        "right": x >= width // 2,
        "top": y < height // 3,
        "bottom": y >= height - height // 3,
        "centre": (u < 0.4) & (v < 0.4),
        "corners": (u > 0.75) & (v > 0.75),
        "shadows": lightness <= dark,
        "highlights": lightness >= light,
    }


def _faulty(pixels: Pixels, made: Mapping[str, Any]) -> Pixels:
    """The photograph with a fault: wrong exposure, a cast, noise, or a tilt (cropped so that no corner is empty)."""
    gains = np.array(made.get("cast", (1.0, 1.0, 1.0))) * 2.0 ** float(made.get("exposure", 0.0))
    faulty = to_pixels(display(linear(from_pixels(pixels)) * gains))
    if "noise" in made:
        grain = np.random.default_rng(1).normal(0, float(made["noise"]), pixels.shape)
        faulty = np.clip(faulty + grain, 0, 255).round().astype(np.uint8)
    if "tilt" in made:
        height, width = pixels.shape[:2]
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), -float(made["tilt"]), 1.0)
        turned = cv2.warpAffine(faulty, turn, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        margin_x, margin_y = width // 16, height // 16
        faulty = np.ascontiguousarray(turned[margin_y : height - margin_y, margin_x : width - margin_x]).astype(np.uint8)
    return faulty
