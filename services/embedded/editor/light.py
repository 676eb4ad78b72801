"""Light in the air and in the lens: haze, glow, vignettes, light leaks."""

from __future__ import annotations

import numpy as np

from services.embedded.editor.colorimetry import F32, channel_extremes, decode, f32, lab_to_linear, linear_to_lab
from services.embedded.editor.filters import gaussian, guided, smoothstep
from services.embedded.editor.picture import Picture
from services.embedded.editor.tone import exposed

_CORNER_STOPS = 3.0  # how much darker the corners are at 100 %
_AIR = (0.86, 0.90, 0.94)  # daylight haze, linear, before it takes on the picture's own brightness


def haze(picture: Picture, amount: float, mask: F32 | None) -> None:
    """Air between lens and scene: more mixes airlight in; less takes it out by the dark channel prior (He et al.)."""
    if amount < 0:
        _clear(picture, -amount, mask)
        return
    bright = float(np.quantile(channel_extremes(lab_to_linear(picture.sample()))[0], 0.9))
    air = f32(_AIR) * max(0.35, min(1.0, bright))
    through = np.float32(max(0.05, 1 - 0.7 * amount))
    picture.point(mask, lambda lab, _: linear_to_lab(f32(lab_to_linear(lab) * through + air * (1 - through))))


def _clear(picture: Picture, amount: float, mask: F32 | None) -> None:
    dark = np.empty((picture.height, picture.width), dtype=np.float32)
    for rows in picture.strips():
        dark[rows] = channel_extremes(lab_to_linear(picture.lab[rows]))[1]
    air = max(0.2, float(np.quantile(lab_to_linear(picture.sample()), 0.99)))
    guide = np.ascontiguousarray(picture.lightness)
    veil = guided(guide, gaussian(dark, 0.01 * picture.scale), 0.04 * picture.scale, 60.0, 4)
    through = np.maximum(1 - 0.75 * amount * np.clip(veil, 0, 0.95 * air) / air, 0.2)
    # Taking the veil off darkens; give back part of the light so that the picture stays usable.
    gain = 1 + 0.25 * amount

    def retouch(lab: F32, rows: slice) -> F32:
        cleared = np.clip((lab_to_linear(lab) - air) / through[rows][..., None] + air, 0, None)
        return linear_to_lab(f32(gain * cleared / (1 + (gain - 1) * np.clip(cleared, 0, 1))))

    picture.point(mask, retouch)


def glow(picture: Picture, amount: float, mask: F32 | None) -> None:
    """Bloom: the bright parts, spread wide, laid over the picture as light (screen), so nothing clips."""
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
    """Darken (or, below 0, brighten) towards the corners by up to 3 stops, as a lens does: in stops, not in paint."""

    def retouch(lab: F32, rows: slice) -> F32:
        fall = smoothstep(0.25, 1.05, _distance(picture, rows))
        return exposed(lab, np.exp2(np.float32(-_CORNER_STOPS * amount) * fall))

    picture.point(mask, retouch)


def white_vignette(picture: Picture, amount: float, mask: F32 | None) -> None:
    """Fade the edges to white."""

    def retouch(lab: F32, rows: slice) -> F32:
        share = np.clip(np.float32(amount) * smoothstep(0.3, 1.0, _distance(picture, rows)), 0, 1)[..., None]
        after = lab * (1 - share)
        after[..., 0] += 100 * share[..., 0]
        return f32(after)

    picture.point(mask, retouch)


def _distance(picture: Picture, rows: slice) -> F32:
    """Distance from the centre of the pixels of these rows: 1 in the corners, an ellipse of the picture's own shape."""
    down = (np.arange(rows.start, rows.stop, dtype=np.float32) + 0.5) / picture.height * 2 - 1
    across = (np.arange(picture.width, dtype=np.float32) + 0.5) / picture.width * 2 - 1
    return f32(np.sqrt((down * down)[:, None] / 2 + (across * across)[None, :] / 2))


def light_leak(picture: Picture, amount: float, mask: F32 | None, random: np.random.Generator) -> None:
    """Light that fell on the film: a soft band of orange and red from one edge, screened over the picture."""
    side, place, reach = int(random.integers(4)), random.uniform(0.2, 0.8), random.uniform(0.35, 0.55)
    down = (np.arange(picture.height, dtype=np.float32)[:, None] + 0.5) / picture.height
    across = (np.arange(picture.width, dtype=np.float32)[None, :] + 0.5) / picture.width
    depth, along = ((across, down), (1 - across, down), (down, across), (1 - down, across))[side]
    fall = np.exp(-((depth / reach) ** 2) - ((along - place) / 0.55) ** 2)
    core = np.exp(-((depth / (0.4 * reach)) ** 2) - ((along - place) / 0.4) ** 2)

    red, orange = f32([0.95, 0.16, 0.03]), decode(np.array([[[255, 190, 90]]], dtype=np.uint8))[0, 0]

    def retouch(lab: F32, rows: slice) -> F32:
        light = np.clip(lab_to_linear(lab), 0, 1)
        leak = fall[rows][..., None] * red + core[rows][..., None] * orange
        return linear_to_lab(f32(1 - (1 - light) * (1 - np.clip(np.float32(0.8 * amount) * leak, 0, 1))))

    picture.point(mask, retouch)
