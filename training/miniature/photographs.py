"""The miniature's photographs, split by file, and random crops of them."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Split = Literal["train", "held_out"]

SIDE: Final = 64
"""Width and height of every picture, in pixels."""

_REPOSITORY: Final = Path(__file__).parents[2] / "benchmarks" / "honesty" / "photos"

SPLITS: Final[dict[Split, tuple[str, ...]]] = {
    # The two pictures of the motorcycle show one scene, so they are in one split.
    "train": ("chelsea.png", "rocket.jpg", "motorcycle_left.png", "motorcycle_right.png", "china.jpg", "grace_hopper.jpg"),
    "held_out": ("astronaut.png", "coffee.png", "flower.jpg"),
}
"""File names by split. The first four of `train` and the first two of `held_out` are in scikit-image's wheel, the others in
`benchmarks/honesty/photos`."""

_SMALLEST: Final = 0.35  # of the shorter side: a crop still shows what the picture is about


@cache
def photograph(name: str) -> Image.Image:
    """One file, RGB, its shorter side 256 pixels, so that crops are cheap.

    Raises:
        FileNotFoundError: neither in the repository nor in scikit-image's wheel.
    """
    path = _REPOSITORY / name
    if not path.is_file():
        path = Path(str(files("skimage.data") / name))
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    scale = 256 / min(picture.size)
    return picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)


def crop(name: str, rng: np.random.Generator, near: tuple[float, float, float] | None = None) -> tuple[Pixels, tuple[float, ...]]:
    """A square crop (`SIDE`, `SIDE`, 3), and its place: centre x, centre y and side, as shares of the shorter side.

    Args:
        name: of a file.
        rng: decides the place.
        near: a place that the crop overlaps by about half.
    """
    picture = photograph(name)
    short = min(picture.size)
    if near is None:
        side = float(rng.uniform(_SMALLEST, 1.0))
        centre = [rng.uniform(side / 2, extent / short - side / 2) for extent in picture.size]
    else:
        side = float(np.clip(near[2] * rng.uniform(0.8, 1.2), _SMALLEST, 1.0))
        moved = [value + rng.uniform(-0.4, 0.4) * side for value in near[:2]]
        centre = [
            float(np.clip(value, side / 2, extent / short - side / 2)) for value, extent in zip(moved, picture.size, strict=True)
        ]
    left, top, right, bottom = (round((value + half * side) * short) for half in (-0.5, 0.5) for value in centre)
    piece = picture.crop((left, top, right, bottom)).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(piece), (centre[0], centre[1], side)
