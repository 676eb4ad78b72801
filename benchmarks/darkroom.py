"""A retoucher's tools: exposure, white balance, curves, toning, masks, bloom, haze, grain.

Each tool takes an sRGB picture (float64, 0…1) and returns a new one. Tools that model light (exposure, white balance,
haze, bloom) work in linear light; the others work in CIELAB or on channels.
"""

from __future__ import annotations

import cv2
import numpy as np

from benchmarks.colorimetry import Picture, display, from_lab, illuminant_matrix, lab, linear, luminance

Points = tuple[tuple[float, float], ...]
Tint = tuple[float, float]


def exposure(picture: Picture, stops: float, knee: float = 0.6) -> Picture:
    """Change the exposure; highlights roll off to white instead of clipping."""
    gain = 2.0**stops
    return display(_shoulder(linear(picture) * gain, gain, knee))


def relight(picture: Picture, kelvin: float, balanced_for: float = 5500.0) -> Picture:
    """The scene under a black body of `kelvin`, on a camera balanced for another (daylight film: 5500 K)."""
    light = linear(picture) @ illuminant_matrix(balanced_for, kelvin).T
    white = float((illuminant_matrix(balanced_for, kelvin) @ np.ones(3)).max())
    return display(_shoulder(np.maximum(light, 0.0), max(white, 1.0), 0.7))


def curve(points: Points, values: Picture) -> Picture:
    """A monotone cubic (Fritsch-Carlson) through the points, constant outside them."""
    x, y = np.array(points, dtype=np.float64).T
    steps = np.diff(x)
    slopes = np.diff(y) / steps
    tangents = np.concatenate([slopes[:1], (slopes[:-1] + slopes[1:]) / 2, slopes[-1:]])
    limit = 3 * np.minimum(np.r_[slopes[:1], slopes], np.r_[slopes, slopes[-1:]])
    tangents = np.clip(tangents, np.minimum(limit, 0), np.maximum(limit, 0))
    at = np.clip(values, x[0], x[-1])
    cell = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(steps) - 1)
    h, t = steps[cell], (at - x[cell]) / steps[cell]
    start = (1 + 2 * t) * (1 - t) ** 2 * y[cell] + t * (1 - t) ** 2 * h * tangents[cell]
    end = t**2 * (3 - 2 * t) * y[cell + 1] + t**2 * (t - 1) * h * tangents[cell + 1]
    return np.asarray(start + end, dtype=np.float64)


def lightness(picture: Picture, points: Points) -> Picture:
    """A curve on L* (0…100); chroma follows lightness so that saturation looks unchanged."""
    values = lab(picture)
    before = values[..., 0]
    after = curve(points, before)
    scale = np.clip((after + 8) / (before + 8), 0.5, 1.35)
    return from_lab(np.dstack([after, values[..., 1:] * scale[..., None]]))


def channels(picture: Picture, red: Points, green: Points, blue: Points) -> Picture:
    """One curve per sRGB channel (0…1), as on a film's dye layers."""
    planes = [curve(points, picture[..., index]) for index, points in enumerate((red, green, blue))]
    return np.stack(planes, axis=-1)


def chroma(picture: Picture, factor: float, *, protect: bool = False) -> Picture:
    """Scale CIELAB chroma; with `protect`, already vivid colours move less (vibrance)."""
    values = lab(picture)
    strength = np.full(values.shape[:2], factor)
    if protect:
        vivid = np.clip(np.hypot(values[..., 1], values[..., 2]) / 80, 0, 1)
        strength = factor + (1 - factor) * vivid
    values[..., 1:] *= strength[..., None]
    return from_lab(values)


def hues(picture: Picture, centre: float, width: float, turn: float, factor: float = 1.0) -> Picture:
    """Turn the hues around `centre` (CIELAB degrees) by `turn` degrees and scale their chroma."""
    values = lab(picture)
    angle = np.degrees(np.arctan2(values[..., 2], values[..., 1]))
    away = np.abs((angle - centre + 180) % 360 - 180)
    weight = np.clip(1 - away / width, 0, 1)
    size = np.hypot(values[..., 1], values[..., 2]) * (1 + (factor - 1) * weight)
    turned = np.radians(angle + turn * weight)
    return from_lab(np.stack([values[..., 0], size * np.cos(turned), size * np.sin(turned)], axis=-1))


def split_tone(picture: Picture, shadows: Tint, highlights: Tint) -> Picture:
    """Add (a*, b*) to the shadows and to the highlights, crossing at middle grey."""
    values = lab(picture)
    tone = np.clip(values[..., 0] / 100, 0, 1)
    bright = tone**2 * (3 - 2 * tone)
    # Pure black and pure white are not tinted.
    weight = np.clip(4 * np.minimum(tone, 1.02 - tone) + 0.15, 0, 1)
    for axis in (0, 1):
        tint = shadows[axis] * (1 - bright) + highlights[axis] * bright
        values[..., axis + 1] += tint * weight
    return from_lab(values)


def monochrome(picture: Picture, filter_rgb: tuple[float, float, float]) -> Picture:
    """Panchromatic film behind a coloured filter: a grey picture from weighted linear light."""
    weights = np.array(filter_rgb) / sum(filter_rgb)
    grey = display(linear(picture) @ weights)
    return np.dstack([grey, grey, grey])


def duotone(picture: Picture, inks: tuple[tuple[float, float, float, float], ...]) -> Picture:
    """Print the lightness with inks: rows of (L* in, L* out, a*, b*), tone smooth, hue mixed linearly."""
    tone = lab(picture)[..., 0]
    at, depth, a, b = np.array(inks, dtype=np.float64).T
    printed = curve(tuple(zip(at, depth, strict=True)), tone)
    return from_lab(np.stack([printed, np.interp(tone, at, a), np.interp(tone, at, b)], axis=-1))


def soften(picture: Picture, fraction: float) -> Picture:
    """Gaussian blur; sigma as a fraction of the shorter side, in linear light."""
    return display(_blur(linear(picture), fraction))


def clarity(picture: Picture, amount: float, fraction: float = 0.03) -> Picture:
    """Local contrast: unsharp masking of L* with a wide radius."""
    values = lab(picture)
    values[..., 0] += amount * (values[..., 0] - _blur(values[..., 0], fraction))
    return from_lab(values)


def bloom(picture: Picture, amount: float, fraction: float = 0.025, above: float = 0.25) -> Picture:
    """Light scattered in the lens: blurred highlights screened over the picture in linear light."""
    light = linear(picture)
    bright = light * np.clip((luminance(light) - above) / (1 - above), 0, 1)[..., None]
    return display(1 - (1 - light) * (1 - np.clip(amount * _blur(bright, fraction), 0, 1)))


def haze(picture: Picture, transmission: Picture, airlight: tuple[float, float, float]) -> Picture:
    """Koschmieder's law: the attenuated scene plus scattered light, in linear light."""
    direct = transmission[..., None]
    return display(linear(picture) * direct + np.array(airlight) * (1 - direct))


def vignette(picture: Picture, stops: float, start: float = 0.35) -> Picture:
    """Corners darker by `stops` (negative), smoothly from `start` of the half diagonal outwards."""
    height, width = picture.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    radius = np.hypot((y - height / 2) / (height / 2), (x - width / 2) / (width / 2)) / np.sqrt(2)
    weight = np.clip((radius - start) / (1 - start), 0, 1) ** 1.5
    return display(linear(picture) * 2.0 ** (stops * weight)[..., None])


def grain(picture: Picture, sigma: float, seed: int = 1970) -> Picture:
    """Film grain: normal noise on L*, slightly clumped, strongest in the middle tones."""
    values = lab(picture)
    noise = _soft(np.random.default_rng(seed).normal(size=values.shape[:2]), 0.6)
    middle = 1 - np.abs(values[..., 0] / 50 - 1) * 0.6
    values[..., 0] += sigma * noise / noise.std() * middle
    return from_lab(values)


def mix(below: Picture, above: Picture, mask: Picture | float) -> Picture:
    """The upper picture through a mask (or with an opacity) over the lower one."""
    weight = mask[..., None] if isinstance(mask, np.ndarray) else mask
    return np.asarray(below * (1 - weight) + above * weight, dtype=np.float64)


def bokeh(picture: Picture, subject: Picture, fraction: float) -> Picture:
    """Blur everything but the subject with a round aperture; the subject does not bleed into the blur."""
    radius = max(2, round(fraction * min(picture.shape[:2])))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)).astype(np.float64)
    disc /= disc.sum()
    outside = np.clip(1 - subject, 1e-3, 1)
    top = cv2.filter2D(linear(picture) * outside[..., None], -1, disc, borderType=cv2.BORDER_REFLECT)
    bottom = cv2.filter2D(outside, -1, disc, borderType=cv2.BORDER_REFLECT)
    blurred = display(np.asarray(top, dtype=np.float64) / np.asarray(bottom, dtype=np.float64)[..., None])
    return mix(blurred, picture, subject)


def spread(mask: Picture, fraction: float) -> Picture:
    """A mask with a much softer edge: sigma as a fraction of the shorter side."""
    return _blur(mask, fraction)


def _shoulder(light: Picture, brightest: float, knee: float) -> Picture:
    """Map [knee, brightest] to [knee, 1] with a rational roll-off of slope 1 at the knee."""
    if brightest <= 1:
        return light
    slope = (brightest - knee) / (1 - knee)
    t = np.clip((light - knee) / (brightest - knee), 0, None)
    return np.where(light > knee, knee + (1 - knee) * slope * t / (1 + (slope - 1) * t), light)


def _blur(values: Picture, fraction: float) -> Picture:
    return _soft(values, fraction * min(values.shape[:2]))


def _soft(values: Picture, sigma: float) -> Picture:
    blurred = cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, dtype=np.float64)
