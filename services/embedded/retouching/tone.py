"""Tone: exposure and curves. A curve on L* also scales chroma, as the same change of light would.

In CIELAB, light multiplied by k multiplies (L* + 16), a* and b* by the cube root of k. A tone curve that multiplies a* and
b* by (L*' + 16) / (L* + 16) is therefore, for each pixel, a change of exposure in linear light: hue and saturation stay.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from services.embedded.cielab import F32, f32, lightness_to_luminance, luminance_to_lightness
from services.embedded.filters import base_layer, smoothstep
from services.embedded.retouching.picture import Picture

_NODES = 1 << 14
_STOPS = 2.0  # what 100 % of exposure is, in photographic stops
_BASE_SHARE = 0.02  # reach of the base layer for highlights and shadows, in mean sides
_BASE_EPSILON = 80.0  # L* squared: contrasts below about 9 L* are detail, above it form

Curve = Callable[[F32], F32]


def exposure(picture: Picture, amount: float, mask: F32 | None) -> None:
    """Multiply the light by up to 4 (amount 1) or 1/4 (amount -1); bright parts roll off instead of clipping.

    A mask scales the stops rather than the result, so that a graduated mask has no visible edge.
    """

    def retouch(lab: F32, rows: slice) -> F32:
        stops = np.float32(_STOPS * amount)
        gain = np.exp2(stops if mask is None else stops * mask[rows])
        return exposed(lab, gain)

    picture.point(None, retouch)


def lightened(lab: F32, lightness: F32, chroma: float) -> F32:
    """Lab with L* replaced; ``chroma`` is how far a* and b* follow (1 as light would, 0 not at all)."""
    after = lab * (((lightness + 16) / (lab[..., 0] + 16)) ** np.float32(chroma))[..., None] if chroma else lab.copy()
    after[..., 0] = lightness
    return f32(after)


def exposed(lab: F32, gain: F32 | float) -> F32:
    """Lab with its light multiplied by ``gain`` (scalar or (H, W)); gains above 1 keep white at white."""
    luminance = lightness_to_luminance(lab[..., 0])
    brighter = np.maximum(gain, np.float32(1))
    brightened = gain * luminance / np.sqrt(1 + (brighter * brighter - 1) * luminance * luminance)
    return lightened(lab, luminance_to_lightness(f32(brightened)), 1.0)


def apply_curve(picture: Picture, mask: F32 | None, curve: Curve, chroma: float) -> None:
    """Apply ``curve`` to L* / 100; ``chroma`` is how far a* and b* follow (1 as light would, 0 not at all)."""
    node = np.linspace(0, 1, _NODES, dtype=np.float32)
    bent = np.clip(curve(node), 0, 1)
    lightness_table = f32(100 * bent)
    ratio_table = f32(((100 * bent + 16) / (100 * node + 16)) ** chroma)

    def retouch(lab: F32, _: slice) -> F32:
        index = np.clip(lab[..., 0] * ((_NODES - 1) / 100) + 0.5, 0, _NODES - 1).astype(np.uint16)
        after = lab * ratio_table.take(index)[..., None]
        after[..., 0] = lightness_table.take(index)
        return f32(after)

    picture.point(mask, retouch)


def contrast(picture: Picture, amount: float, mask: F32 | None) -> None:
    """An S-curve (up) or a linear compression (down) about the picture's mean, so that its brightness stays."""
    middle = float(np.clip(picture.sample()[..., 0].mean() / 100, 0.35, 0.65))
    steepness = 1 + 1.2 * amount

    def curve(x: F32) -> F32:
        if amount < 0:
            return f32(middle + (x - middle) * max(0.05, 1 + 0.75 * amount))
        low = middle * (np.minimum(x, middle) / middle) ** steepness
        high = 1 - (1 - middle) * ((1 - np.maximum(x, middle)) / (1 - middle)) ** steepness
        return f32(np.where(x < middle, low, high))

    apply_curve(picture, mask, curve, 0.6)


def highlights(picture: Picture, amount: float, mask: F32 | None) -> None:
    """Move bright areas by up to 38 L*, weighted by the base layer, so that their detail stays."""
    base = _base(picture)
    headroom = np.minimum(1, 1.6 * (1.02 - base)) if amount > 0 else 1
    _shift(picture, mask, f32(38 * amount * smoothstep(0.4, 0.95, base) * headroom))


def shadows(picture: Picture, amount: float, mask: F32 | None) -> None:
    """Move dark areas by up to 38 L*, weighted by the base layer; black stays black."""
    base = _base(picture)
    weight = (1 - smoothstep(0.12, 0.62, base)) * base / (base + 0.05)
    headroom = 1 if amount > 0 else np.minimum(1, 2.2 * base)
    _shift(picture, mask, f32(38 * amount * weight * headroom))


def _base(picture: Picture) -> F32:
    return f32(np.clip(base_layer(picture.lightness, _BASE_SHARE, _BASE_EPSILON) / 100, 0, 1))


def _shift(picture: Picture, mask: F32 | None, change: F32) -> None:
    def retouch(lab: F32, rows: slice) -> F32:
        before = lab[..., 0]
        # Scaled down near black, so that black details of a dark area do not turn grey.
        after = before + change[rows] * np.minimum(1, before / 8)
        after = np.clip(after, 0, 100 - 2 * np.exp(-np.abs(100 - after) / 2) * (after > before))
        after = np.where(change[rows] == 0, before, after)
        return lightened(lab, after, 0.8)

    picture.point(mask, retouch)


def whites(picture: Picture, amount: float, mask: F32 | None) -> None:
    """Move the white point: up stretches the top (and may clip), down dims white to grey, by up to 25 L*."""

    def curve(x: F32) -> F32:
        raised = x * (1 + 0.25 * amount * x * x)
        if amount <= 0:
            return f32(raised)
        knee = np.float32(0.9)  # compress what would clip
        return f32(np.where(raised > knee, knee + 0.1 * np.tanh((raised - knee) / 0.1), raised))

    apply_curve(picture, mask, curve, 0.7)


def blacks(picture: Picture, amount: float, mask: F32 | None) -> None:
    """Move the black point: up fades black by up to 36 L*, down sinks dark tones into black."""

    def curve(x: F32) -> F32:
        if amount >= 0:
            return f32(x + 0.36 * amount * (1 - x) ** 2)
        depth = 0.25 * -amount
        sunk = (x - depth * (1 - x) ** 2) / 1.0
        knee = 0.02 + 0.1 * depth
        return f32(0.5 * (sunk + np.sqrt(sunk * sunk + knee * knee * x)))

    apply_curve(picture, mask, curve, 0.0 if amount >= 0 else 0.5)


def midtones(picture: Picture, amount: float, mask: F32 | None) -> None:
    """Gamma on L*, with a linear toe that limits the gain on noise in black; black and white stay."""
    power, toe = float(2 ** (-1.2 * amount)), 0.02

    def curve(x: F32) -> F32:
        low, high = toe**power, (1 + toe) ** power
        return f32(((x + toe) ** power - low) / (high - low))

    apply_curve(picture, mask, curve, 0.8)
