"""Effects that leave photography: posterize, pixelate, pencil sketch, emboss."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np

from services.embedded.editor.colorimetry import F32, linear_to_lab
from services.embedded.editor.filters import gaussian, guided
from services.embedded.editor.picture import Picture

_MAX_BLOCK_SHARE = 0.1  # of the shorter side, at 100 %


def posterize(picture: Picture, amount: float, mask: F32 | None, levels: int | None) -> None:
    """Few flat tones: L* in ``levels`` steps (16 down to 2 as the amount grows), colour smoothed and stepped with it."""
    steps = levels if levels is not None else round(2 + 14 * (1 - min(1.0, amount)) ** 1.5)
    steps = max(2, min(64, steps))
    lightness = np.ascontiguousarray(picture.lightness)
    calm = guided(lightness, lightness, max(2.0, picture.scale / 300), 16.0)
    colour_step = 100 / steps * 1.5

    def retouch(lab: F32, rows: slice) -> F32:
        after = lab.copy()
        after[..., 0] = np.rint(calm[rows] / 100 * (steps - 1)) * (100 / (steps - 1))
        after[..., 1:] = np.rint(lab[..., 1:] / colour_step) * colour_step
        return after

    picture.point(mask, retouch)


def pixelate(picture: Picture, amount: float, mask: F32 | None, block: int | None) -> None:
    """Square blocks of the mean light; ``block`` is their side in pixels."""
    side = block if block is not None else round(_MAX_BLOCK_SHARE * min(picture.height, picture.width) * amount)
    side = max(1, side)
    size = (max(1, -(-picture.width // side)), max(1, -(-picture.height // side)))
    padded = cv2.copyMakeBorder(
        picture.linear(),
        0,
        size[1] * side - picture.height,
        0,
        size[0] * side - picture.width,
        cv2.BORDER_REPLICATE,
    )
    small = cast(F32, cv2.resize(padded, size, interpolation=cv2.INTER_AREA)).reshape(size[1], size[0], 3)
    lab = np.repeat(np.repeat(linear_to_lab(small), side, axis=0), side, axis=1)
    picture.blend(mask, lab[: picture.height, : picture.width])


def sketch(picture: Picture, amount: float, mask: F32 | None) -> None:
    """A pencil drawing by colour dodge: where the picture differs from its blurred self a line is drawn on white."""
    grey = np.ascontiguousarray(picture.lightness)
    form = gaussian(grey, max(1.0, picture.scale / 160))
    paper = np.clip(100 * (grey + 2) / (form + 2), 0, 100)
    lines = (100 * (paper / 100) ** 2.2).astype(np.float32)

    def retouch(lab: F32, rows: slice) -> F32:
        drawn = np.zeros_like(lab)
        drawn[..., 0] = lines[rows]
        return lab + np.float32(amount) * (drawn - lab)

    picture.point(mask, retouch)


def emboss(picture: Picture, amount: float, mask: F32 | None) -> None:
    """A relief lit from the top left: the slope of L* on middle grey."""
    sigma = max(0.6, picture.scale / 900)
    smooth = gaussian(np.ascontiguousarray(picture.lightness), sigma)
    reach = max(1, round(sigma))
    padded = np.pad(smooth, reach, mode="edge")
    slope = padded[2 * reach :, 2 * reach :] - padded[: -2 * reach, : -2 * reach]
    relief = np.clip(55 + 1.6 * slope, 0, 100).astype(np.float32)

    def retouch(lab: F32, rows: slice) -> F32:
        stone = lab * np.float32(0.15)
        stone[..., 0] = relief[rows]
        return lab + np.float32(amount) * (stone - lab)

    picture.point(mask, retouch)
