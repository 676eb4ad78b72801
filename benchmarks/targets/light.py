"""Recipes for another light, hour, season or weather."""

from __future__ import annotations

import numpy as np

from benchmarks import darkroom as d
from benchmarks.colorimetry import Picture, display, from_pixels, linear, luminance
from benchmarks.photos import Photo, Recipe


def distance(photo: Photo) -> Picture:
    """An estimate of depth, 0…1: near at the bottom, the subject at about half the distance."""
    rows = np.linspace(1.0, 0.25, photo.pixels.shape[0])[:, None]
    return np.asarray(rows * (1 - 0.55 * d.spread(photo.subject, 0.01)), dtype=np.float64)


def from_above(photo: Photo) -> Picture:
    """A graduated filter: 1 at the top edge, 0 from two thirds down."""
    rows = np.clip(1 - np.linspace(0, 1.5, photo.pixels.shape[0]), 0, 1)[:, None]
    return np.asarray(np.repeat(rows, photo.pixels.shape[1], axis=1), dtype=np.float64)


def golden_hour(photo: Photo) -> Picture:
    """Low sun."""
    # The sun at 5-10 degrees with some open sky is about 4000 K; daylight-balanced film shows it warm. The sky
    # fills shadows (softer, slightly rosy), and highlights turn honey.
    picture = d.exposure(d.relight(from_pixels(photo.pixels), 4050), -0.12)
    picture = d.lightness(picture, ((0, 4), (25, 28), (60, 62), (100, 97)))
    return d.chroma(d.split_tone(picture, (3, 1), (3, 6)), 1.06, protect=True)


def blue_hour(photo: Photo) -> Picture:
    """After sunset."""
    # Only the sky lights the scene: about 11 000 K, a good stop darker after the camera's compensation, soft low
    # contrast with slightly lifted, blue-violet shadows, and colours that the eye starts to lose.
    picture = d.exposure(d.relight(from_pixels(photo.pixels), 10500), -0.95)
    picture = d.lightness(d.chroma(picture, 0.85), ((0, 3), (30, 31), (70, 68), (100, 93)))
    return d.split_tone(picture, (3, -9), (0, -5))


def overcast(photo: Photo) -> Picture:
    """A grey morning."""
    # A cloud deck is a huge 6800 K softbox: no hard light, so highlights drop, shadows open, chroma falls by a
    # quarter, and the daylight balance leaves a faint cool cast.
    picture = d.exposure(d.relight(from_pixels(photo.pixels), 6800), -0.15)
    return d.chroma(d.lightness(picture, ((0, 6), (25, 29), (60, 58), (100, 89))), 0.72)


def foggy(photo: Photo) -> Picture:
    """Fog."""
    # Koschmieder: transmission exp(-beta d) with a barely cool airlight, as bright as the brighter parts of the
    # scene (fog glows with the light there is); droplets also scatter forward, which softens detail.
    picture = d.mix(from_pixels(photo.pixels), d.soften(from_pixels(photo.pixels), 0.006), 0.6)
    picture = d.chroma(d.relight(picture, 6200), 0.85)
    glow = float(np.clip(1.1 * np.percentile(luminance(linear(picture)), 85), 0.22, 0.62))
    return d.haze(picture, np.exp(-1.1 * distance(photo)), (0.97 * glow, glow, 1.04 * glow))


def moonlit(photo: Photo) -> Picture:
    """Night under the moon."""
    # Day for night: a stop and a half under, tungsten balance for the blue that the dark-adapted eye expects
    # (Purkinje), nearly half the chroma lost, shadows deep but readable, edges falling off.
    picture = d.chroma(from_pixels(photo.pixels), 0.55)
    picture = d.exposure(d.relight(picture, 9000, balanced_for=4400), -1.5)
    picture = d.lightness(picture, ((0, 0), (20, 17), (50, 51), (100, 94)))
    return d.vignette(picture, -0.8)


def stormy(photo: Photo) -> Picture:
    """Before the storm."""
    # Heavy cloud: under by half a stop, more so above (graduated filter), steel-blue shadows, a third less
    # chroma, and the hard local contrast with which such skies are printed.
    picture = d.exposure(d.relight(from_pixels(photo.pixels), 7200), -0.55)
    picture = d.mix(picture, d.exposure(picture, -0.8), from_above(photo))
    picture = d.clarity(d.chroma(picture, 0.62), 0.45)
    return d.split_tone(picture, (-2, -5), (-1, -2))


def hot_desert(photo: Photo) -> Picture:
    """Summer heat in the desert."""
    # High sun reflected by sand: a third of a stop over, warm fill (4500 K), yellow highlights, dusty faded
    # shadows, blues and greens drying out.
    picture = d.exposure(d.relight(from_pixels(photo.pixels), 4500), 0.35)
    picture = d.lightness(picture, ((0, 5), (25, 27), (60, 63), (100, 100)))
    picture = d.hues(picture, 230, 90, 0, 0.6)
    return d.split_tone(picture, (3, 6), (0, 9))


def winter_cold(photo: Photo) -> Picture:
    """A cold winter's day."""
    # Snow light: open shade and white ground, 8000 K on daylight film, a little over, shadows filled by the
    # snow, chroma down by a third with the reds kept least.
    picture = d.exposure(d.relight(from_pixels(photo.pixels), 8000), 0.2)
    picture = d.lightness(picture, ((0, 4), (25, 29), (60, 64), (100, 100)))
    return d.split_tone(d.chroma(picture, 0.66), (-1, -5), (-1, -3))


def autumn(photo: Photo) -> Picture:
    """Autumn colours."""
    # Leaves lose their green: yellow-greens turn to orange, low warm sun (4600 K), blues held back, browns and
    # reds richer, shadows towards brown.
    picture = d.hues(d.relight(from_pixels(photo.pixels), 4600), 120, 70, -38, 1.1)
    picture = d.hues(picture, 260, 80, 0, 0.6)
    picture = d.lightness(picture, ((0, 2), (25, 24), (60, 58), (100, 97)))
    return d.chroma(d.split_tone(picture, (4, 6), (1, 7)), 1.12, protect=True)


def underwater(photo: Photo) -> Picture:
    """Below the surface."""
    # Beer-Lambert over some 4 m of clear coastal water (absorption of red far above green and blue), plus the
    # blue-green veil of scattered daylight, growing with distance, and a little blur.
    light = linear(d.mix(from_pixels(photo.pixels), d.soften(from_pixels(photo.pixels), 0.004), 0.6))
    water = display(light * np.exp(-np.array([0.30, 0.055, 0.035]) * 4.0))
    return d.haze(water, np.exp(-0.75 * distance(photo)), (0.02, 0.22, 0.33))


def candlelight(photo: Photo) -> Picture:
    """Candles."""
    # A candle is 1900 K to 2200 K; the eye (and a camera set to tungsten) compensates most of it. Dim, about a
    # stop under, strong fall-off away from the flame, shadows warm brown instead of black.
    picture = d.relight(from_pixels(photo.pixels), 2150, balanced_for=3100)
    picture = d.vignette(d.exposure(picture, -0.75), -1.1, 0.25)
    picture = d.lightness(picture, ((0, 2), (25, 26), (60, 63), (100, 98)))
    return d.split_tone(picture, (6, 3), (6, 1))


def rosy_dawn(photo: Photo) -> Picture:
    """First light."""
    # Before sunrise the eastern sky is pink and the opposite sky lilac: weak light, low contrast, highlights
    # peach-pink, shadows lavender, about 4800 K.
    picture = d.exposure(d.relight(from_pixels(photo.pixels), 4900), -0.1)
    picture = d.lightness(d.chroma(picture, 0.88), ((0, 9), (25, 31), (60, 62), (100, 95)))
    return d.split_tone(picture, (8, -6), (9, 4))


RECIPES: dict[str, Recipe] = {
    "golden-hour": golden_hour,
    "blue-hour": blue_hour,
    "overcast": overcast,
    "foggy": foggy,
    "moonlit": moonlit,
    "stormy": stormy,
    "hot-desert": hot_desert,
    "winter-cold": winter_cold,
    "autumn": autumn,
    "underwater": underwater,
    "candlelight": candlelight,
    "rosy-dawn": rosy_dawn,
}
