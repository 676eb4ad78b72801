"""Fine structure: clarity, sharpening, blur, noise reduction, grain. All reaches follow the picture's size."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np

from services.embedded.editor.colorimetry import F32, f32, linear_to_lab
from services.embedded.editor.filters import base_layer, gaussian, guided
from services.embedded.editor.picture import Picture

_BLUR_SHARE = 0.022  # sigma at 100 %, in mean sides
_GRAIN_LIGHTNESS = 12.0  # standard deviation of L* at 100 % in the midtones


def clarity(picture: Picture, amount: float, mask: F32 | None) -> None:
    """Local contrast: raise or lower detail against an edge-keeping base layer, most in the midtones, without halos."""
    before = picture.lightness
    detail = before - base_layer(before, 0.03, 300.0)
    if amount > 0:
        midtones = np.clip(1.3 - np.abs(before - 50) / 50, 0.2, 1)
        change = f32(2.2 * amount * midtones * 14 * np.tanh(detail / 14))
    else:
        change = f32(0.85 * amount * detail)
    picture.set_lightness(mask, np.clip(before + change, 0, 100).astype(np.float32))


def sharpen(picture: Picture, amount: float, mask: F32 | None) -> None:
    """Unsharp mask on L*, with overshoot held near the range of the neighbourhood so that edges get no halo."""
    before = picture.lightness
    sigma = max(0.8, picture.scale / 1200)
    detail = before - gaussian(before, sigma)
    after = before + np.float32(3.2 * amount) * detail
    reach = np.ones((2 * int(np.ceil(sigma)) + 1,) * 2, dtype=np.uint8)
    highest = cast(F32, cv2.dilate(before, reach, borderType=cv2.BORDER_REPLICATE))
    lowest = cast(F32, cv2.erode(before, reach, borderType=cv2.BORDER_REPLICATE))
    slack = 1.5 + 0.25 * (highest - lowest)
    after = np.clip(after, lowest - slack, highest + slack)
    picture.set_lightness(mask, np.clip(after, 0, 100).astype(np.float32))


def blur(picture: Picture, amount: float, mask: F32 | None) -> None:
    """A Gaussian lens blur in linear light, so that lights bloom as they do in a lens.

    Inside a mask only what the mask covers is spread: a sharp subject does not bleed into its blurred background.
    """
    sigma = _BLUR_SHARE * picture.scale * amount
    light = picture.linear()
    if mask is None:
        spread = gaussian(light, sigma)
        picture.point(None, lambda _, rows: linear_to_lab(spread[rows]))
        return
    weight = mask * mask + np.float32(1e-4)
    light *= weight[..., None]
    spread, weight = gaussian(light, sigma), gaussian(weight, sigma)
    picture.point(mask, lambda _, rows: linear_to_lab(spread[rows] / weight[rows][..., None]))


def denoise(picture: Picture, amount: float, mask: F32 | None) -> None:
    """Edge-keeping smoothing: colour noise more than grain of lightness, as the eye minds it more."""
    lab = picture.lab
    radius = max(2.0, picture.scale / 250)
    lightness = np.ascontiguousarray(lab[..., 0])
    smooth = lab.copy()
    smooth[..., 0] = guided(lightness, lightness, radius, (7.0 * amount) ** 2)
    for channel in (1, 2):
        plane = np.ascontiguousarray(lab[..., channel])
        filtered = guided(plane, plane, 2 * radius, (9.0 * amount) ** 2, step=2)
        smooth[..., channel] = plane + (filtered - plane) * min(1.0, 2 * amount)
    picture.blend(mask, smooth)


def grain(picture: Picture, amount: float, mask: F32 | None, random: np.random.Generator) -> None:
    """Film grain: clumps whose size follows the picture's, strongest in the midtones, on lightness only."""
    size = max(0.45, picture.scale / 1800)
    noise = random.standard_normal((picture.height, picture.width), dtype=np.float32)
    clumps = gaussian(noise, size)
    spread = float(clumps.std())
    clumps /= spread or 1.0  # a single pixel has no spread

    def retouch(lab: F32, rows: slice) -> F32:
        share = np.clip(lab[..., 0] / 100, 0, 1)
        strength = _GRAIN_LIGHTNESS * amount * (0.35 + 2.6 * share * (1 - share))
        after = lab.copy()
        after[..., 0] = np.clip(lab[..., 0] + strength * clumps[rows], 0, 100)
        return after

    picture.point(mask, retouch)
