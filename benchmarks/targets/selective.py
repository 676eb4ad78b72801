"""Recipes that treat the subject and its surroundings separately, with hand-drawn masks."""

from __future__ import annotations

import numpy as np

from benchmarks import darkroom as d
from benchmarks.colorimetry import Picture, display, from_pixels, linear, luminance
from benchmarks.photos import Photo, Recipe


def white_product(photo: Photo) -> Picture:
    """A product on a white sweep."""
    # Catalogue practice: pure paper white (L* 97) all around, only a soft contact shadow left below the object,
    # the object itself neutral, a quarter stop brighter, crisp.
    source = from_pixels(photo.pixels)
    foreground = d.clarity(d.exposure(d.relight(source, 5900), 0.25), 0.15)
    drop = round(0.02 * photo.pixels.shape[0])
    below = np.pad(d.spread(photo.subject, 0.03), ((drop, 0), (0, 0)))[:-drop]
    sweep = display(np.full(source.shape, 0.93) * (1 - 0.22 * below)[..., None])
    return d.mix(sweep, foreground, photo.subject)


def black_backdrop(photo: Photo) -> Picture:
    """Against black velvet."""
    # Studio with flagged lights: the surroundings five stops down and without colour, the subject
    # as lit, with a little more contrast.
    source = from_pixels(photo.pixels)
    background = d.chroma(d.exposure(source, -5), 0.4)
    foreground = d.lightness(source, ((0, 0), (25, 22), (60, 62), (100, 100)))
    return d.mix(background, foreground, photo.subject)


def only_colour(photo: Photo) -> Picture:
    """One object in colour."""
    # Selective colour as wedding and advertising photographers do it: luminosity black and white around the
    # object that keeps its own colour, unchanged.
    source = from_pixels(photo.pixels)
    return d.mix(d.monochrome(source, (0.30, 0.59, 0.11)), source, photo.accent)


def blurred_background(photo: Photo) -> Picture:
    """A portrait lens, wide open."""
    # An 85 mm at f/1.4: everything but the subject through a round aperture of 4 % of the frame; the portrait
    # print burns the background in by half a stop.
    source = from_pixels(photo.pixels)
    picture = d.bokeh(source, photo.subject, 0.04)
    return d.mix(d.chroma(d.exposure(picture, -0.55), 0.92), picture, photo.subject)


def stand_out(photo: Photo) -> Picture:
    """The subject stands out."""
    # Dodge and burn: the subject a third of a stop up with more chroma, the surroundings 0.8 stop down and half
    # as colourful, the transition wide and invisible.
    source = from_pixels(photo.pixels)
    soft = d.spread(photo.subject, 0.012)
    foreground = d.chroma(d.exposure(source, 0.3), 1.12, protect=True)
    return d.mix(d.chroma(d.exposure(source, -0.8), 0.55), foreground, soft)


def spotlight(photo: Photo) -> Picture:
    """A stage spotlight."""
    # One follow spot (3200 K tungsten on a camera at 4000 K): an oval pool of light over the subject's centre,
    # three stops down outside it.
    source = from_pixels(photo.pixels)
    height, width = photo.pixels.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    total = photo.subject.sum()
    cy, cx = (photo.subject * y).sum() / total, (photo.subject * x).sum() / total
    radius = np.hypot((y - cy) / (0.46 * height), (x - cx) / (0.32 * width))
    pool = d.curve(((0.7, 1), (1.0, 0.5), (1.35, 0)), radius)
    lit = d.relight(d.exposure(source, 0.2), 3500, balanced_for=4200)
    return display(linear(lit) * 2.0 ** (-3 * (1 - pool))[..., None])


def silhouette(photo: Photo) -> Picture:
    """A silhouette."""
    # Exposed for the background: the subject five and a half stops down, almost black, what is behind it a
    # third of a stop up.
    source = from_pixels(photo.pixels)
    light = linear(source)
    dark = display(np.repeat((0.02 * luminance(light))[..., None], 3, axis=-1))
    return d.mix(d.exposure(source, 0.4), dark, photo.subject)


RECIPES: dict[str, Recipe] = {
    "white-product": white_product,
    "black-backdrop": black_backdrop,
    "only-colour": only_colour,
    "blurred-background": blurred_background,
    "stand-out": stand_out,
    "spotlight": spotlight,
    "silhouette": silhouette,
}
