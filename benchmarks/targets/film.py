"""Recipes for film stocks, papers and printing processes."""

from __future__ import annotations

from benchmarks import darkroom as d
from benchmarks.colorimetry import Picture, from_pixels
from benchmarks.photos import Photo, Recipe


def seventies(photo: Photo) -> Picture:
    """A faded print of the 1970s."""
    # Chromogenic prints lose cyan dye first and yellow their base: blacks lift towards red-brown, blue whites
    # drop, mid contrast falls, chroma down by a quarter; coarse grain.
    picture = d.channels(
        from_pixels(photo.pixels),
        red=((0, 0.14), (0.3, 0.38), (0.7, 0.76), (1, 0.96)),
        green=((0, 0.10), (0.3, 0.32), (0.7, 0.70), (1, 0.91)),
        blue=((0, 0.10), (0.3, 0.29), (0.7, 0.60), (1, 0.77)),
    )
    return d.grain(d.chroma(picture, 0.78), 1.6)


def film_noir(photo: Photo) -> Picture:
    """Film noir."""
    # Orthochromatic-looking low-key black and white: a stop under in the shadows, steep S-curve with white
    # highlights kept, heavy vignette, visible grain.
    picture = d.monochrome(from_pixels(photo.pixels), (0.25, 0.60, 0.15))
    picture = d.lightness(picture, ((0, 0), (20, 9), (45, 36), (70, 73), (100, 99)))
    return d.grain(d.vignette(picture, -1.3), 1.8, seed=1947)


def classic_mono(photo: Photo) -> Picture:
    """A classic black and white photograph."""
    # Panchromatic film behind a yellow filter on grade 2-3 paper: full tonal range, gentle S, fine grain.
    picture = d.monochrome(from_pixels(photo.pixels), (0.36, 0.54, 0.10))
    picture = d.lightness(picture, ((0, 1), (25, 21), (50, 50), (75, 79), (100, 99)))
    return d.grain(picture, 1.0, seed=1955)


def sepia(photo: Photo) -> Picture:
    """An antique sepia print."""
    # Sulphide toning turns silver to brown (about a*=9, b*=22 in the middle tones) on cream paper; old
    # emulsions are blue-sensitive with low contrast, and the edges of the plate darken.
    picture = d.monochrome(from_pixels(photo.pixels), (0.20, 0.50, 0.30))
    picture = d.duotone(picture, ((0, 10, 6, 8), (50, 49, 10, 23), (100, 92, 2, 15)))
    return d.grain(d.vignette(picture, -0.7), 1.2, seed=1890)


def postcard(photo: Photo) -> Picture:
    """An old colour postcard."""
    # Four-colour offset on uncoated card: the card is cream, ink black is a lifted brown-grey, blues lean to
    # cyan, reds to vermilion, with chroma kept but the range of tones short.
    picture = d.hues(from_pixels(photo.pixels), 275, 60, -22, 1.1)
    picture = d.hues(picture, 20, 40, 10, 1.0)
    picture = d.channels(
        picture,
        red=((0, 0.17), (0.5, 0.56), (1, 0.95)),
        green=((0, 0.16), (0.5, 0.53), (1, 0.91)),
        blue=((0, 0.16), (0.5, 0.46), (1, 0.78)),
    )
    return d.grain(d.mix(picture, d.soften(picture, 0.003), 0.5), 1.2, seed=1962)


def polaroid(photo: Photo) -> Picture:
    """An instant picture."""
    # SX-70 integral film: short range, milky cyan-green shadows, creamy highlights with a little magenta in the
    # skin, soft lens, chroma down a fifth, uneven spread towards the corners.
    picture = d.mix(from_pixels(photo.pixels), d.soften(from_pixels(photo.pixels), 0.005), 0.6)
    picture = d.channels(
        picture,
        red=((0, 0.09), (0.3, 0.31), (0.7, 0.77), (1, 0.97)),
        green=((0, 0.13), (0.3, 0.35), (0.7, 0.73), (1, 0.94)),
        blue=((0, 0.15), (0.3, 0.35), (0.7, 0.65), (1, 0.82)),
    )
    return d.vignette(d.chroma(picture, 0.80), -0.45)


def bleach_bypass(photo: Photo) -> Picture:
    """Silver left in the print."""
    # Skipping the bleach keeps the silver: a black and white image laid over the colour one. The textbook way
    # is the luminance in overlay over the picture at half its chroma.
    source = from_pixels(photo.pixels)
    grey = d.monochrome(source, (0.21, 0.72, 0.07))
    muted = d.chroma(source, 0.5)
    overlay = d.curve(((0, 0), (0.5, 0.5), (1, 1)), 2 * muted * grey)
    overlay = d.mix(overlay, 1 - 2 * (1 - muted) * (1 - grey), (grey[..., 0] >= 0.5).astype(float))
    return d.grain(d.split_tone(d.mix(muted, overlay, 0.8), (-1, -2), (0, 0)), 1.2, seed=1984)


def matte(photo: Photo) -> Picture:
    """Matte editorial."""
    # The magazine matte: the toe of the tone curve lifted to L* 15, whites held at 94, mid contrast kept, a
    # fifth of the chroma taken out, a breath of blue in the shadows and of cream in the lights.
    picture = d.lightness(from_pixels(photo.pixels), ((0, 15), (20, 24), (50, 50), (75, 75), (100, 94)))
    return d.split_tone(d.chroma(picture, 0.78), (-1, -4), (1, 4))


def cross_process(photo: Photo) -> Picture:
    """Slide film in the wrong chemistry."""
    # E-6 film in C-41: steep red and green, blue with lifted shadows and cut highlights - hence blue-green
    # shadows and yellow-green lights - and high contrast and chroma.
    return d.channels(
        from_pixels(photo.pixels),
        red=((0, 0), (0.25, 0.17), (0.6, 0.66), (1, 1)),
        green=((0, 0), (0.25, 0.23), (0.6, 0.67), (1, 1)),
        blue=((0, 0.16), (0.25, 0.31), (0.6, 0.53), (1, 0.82)),
    )


def kodachrome(photo: Photo) -> Picture:
    """Slide film of the 1950s."""
    # Kodachrome: dense blacks, firm contrast, deep warm reds and yellows, cyan-leaning blues, slightly warm
    # highlights; chroma a sixth up, exposed a touch under for saturation.
    picture = d.relight(d.exposure(from_pixels(photo.pixels), -0.2), 5000)
    picture = d.lightness(picture, ((0, 0), (20, 13), (50, 48), (75, 78), (100, 99)))
    picture = d.hues(picture, 280, 60, -12, 1.0)
    return d.chroma(picture, 1.16, protect=True)


def cyanotype(photo: Photo) -> Picture:
    """A blueprint."""
    # Prussian blue on white cotton paper: only blue light counts in the exposure, the deepest ink is about
    # L* 18, a* 6, b* -34, the paper slightly cold.
    picture = d.monochrome(from_pixels(photo.pixels), (0.15, 0.40, 0.45))
    return d.duotone(picture, ((0, 17, 7, -32), (50, 49, -4, -32), (100, 95, -1, -2)))


RECIPES: dict[str, Recipe] = {
    "seventies": seventies,
    "film-noir": film_noir,
    "classic-mono": classic_mono,
    "sepia": sepia,
    "postcard": postcard,
    "polaroid": polaroid,
    "bleach-bypass": bleach_bypass,
    "matte": matte,
    "cross-process": cross_process,
    "kodachrome": kodachrome,
    "cyanotype": cyanotype,
}
