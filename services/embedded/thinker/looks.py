"""The looks that the thinker knows, as differences from an ordinary, well exposed daylight photograph in CIELAB.

They describe typical pictures of the look at moderate strength, and are `fitted` to the source, so that an effect that
the source already has is not added a second time.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from services.embedded.thinker.measurements import Tone

Pair = tuple[float, float]


@dataclass(frozen=True)
class HueMove:
    """Turn one range of hues: `centre` and `turn` in degrees of the (a*, b*) plane."""

    centre: float
    turn: float
    chroma: float = 1.0
    light: float = 0.0


@dataclass(frozen=True)
class Look:
    """Differences from an ordinary photograph.

    `light` is the change of L* in the midtones, `contrast` the slope of the tone curve
    there, `black` and `white` the change of L* at the ends. `cast`, `shadows` and
    `highlights` are (a*, b*) added everywhere (at L* 50, growing with lightness), in the dark and in the bright half.
    `chroma` multiplies colourfulness, `mono` is the share of colour taken away before
    the casts. `vignette` is the loss of lightness in the corners (share), `top` the change
    of L* at the upper edge, `haze` and `glow` are shares, `grain` the standard deviation
    of the noise in L*, `poster` 1 for flat areas of few tones. `key` is the usual mean L* of such
    pictures, or 0 where any will do.
    """

    light: float = 0.0
    contrast: float = 1.0
    black: float = 0.0
    white: float = 0.0
    cast: Pair = (0.0, 0.0)
    shadows: Pair = (0.0, 0.0)
    highlights: Pair = (0.0, 0.0)
    chroma: float = 1.0
    mono: float = 0.0
    vignette: float = 0.0
    top: float = 0.0
    haze: float = 0.0
    glow: float = 0.0
    grain: float = 0.0
    clarity: float = 0.0
    poster: float = 0.0
    key: float = 0.0
    hues: tuple[HueMove, ...] = ()


_GREENS_TO_AMBER = HueMove(centre=125.0, turn=-55.0, chroma=1.1)

LOOKS: dict[str, Look] = {
    "golden hour": Look(
        light=2, contrast=1.02, black=1, cast=(5, 15), highlights=(2, 6), shadows=(1, 0), chroma=1.1, glow=0.08, vignette=0.05
    ),
    "sunset": Look(light=-5, contrast=1.08, cast=(9, 13), shadows=(2, -6), highlights=(4, 8), chroma=1.15, vignette=0.06, top=-2),
    "sunrise": Look(light=3, contrast=0.95, black=2, cast=(6, 10), highlights=(2, 5), chroma=1.05, haze=0.06, glow=0.08),
    "blue hour": Look(light=-11, contrast=0.97, white=-6, cast=(1, -17), shadows=(1, -4), chroma=0.85, key=38),
    "night": Look(light=-21, contrast=1.02, white=-14, cast=(0, -13), shadows=(0, -3), chroma=0.62, vignette=0.12, key=23),
    "overcast": Look(light=-1, contrast=0.85, black=3, white=-4, cast=(-1, -4), chroma=0.76),
    "misty morning": Look(light=4, contrast=0.78, black=7, cast=(-1, -4), chroma=0.74, haze=0.2),
    "fog": Look(light=5, contrast=0.75, black=6, cast=(-1, -2), chroma=0.65, haze=0.35),
    "sunny": Look(light=6, contrast=1.12, cast=(1, 6), chroma=1.17, key=60),
    "winter": Look(light=4, contrast=1.02, cast=(-1, -10), highlights=(0, -2), chroma=0.75),
    "autumn": Look(light=-1, contrast=1.05, cast=(6, 11), shadows=(2, 1), chroma=1.1, hues=(_GREENS_TO_AMBER,)),
    "spring": Look(light=6, contrast=0.98, black=2, cast=(-3, 3), chroma=1.15),
    "summer": Look(light=5, contrast=1.08, cast=(2, 8), chroma=1.18),
    "desert": Look(light=4, contrast=1.08, cast=(6, 16), highlights=(0, 4), chroma=1.02, haze=0.04),
    "1970s print": Look(
        light=1, contrast=0.88, black=9, white=-4, cast=(4, 11), shadows=(2, 0), chroma=0.78, grain=1.6, vignette=0.1
    ),
    "old postcard": Look(light=1, contrast=0.88, black=8, white=-5, cast=(3, 12), chroma=0.66, grain=1.4, vignette=0.14),
    "vintage": Look(light=0, contrast=0.9, black=8, white=-4, cast=(3, 9), chroma=0.74, grain=1.3, vignette=0.12),
    "1980s": Look(light=1, contrast=1.05, black=4, cast=(5, 1), shadows=(2, -5), chroma=1.12, grain=1.5, glow=0.08),
    "disposable camera": Look(
        light=2, contrast=1.13, black=3, cast=(-1, 4), shadows=(-3, 0), highlights=(2, 4), chroma=1.08, grain=2.0, vignette=0.18
    ),
    "polaroid": Look(
        light=4,
        contrast=0.87,
        black=8,
        white=-3,
        cast=(1, 5),
        shadows=(-3, -4),
        highlights=(1, 6),
        chroma=0.83,
        grain=1.2,
        vignette=0.12,
    ),
    "film noir": Look(light=-7, contrast=1.35, mono=1, vignette=0.25, grain=1.8),
    "high-key": Look(light=14, contrast=0.85, black=7, chroma=0.88, key=76),
    "low-key": Look(light=-13, contrast=1.12, white=-3, chroma=0.82, vignette=0.22, key=26),
    "moody": Look(light=-8, contrast=1.1, black=2, white=-3, cast=(-1, -3), chroma=0.75, vignette=0.18, key=36),
    "dramatic": Look(light=-4, contrast=1.28, chroma=0.97, vignette=0.18, clarity=0.15),
    "cinematic": Look(light=-3, contrast=1.12, black=1, shadows=(-7, -10), highlights=(5, 12), chroma=1.0, vignette=0.1),
    "cyberpunk": Look(
        light=-8, contrast=1.18, cast=(4, -6), shadows=(5, -18), highlights=(11, -8), chroma=1.3, vignette=0.15, glow=0.1
    ),
    "dreamy": Look(light=5, contrast=0.86, black=4, cast=(3, 0), chroma=0.92, glow=0.32),
    "pastel": Look(light=10, contrast=0.76, black=9, cast=(2, 0), chroma=0.7, key=74),
    "matte": Look(light=0, contrast=0.9, black=11, white=-4, chroma=0.82),
    "punchy": Look(light=1, contrast=1.2, chroma=1.27, clarity=0.18),
    "product": Look(light=3, contrast=1.05, chroma=1.03),
    "portrait": Look(light=2, contrast=1.0, cast=(1, 3)),
    "candlelight": Look(light=-10, contrast=1.06, cast=(9, 22), chroma=0.95, vignette=0.26, key=32),
    "cosy": Look(light=-1, contrast=0.98, black=2, cast=(5, 13), chroma=1.02, vignette=0.12),
    "clinical": Look(light=8, contrast=1.03, cast=(-4, -6), chroma=0.62),
    "underwater": Look(light=-5, contrast=0.85, black=3, white=-8, cast=(-14, -15), chroma=0.75, haze=0.1),
    "sepia": Look(light=0, contrast=0.93, black=5, white=-4, cast=(6, 20), mono=1, grain=1.5, vignette=0.14),
    "bleach bypass": Look(light=-1, contrast=1.32, chroma=0.48, grain=1.5),
    "cross-processed": Look(light=1, contrast=1.22, shadows=(-5, -14), highlights=(-3, 18), chroma=1.2),
    "spooky": Look(light=-13, contrast=1.18, cast=(-6, -2), chroma=0.5, vignette=0.3, key=28),
    "romantic": Look(light=4, contrast=0.92, black=3, cast=(7, 5), chroma=0.98, glow=0.2, vignette=0.06),
    "minimalist": Look(light=8, contrast=0.92, black=2, chroma=0.55),
    "rainy": Look(light=-6, contrast=0.9, white=-4, cast=(-2, -7), chroma=0.65, haze=0.08),
    "stormy": Look(light=-11, contrast=1.15, white=-5, cast=(-2, -7), chroma=0.6, vignette=0.18, top=-5, key=32),
    "tropical": Look(light=5, contrast=1.1, cast=(-2, 4), chroma=1.32),
    "comic": Look(light=2, contrast=1.28, chroma=1.35, poster=1),
    "sci-fi": Look(light=-4, contrast=1.15, cast=(-4, -10), chroma=0.82),
    "matrix": Look(light=-7, contrast=1.12, cast=(-12, 7), chroma=0.7, vignette=0.12),
    "fairy tale": Look(light=4, contrast=0.95, cast=(4, 5), chroma=1.15, glow=0.25, vignette=0.06),
    "faded": Look(light=2, contrast=0.86, black=9, white=-4, chroma=0.74),
    "documentary": Look(mono=1, contrast=1.18, grain=1.6),
    # Plain adjustments without an amount. Their differences are the smallest that a viewer calls "more".
    "brighter": Look(light=8),
    "darker": Look(light=-8),
    "contrasty": Look(contrast=1.22),
    "flat": Look(contrast=0.8),
    "warm": Look(cast=(3, 9)),
    "cool": Look(cast=(-1, -9)),
    "vivid": Look(chroma=1.28),
    "muted": Look(chroma=0.72),
    "monochrome": Look(mono=1),
    "magenta": Look(cast=(8, -3)),
    "green": Look(cast=(-8, 3)),
    "lifted blacks": Look(black=8),
    "deep blacks": Look(black=-4, contrast=1.06),
    "open shadows": Look(light=3, black=1, contrast=0.93),
    "soft highlights": Look(white=-7),
    "sepia toned": Look(cast=(6, 20), mono=1),
    "vignetted": Look(vignette=0.25),
    "hazy": Look(haze=0.2),
    "glowing": Look(glow=0.25),
    "grainy": Look(grain=2.5),
    "crisp": Look(clarity=0.18),
    "posterised": Look(poster=1),
    "dark top": Look(top=-9),
}


def scaled(look: Look, strength: float) -> Look:
    """The same look, `strength` times as strong (0 leaves the picture as it is)."""
    factors = {"contrast", "chroma"}
    values: dict[str, object] = {}
    for item in fields(look):
        value = getattr(look, item.name)
        if item.name in factors:
            values[item.name] = float(value) ** strength
        elif item.name in {"key", "hues", "poster"}:
            values[item.name] = value
        elif item.name in {"mono", "haze", "glow", "vignette"}:
            values[item.name] = min(1.0, float(value) * strength)
        elif isinstance(value, tuple):
            values[item.name] = (value[0] * strength, value[1] * strength)
        else:
            values[item.name] = float(value) * strength
    if look.mono >= 1.0:
        values["mono"] = 1.0
    return replace(look, **values)  # type: ignore[arg-type]


def joined(looks: list[Look]) -> Look:
    """Several looks at once: differences add, factors multiply, effects take the stronger."""
    out = Look()
    for look in looks:
        out = Look(
            light=out.light + look.light,
            contrast=out.contrast * look.contrast,
            black=out.black + look.black,
            white=out.white + look.white,
            cast=_add(out.cast, look.cast),
            shadows=_add(out.shadows, look.shadows),
            highlights=_add(out.highlights, look.highlights),
            chroma=out.chroma * look.chroma,
            mono=max(out.mono, look.mono),
            vignette=max(out.vignette, look.vignette),
            top=out.top + look.top,
            haze=max(out.haze, look.haze),
            glow=max(out.glow, look.glow),
            grain=max(out.grain, look.grain),
            clarity=max(out.clarity, look.clarity),
            poster=max(out.poster, look.poster),
            key=max(out.key, look.key) if not (out.key and look.key) else (out.key + look.key) / 2,
            hues=out.hues + look.hues,
        )
    return out


def _add(first: Pair, second: Pair) -> Pair:
    return first[0] + second[0], first[1] + second[1]


_NEUTRAL = np.array([1.0, 4.0])
"""Mean (a*, b*) of an ordinary daylight photograph."""


def fitted(look: Look, source: Tone) -> Look:
    """The look as this source needs it: a warm picture needs less warmth, a dark one less dark."""
    light = look.light
    if look.key and light:
        # Half by the look's own difference, half towards the usual lightness of such pictures, never backwards.
        wanted = (look.key - float(source.mean[0])) * np.sign(light)
        wanted = float(np.clip(wanted, 0.25 * abs(light), 1.4 * abs(light))) * np.sign(light)
        light = float(0.5 * light + 0.5 * wanted)
    cast = np.array(look.cast)
    size = float(np.hypot(*cast))
    if size > 0:
        already = float((source.mean[1:] - _NEUTRAL) @ cast) / size
        share = float(np.clip(1.0 - 0.3 * already / size, 0.6, 1.2))
        cast = cast * share
    chroma = look.chroma
    if chroma > 1.0:
        # Strong colours can hardly be raised further.
        chroma = 1.0 + (chroma - 1.0) * float(np.clip(1.6 - source.spread / 20.0, 0.45, 1.15))
    return replace(look, light=light, cast=(float(cast[0]), float(cast[1])), chroma=chroma)
