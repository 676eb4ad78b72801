"""Real photographs for the editor's tests, and measures on them in CIELAB."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage import color, data

from services.editor.pipelines import EditJob
from services.embedded.editor import ClassicalPipeline

_PIPELINE = ClassicalPipeline()


@cache
def photo(name: str = "coffee", side: int = 240) -> Image.Image:
    """One of scikit-image's photographs, its longer side ``side`` pixels."""
    image = Image.fromarray(getattr(data, name)())
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


@cache
def landscape() -> Image.Image:
    """A drawn landscape: blue sky over green land, with a little noise."""
    rows = np.linspace(0, 1, 120)[:, None, None]
    sky = np.array([90, 150, 230]) + 50 * rows
    land = np.array([70, 120, 40]) - 20 * rows
    noise = np.random.default_rng(1).normal(0, 2, (120, 180, 3))
    pixels = np.where(rows < 0.5, sky, land) + noise
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


@cache
def tilted(degrees: float) -> Image.Image:
    """Flat land under a flat sky, with a horizon that falls by ``degrees`` to the right."""
    down, across = np.mgrid[0:300, 0:400]
    land = down - 150 > np.tan(np.radians(degrees)) * (across - 200)
    return Image.fromarray(np.where(land[..., None], (70, 110, 50), (120, 170, 230)).astype(np.uint8))


def edit(prompt: str, image: Image.Image | None = None, seed: int = 7, **more: Any) -> Image.Image:
    """The edited picture."""
    return _PIPELINE.edit(EditJob(image or photo(), prompt, seed, **more)).image


def lab(image: Image.Image) -> NDArray[np.float64]:
    """CIELAB (H, W, 3) by scikit-image, an implementation other than the editor's own."""
    return np.asarray(color.rgb2lab(np.asarray(image.convert("RGB"))), dtype=np.float64)


def lightness(image: Image.Image) -> NDArray[np.float64]:
    """L* (H, W)."""
    return lab(image)[..., 0]


def chroma(image: Image.Image) -> NDArray[np.float64]:
    """Chroma (H, W)."""
    values = lab(image)
    return np.hypot(values[..., 1], values[..., 2])


def detail(image: Image.Image) -> float:
    """Mean step of L* between neighbours: how much fine structure there is."""
    values = lightness(image)
    return float(np.abs(np.diff(values, axis=0)).mean() + np.abs(np.diff(values, axis=1)).mean())
