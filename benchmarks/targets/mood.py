"""Recipes for moods and colour grades."""

from __future__ import annotations

from benchmarks import darkroom as d
from benchmarks.colorimetry import Picture, from_lab, from_pixels, lab
from benchmarks.photos import Photo, Recipe


def dreamy(photo: Photo) -> Picture:
    """Dreamy and ethereal."""
    # The Orton effect: a bright blurred copy screened over the sharp one; then airy - half a stop over, blacks
    # lifted, chroma slightly down, a rose-lavender breath.
    picture = d.exposure(from_pixels(photo.pixels), 0.3)
    picture = d.bloom(d.mix(picture, d.soften(picture, 0.015), 0.4), 0.55, 0.03, 0.1)
    picture = d.lightness(picture, ((0, 11), (30, 37), (65, 70), (100, 99)))
    return d.split_tone(d.chroma(picture, 0.85), (4, -5), (3, 1))


def teal_orange(photo: Photo) -> Picture:
    """The blockbuster grade."""
    # Skin sits near hue 50 degrees; its complement is teal. Shadows and blues are pushed to teal, mids and
    # highlights to orange, warm hues gathered around 55 degrees, firm contrast.
    picture = d.lightness(from_pixels(photo.pixels), ((0, 1), (20, 15), (50, 49), (75, 78), (100, 98)))
    picture = d.hues(picture, 270, 80, -45, 1.0)
    picture = d.hues(picture, 20, 35, 14, 1.0)
    return d.split_tone(picture, (-12, -11), (6, 14))


def high_key(photo: Photo) -> Picture:
    """High key."""
    # Nearly shadowless lighting: a stop over with a shoulder, shadows lifted well above black, chroma a bit
    # lighter.
    picture = d.exposure(from_pixels(photo.pixels), 0.95)
    picture = d.lightness(picture, ((0, 8), (20, 30), (50, 61), (75, 84), (100, 100)))
    return d.chroma(picture, 0.86)


def low_key(photo: Photo) -> Picture:
    """Low key."""
    # One light, black surroundings: a stop under, shadows sink, highlights on the subject kept, edges fall off,
    # colours subdued.
    picture = d.exposure(from_pixels(photo.pixels), -0.95)
    picture = d.lightness(picture, ((0, 0), (20, 12), (50, 46), (80, 82), (100, 99)))
    return d.chroma(d.vignette(picture, -1.2, 0.25), 0.85)


def pastel(photo: Photo) -> Picture:
    """Pastel."""
    # Colours mixed with white: the tone scale is squeezed into its upper three quarters, chroma goes down by a quarter,
    # highlights blush, shadows lean to lilac.
    picture = d.chroma(from_pixels(photo.pixels), 0.72)
    values = lab(picture)
    values[..., 0] = d.curve(((0, 27), (25, 44), (50, 66), (80, 88), (100, 98)), values[..., 0])
    return d.split_tone(from_lab(values), (3, -4), (3, 1))


def hdr(photo: Photo) -> Picture:
    """Punchy HDR."""
    # Tone mapping: the large-scale luminance compressed (shadows up, highlights down), local contrast and
    # texture up by half, vibrance up by a third.
    picture = d.lightness(from_pixels(photo.pixels), ((0, 2), (20, 30), (50, 54), (80, 78), (100, 96)))
    picture = d.clarity(d.clarity(picture, 0.55, 0.05), 0.4, 0.008)
    return d.chroma(picture, 1.32, protect=True)


def neon(photo: Photo) -> Picture:
    """Cyberpunk neon."""
    # Night street under signs: under by half a stop, shadows violet-blue, highlights magenta on one side of the
    # wheel while yellows die, cyan blues vivid, glowing lights, hard contrast.
    picture = d.exposure(from_pixels(photo.pixels), -0.45)
    picture = d.hues(picture, 85, 60, -50, 0.8)
    picture = d.split_tone(picture, (14, -30), (16, -13))
    picture = d.lightness(picture, ((0, 0), (20, 15), (50, 50), (80, 83), (100, 100)))
    return d.bloom(d.chroma(picture, 1.15), 0.35, 0.03, 0.2)


def horror(photo: Photo) -> Picture:
    """A horror film still."""
    # The sickly grade: green-cyan cast in shadows and mids, colour drained by half, a stop under, hard contrast,
    # black corners.
    picture = d.exposure(d.chroma(from_pixels(photo.pixels), 0.5), -0.8)
    picture = d.lightness(picture, ((0, 0), (20, 15), (50, 49), (80, 81), (100, 96)))
    return d.vignette(d.split_tone(picture, (-7, 1), (-6, 6)), -1.3)


def cheerful(photo: Photo) -> Picture:
    """Bright and cheerful."""
    # The summer-catalogue look: a third of a stop over, open shadows, vibrance up by a third, a little warmth.
    picture = d.exposure(d.relight(from_pixels(photo.pixels), 5150), 0.4)
    picture = d.lightness(picture, ((0, 2), (25, 30), (60, 65), (100, 100)))
    return d.chroma(picture, 1.35, protect=True)


def nordic(photo: Photo) -> Picture:
    """Muted Scandinavian."""
    # Interior magazines of the north: soft window light, chroma down by 45 %, slightly cool whites, blacks
    # lifted, bright mids.
    picture = d.exposure(d.relight(from_pixels(photo.pixels), 6000), 0.2)
    picture = d.lightness(picture, ((0, 10), (25, 31), (60, 64), (100, 98)))
    return d.chroma(picture, 0.55)


def romantic(photo: Photo) -> Picture:
    """A romantic rose glow."""
    # Wedding-portrait softness: diffusion filter on the highlights, rose tint throughout, warm skin, low
    # contrast.
    picture = d.bloom(d.exposure(from_pixels(photo.pixels), 0.15), 0.4, 0.02, 0.2)
    picture = d.lightness(picture, ((0, 8), (30, 34), (65, 67), (100, 98)))
    return d.split_tone(picture, (8, 1), (8, 3))


def science_fiction(photo: Photo) -> Picture:
    """A cold science-fiction film."""
    # The sterile future: daylight stock under cool fixtures (steel blue-cyan cast), chroma down by 40 %, clean
    # contrast, highlights glowing cold.
    picture = d.relight(d.chroma(from_pixels(photo.pixels), 0.6), 7400)
    picture = d.lightness(picture, ((0, 0), (25, 20), (50, 49), (80, 84), (100, 100)))
    return d.bloom(d.split_tone(picture, (-5, -7), (-4, -3)), 0.2, 0.03, 0.3)


RECIPES: dict[str, Recipe] = {
    "dreamy": dreamy,
    "teal-orange": teal_orange,
    "high-key": high_key,
    "low-key": low_key,
    "pastel": pastel,
    "hdr": hdr,
    "neon": neon,
    "horror": horror,
    "cheerful": cheerful,
    "nordic": nordic,
    "romantic": romantic,
    "science-fiction": science_fiction,
}
