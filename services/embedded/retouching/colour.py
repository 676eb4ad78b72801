"""Colour: white balance, saturation, hue, tints. Illuminants in linear light, the rest in CIELAB."""

from __future__ import annotations

import cv2
import numpy as np

from services.embedded.cielab import (
    F32,
    colour_to_lab,
    decode,
    encode,
    f32,
    lab_to_linear,
    linear_to_lab,
    more_vivid,
    painted,
    white_shift,
)
from services.embedded.filters import gaussian, shrunk, smoothstep
from services.embedded.instructions.colour_names import Colour
from services.embedded.retouching.picture import Picture

_CAST_SIDE = 64  # longer side of the copy on which a cast is measured, that of the thinker's thumb
_CAST_AGREES, _CAST_SEEN = 9.0, 6.0  # distances in a*, b*; on photographs without a cast the two methods differ by up to 7
_LUMINANCE = f32([0.2126, 0.7152, 0.0722])
_NEUTRAL_LAYER = 8.0  # chroma below which a colour counts as black, grey or white
_SPLIT_CHROMA = 42.0


def cast_of(lab: F32) -> tuple[float, float] | None:
    """The (a*, b*) of the illuminant of a picture (H, W, 3 CIELAB); None where it is near white, or cannot be told.

    Shades of grey (Finlayson and Trezzi 2004) and the first-order grey edge (van de Weijer 2007) must agree: one is misled by
    large coloured things, the other by coloured outlines.
    """
    small = shrunk(lab, _CAST_SIDE)
    light = np.clip(lab_to_linear(small), 0, 1)
    known = (small[..., 0] > 5) & (small[..., 0] < 97)  # noqa: PLR2004 - neither black nor clipped
    if not known.any():
        return None
    across, down = (cv2.Sobel(gaussian(light, 1.0), cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    shades = (light[known] ** 6).mean(axis=0) ** (1 / 6)
    edges = np.hypot(across, down)[known].mean(axis=0)
    # Brought to one luminance, as a* and b* depend on it.
    greys = [
        linear_to_lab(f32(0.5 * grey / max(1e-6, float(grey @ _LUMINANCE)))[None, None])[0, 0, 1:] for grey in (shades, edges)
    ]
    found = (greys[0] + greys[1]) / 2
    sure = np.hypot(*(greys[0] - greys[1])) < _CAST_AGREES and np.hypot(*found) > _CAST_SEEN
    return (float(found[0]), float(found[1])) if sure else None


def white_balance(picture: Picture, amount: float, mask: F32 | None) -> None:
    """Take the picture's colour cast away, if one is measured."""
    cast = cast_of(picture.lab)
    if cast is not None:
        _adapt(picture, mask, -amount * cast[0], -amount * cast[1])


def warmth(picture: Picture, amount: float, mask: F32 | None) -> None:
    """Change the illuminant along the daylight line: at 100 % white moves by 40 b* to yellow, at -100 % to blue."""
    _adapt(picture, mask, (7.0 if amount > 0 else 2.0) * amount, 40.0 * amount)


def tint(picture: Picture, amount: float, mask: F32 | None) -> None:
    """Change the illuminant across it: at 100 % white moves by 36 a* to magenta, at -100 % to green."""
    _adapt(picture, mask, 36.0 * amount, -8.0 * amount)


def _adapt(picture: Picture, mask: F32 | None, green_red: float, blue_yellow: float) -> None:
    matrix = white_shift(green_red, blue_yellow)

    def retouch(lab: F32, _: slice) -> F32:
        after = linear_to_lab(f32(cv2.transform(lab_to_linear(lab), matrix)).reshape(lab.shape))
        after[..., 0] = lab[..., 0]  # a change of white balance is not one of exposure
        return after

    picture.point(mask, retouch)


def saturation(picture: Picture, amount: float, mask: F32 | None) -> None:
    """Chroma about doubled at 100 %, gone at -100 %; near 0 one percent is about one percent of chroma.

    Above 0, hue stays, and chroma rolls off where sRGB ends.
    """
    if amount <= 0:
        _scale_chroma(picture, mask, max(0.0, 1 + amount))
    else:
        picture.point(mask, lambda lab, _: more_vivid(lab, 1 + 0.85 * amount))


def _scale_chroma(picture: Picture, mask: F32 | None, factor: float) -> None:
    def retouch(lab: F32, _: slice) -> F32:
        after = lab.copy()
        after[..., 1:] *= np.float32(factor)
        return after

    picture.point(mask, retouch)


def vibrance(picture: Picture, amount: float, mask: F32 | None) -> None:
    """Saturation that acts most on muted colours and least on skin."""

    def retouch(lab: F32, _: slice) -> F32:
        chroma = np.hypot(lab[..., 1], lab[..., 2])
        hue = np.degrees(np.arctan2(lab[..., 2], lab[..., 1]))
        muted = np.exp(-((chroma / 48) ** 2))
        skin = np.exp(-(((hue - 50) / 25) ** 2)) * smoothstep(8, 20, chroma)
        factor = f32(np.maximum(0, 1 + 1.3 * amount * muted * (1 - 0.5 * skin)))
        return more_vivid(lab, factor) if amount > 0 else lab * np.dstack([np.ones_like(factor), factor, factor])

    picture.point(mask, retouch)


def hue(picture: Picture, amount: float, mask: F32 | None) -> None:
    """Rotate all hues in the a*, b* plane; amount 1 is 180 degrees. Lightness stays."""
    cosine, sine = np.cos(np.pi * amount), np.sin(np.pi * amount)

    def retouch(lab: F32, _: slice) -> F32:
        after = lab.copy()
        after[..., 1] = cosine * lab[..., 1] - sine * lab[..., 2]
        after[..., 2] = sine * lab[..., 1] + cosine * lab[..., 2]
        return after

    picture.point(mask, retouch)


def monochrome(picture: Picture, amount: float, mask: F32 | None) -> None:
    """Remove colour; lightness stays."""
    _scale_chroma(picture, mask, max(0.0, 1 - amount))


def sepia(picture: Picture, amount: float, mask: F32 | None) -> None:
    """The toning of an old print: brown most in the midtones, paper white stays nearly white."""

    def retouch(lab: F32, _: slice) -> F32:
        share = lab[..., 0] / 100
        body = np.clip(4 * share * (1 - share), 0, 1) ** 0.6
        after = lab.copy()
        after[..., 1] += amount * (9.0 * body - lab[..., 1])
        after[..., 2] += amount * (4 + 22.0 * body - lab[..., 2])
        return after

    picture.point(mask, retouch)


def overlay(picture: Picture, amount: float, mask: F32 | None, colour: Colour) -> None:
    """A layer of colour at an opacity of ``amount``: hue and chroma of the colour, lightness of the picture.

    Black, grey and white also change lightness. Negative amounts remove the colour's cast.
    """
    lightness, green_red, blue_yellow = colour_to_lab(colour.rgb)
    neutral = np.hypot(green_red, blue_yellow) < _NEUTRAL_LAYER

    def retouch(lab: F32, _: slice) -> F32:
        layer = painted(lab[..., 0], colour.rgb)
        after = lab.copy()
        after[..., 1:] += np.float32(amount) * (layer[..., 1:] - lab[..., 1:] * (amount > 0))
        if neutral:
            after[..., 0] += np.float32(max(0.0, amount)) * (np.float32(lightness) - lab[..., 0])
        return after

    picture.point(mask, retouch)


def split_tone(picture: Picture, amount: float, mask: F32 | None, colour: Colour) -> None:
    """Push the tones of the mask (shadows, highlights) towards a hue, adding to the colour that is there."""
    _, green_red, blue_yellow = colour_to_lab(colour.rgb)
    chroma = max(1e-3, float(np.hypot(green_red, blue_yellow)))
    reach = _SPLIT_CHROMA * min(1.0, chroma / 20) * amount / chroma
    push = f32([0, green_red * reach, blue_yellow * reach])

    def retouch(lab: F32, _: slice) -> F32:
        # Near black and white the gamut is narrow, so the push fades out.
        holds = np.clip(np.minimum(lab[..., 0] + 6, 106 - lab[..., 0]) / 20, 0, 1)
        return f32(lab + push * holds[..., None])

    picture.point(mask, retouch)


def invert(picture: Picture, amount: float, mask: F32 | None) -> None:
    """The photographic negative: inverted code values, as in other editors."""

    def retouch(lab: F32, rows: slice) -> F32:
        positive = encode(np.clip(lab_to_linear(lab), 0, 1), rows.start)
        negative = linear_to_lab(decode(255 - positive))
        return lab + np.float32(amount) * (negative - lab)

    picture.point(mask, retouch)
