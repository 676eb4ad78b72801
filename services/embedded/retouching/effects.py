"""Effects: fine structure, light in the air and in the lens, and drawn or printed looks.

All radii scale with the picture, so that a thumbnail looks like its original.
"""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np

from services.embedded.cielab import F32, channel_extremes, colourless, f32, lab_to_linear, linear_to_lab
from services.embedded.filters import base_layer, gaussian, guided, smoothstep
from services.embedded.retouching.picture import Picture
from services.embedded.retouching.tone import exposed, lightened
from services.embedded.strips import each_strip

_BLUR_SHARE = 0.022  # sigma at 100 %, in mean sides
_GRAIN_LIGHTNESS = 12.0  # standard deviation of L* at 100 % in the midtones
_CORNER_STOPS = 3.0  # how much darker the corners are at 100 %
_AIR = (0.86, 0.90, 0.94)  # linear light of daylight haze, before it is scaled by the picture's brightness


def clarity(picture: Picture, amount: float, mask: F32 | None) -> None:
    """Local contrast: raise or lower detail against an edge-preserving base layer, most in the midtones, without halos."""
    before = picture.lightness
    detail = before - base_layer(before, 0.03, 300.0)
    if amount > 0:
        midtones = np.clip(1.3 - np.abs(before - 50) / 50, 0.2, 1)
        change = f32(2.2 * amount * midtones * 14 * np.tanh(detail / 14))
    else:
        change = f32(0.85 * amount * detail)
    _set_lightness(picture, mask, before + change)


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
    _set_lightness(picture, mask, after)


def _set_lightness(picture: Picture, mask: F32 | None, lightness: F32) -> None:
    picture.point(mask, lambda lab, rows: lightened(lab, np.clip(lightness[rows], 0, 100), 0.0))


def blur(picture: Picture, amount: float, mask: F32 | None) -> None:
    """A Gaussian lens blur in linear light, so that lights bloom as they do in a lens.

    With a mask, only light inside it is spread: a sharp subject does not bleed into its blurred background.
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
    """Edge-preserving smoothing, stronger for colour noise, which is more visible than noise of lightness."""
    lab = picture.lab
    radius = max(2.0, picture.scale / 250)
    lightness = np.ascontiguousarray(lab[..., 0])
    smooth = lab.copy()
    smooth[..., 0] = guided(lightness, lightness, radius, (7.0 * amount) ** 2)
    for channel in (1, 2):
        plane = np.ascontiguousarray(lab[..., channel])
        filtered = guided(plane, plane, 2 * radius, (9.0 * amount) ** 2, step=2)
        smooth[..., channel] = plane + (filtered - plane) * min(1.0, 2 * amount)
    picture.point(mask, lambda _, rows: smooth[rows])


def grain(picture: Picture, amount: float, mask: F32 | None, random: np.random.Generator) -> None:
    """Film grain: clumps whose size follows the picture's, strongest in the midtones, on lightness only."""
    size = max(0.45, picture.scale / 1800)
    noise = random.standard_normal((picture.height, picture.width), dtype=np.float32)
    clumps = gaussian(noise, size)
    clumps /= float(clumps.std()) or 1.0  # a single pixel has no spread

    def retouch(lab: F32, rows: slice) -> F32:
        share = np.clip(lab[..., 0] / 100, 0, 1)
        strength = _GRAIN_LIGHTNESS * amount * (0.35 + 2.6 * share * (1 - share))
        return lightened(lab, np.clip(lab[..., 0] + strength * clumps[rows], 0, 100), 0.0)

    picture.point(mask, retouch)


def haze(picture: Picture, amount: float, mask: F32 | None) -> None:
    """Haze: mix airlight in or, below 0, remove it by the dark channel prior (He et al. 2009)."""
    if amount < 0:
        _clear(picture, -amount, mask)
        return
    sample = picture.sample()
    bright = float(np.quantile(channel_extremes(lab_to_linear(sample))[0], 0.9))
    air = f32(np.full(3, _AIR[1]) if colourless(sample) else _AIR) * max(0.35, min(1.0, bright))
    through = np.float32(max(0.05, 1 - 0.7 * amount))
    picture.point(mask, lambda lab, _: linear_to_lab(f32(lab_to_linear(lab) * through + air * (1 - through))))


def _clear(picture: Picture, amount: float, mask: F32 | None) -> None:
    dark = np.empty((picture.height, picture.width), dtype=np.float32)

    def darkest(rows: slice) -> None:
        dark[rows] = channel_extremes(lab_to_linear(picture.lab[rows]))[1]

    each_strip(picture.height, picture.width, darkest)
    air = max(0.2, float(np.quantile(lab_to_linear(picture.sample()), 0.99)))
    guide = np.ascontiguousarray(picture.lightness)
    veil = guided(guide, gaussian(dark, 0.01 * picture.scale), 0.04 * picture.scale, 60.0, 4)
    through = np.maximum(1 - 0.75 * amount * np.clip(veil, 0, 0.95 * air) / air, 0.2)
    # Removing the veil darkens the picture, so part of the light is added again.
    gain = 1 + 0.25 * amount

    def retouch(lab: F32, rows: slice) -> F32:
        cleared = np.clip((lab_to_linear(lab) - air) / through[rows][..., None] + air, 0, None)
        return linear_to_lab(f32(gain * cleared / (1 + (gain - 1) * np.clip(cleared, 0, 1))))

    picture.point(mask, retouch)


def glow(picture: Picture, amount: float, mask: F32 | None) -> None:
    """Bloom: the bright parts, blurred widely and screened over the picture, so that nothing clips."""
    bright = np.clip(picture.linear(), 0, 1)
    bright *= smoothstep(25, 85, picture.lightness)[..., None]
    veil = gaussian(bright, 0.012 * picture.scale)
    veil += gaussian(bright, 0.045 * picture.scale)
    veil *= np.float32(0.54 * amount)

    def retouch(lab: F32, rows: slice) -> F32:
        light = np.clip(lab_to_linear(lab), 0, 1)
        return linear_to_lab(f32(1 - (1 - light) * (1 - np.clip(veil[rows], 0, 1))))

    picture.point(mask, retouch)


def vignette(picture: Picture, amount: float, mask: F32 | None) -> None:
    """Darken (or, below 0, brighten) the corners by up to 3 stops of exposure, as a lens does."""

    def retouch(lab: F32, rows: slice) -> F32:
        fall = smoothstep(0.25, 1.05, _distance(picture, rows))
        return exposed(lab, np.exp2(np.float32(-_CORNER_STOPS * amount) * fall))

    picture.point(mask, retouch)


def _distance(picture: Picture, rows: slice) -> F32:
    """Distance from the centre of the pixels of these rows: 1 in the corners, an ellipse of the picture's own shape."""
    down = (np.arange(rows.start, rows.stop, dtype=np.float32) + 0.5) / picture.height * 2 - 1
    across = (np.arange(picture.width, dtype=np.float32) + 0.5) / picture.width * 2 - 1
    return f32(np.sqrt((down * down)[:, None] / 2 + (across * across)[None, :] / 2))
