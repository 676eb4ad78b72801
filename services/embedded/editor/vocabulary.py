"""The vocabulary of the parser: phrases and their meanings. Other words are reported as not understood."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, auto

from services.embedded.editor.plan import Area, Kind


class Role(IntEnum):  # integers hash fast, and the parser looks up roles often
    """The grammatical role of a phrase in a clause."""

    OPERATION = auto()  # a noun or verb that names an operation: "contrast", "sharpen"
    ADJECTIVE = auto()  # names one only when compared or measured: "more vivid"; bare it is a mood
    MOOD = auto()  # at most a nudge
    MORE = auto()  # a direction: up, down, or one that depends on what follows
    LEVEL = auto()  # an amount in words
    AREA = auto()
    TONAL = auto()  # shadows, highlights, ...: an operation of its own, or the region of another
    CHANGE = auto()  # make, turn, change
    REPLACE = auto()
    KEEP = auto()
    UNCHANGED = auto()
    NEGATION = auto()
    EXCEPT = auto()
    ONLY = auto()
    IN_COLOUR = auto()
    COLOUR_NOUN = auto()  # "the colour of"
    DETERMINER = auto()
    LINK = auto()  # of, on, in, ...: a thing may follow
    TO = auto()  # to, into, with, by: a value may follow
    LIKE = auto()  # starts a comparison, after which nothing is an operation
    JOIN = auto()
    HORIZONTAL = auto()
    VERTICAL = auto()
    CLOCKWISE = auto()
    COUNTERCLOCKWISE = auto()
    SQUARE = auto()
    CROP = auto()
    FLIP = auto()
    ROTATE = auto()
    TEXT = auto()
    BORDER = auto()
    GRADIENT = auto()
    EVERYTHING = auto()
    STOP = auto()  # without meaning
    # Roles of tokens that are not in the vocabulary:
    AMOUNT = auto()
    RATIO = auto()
    QUOTE = auto()
    COLOUR = auto()
    HUES = auto()  # "the reds"
    BREAK = auto()
    COMMA = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class Entry:
    """What a phrase means: ``kind`` and ``sign`` for operations, ``value`` for amounts, ``nudges`` for moods."""

    role: Role
    kind: Kind | None = None
    sign: int = 1
    value: float = 0.0
    area: Area | None = None
    nudges: tuple[tuple[Kind, float], ...] = ()
    word: str = ""


VOCABULARY: dict[tuple[str, ...], Entry] = {}
LONGEST = 5


def _put(phrases: str, entry: Entry) -> None:
    for phrase in phrases.split(","):
        words = tuple(phrase.split())
        if words:
            VOCABULARY[words] = entry


def _operations(kind: Kind, up: str, down: str = "", adjective_up: str = "", adjective_down: str = "") -> None:
    """Register an operation's nouns and verbs, and the adjectives whose bare form is only a mood."""
    _put(up, Entry(Role.OPERATION, kind, 1))
    _put(down, Entry(Role.OPERATION, kind, -1))
    _put(adjective_up, Entry(Role.ADJECTIVE, kind, 1, nudges=((kind, 0.07),)))
    _put(adjective_down, Entry(Role.ADJECTIVE, kind, -1, nudges=((kind, -0.07),)))


_operations(
    Kind.EXPOSURE,
    "exposure, brightness, luminosity, luminance, lightness, brighten, brighten up, brightening, brightened, brighter, "
    "lighten, lighten up, lightening, lighter, overexpose",
    "darken, darken down, darkening, darkened, darker, dim, dimming, dimmer, underexpose, darkness",
    "bright",
    "dark",
)
_operations(
    Kind.CONTRAST,
    "contrast, contrasts, contrasty, contrastier, contrasting, tonal contrast, global contrast",
    "flatten the contrast, flatter",
)
_operations(Kind.MATTE, "matte, matte look, matte finish, matte effect, matt look, matt finish, fade, fading")
_operations(
    Kind.WARMTH,
    "warmth, warmer, warm up, warming, temperature, colour temperature, white balance temperature, yellower, "
    "warm the, warm it, warm it up, warm this",
    "cooler, colder, cool down, cool it, cool it down, cool the, cool this, cooling, coolness",
    "warm, warm tone, warm tones, warm tint, warm cast, warm colours",
    "cool, cold, cool tone, cool tones, cold tones, cool tint, cool cast, cool colours",
)
_operations(Kind.TINT, "more magenta", "greener, more green")
_operations(
    Kind.SATURATION,
    "saturation, saturate, saturated, saturating, colour saturation, colour intensity, colourfulness, richness, "
    "colourful colours",
    "desaturate, desaturated, desaturating, desaturation, mute the, mute the colours, tone down the colours",
    "colourful, vivid",
    "muted, subdued",
)
_operations(Kind.VIBRANCE, "vibrance, vibrancy", "", "vibrant")
_operations(Kind.HUE, "hue, hues, hue shift, hue rotation")
_operations(
    Kind.MONOCHROME,
    "black and white, white and black, b and w, b / w, bw, monochrome, monochromatic, greyscale, grey scale, "
    "black and white photo, black and white photograph, black and white image, remove all colour, "
    "remove all the colour, remove all colours, remove the colour, remove the colours, without colour, colourless",
)
_operations(Kind.SEPIA, "sepia, sepia tone, sepia toned, sepia toning, sepia tint, sepia filter, sepia effect, sepia wash")
_operations(Kind.OVERLAY, "tint, tinted, colour overlay, overlay, colour cast, cast, wash, colour filter, colour tint, tinge")
_operations(
    Kind.INVERT,
    "invert, invert the colours, inverted, inverted colours, negative effect, photographic negative, invert colours, "
    "photo negative, colour negative",
)
_operations(Kind.GRAIN, "grain, film grain, grainy, grainier, film noise, noise grain, grain effect, film grain effect")
_operations(Kind.DENOISE, "denoise, denoising, noise reduction, smooth the noise, de noise, noise removal")
_put("noise, image noise, colour noise, sensor noise, digital noise", Entry(Role.OPERATION, Kind.GRAIN, word="noise"))
_operations(
    Kind.BLUR,
    "blur, blurry, blurred, blurring, blurrier, defocus, defocused, out of focus, gaussian blur, bokeh, bokeh effect, "
    "depth of field blur, soften, softening, softer, blur effect",
)
_operations(
    Kind.SHARPEN,
    "sharpen, sharpen up, sharpness, sharper, sharpening, crisper, crispness, unsharp mask, sharp, acuity",
    "",
    "crisp",
)
_operations(
    Kind.CLARITY,
    "clarity, local contrast, micro contrast, midtone contrast, structure, texture, definition, clearer",
    "",
    "",
    "soft",
)
_operations(
    Kind.HAZE,
    "haze, hazier, fog, foggier, mist, mistier, atmospheric haze",
    "dehaze, de haze, defog, dehazing",
    "hazy, foggy, misty",
)
_operations(
    Kind.GLOW,
    "glow, soft glow, bloom, glow effect, bloom effect, orton effect, soft focus, soft focus effect, "
    "highlight glow, diffusion glow, diffuse glow, halation",
)
_operations(Kind.LIGHT_LEAK, "light leak, light leaks, lens leak, film light leak, light leak effect")
_operations(Kind.VIGNETTE, "vignette, vignetting, dark vignette, vignette effect, black vignette, edge darkening")
_operations(
    Kind.WHITE_VIGNETTE,
    "white vignette, light vignette, bright vignette, white vignetting, light vignetting, faded edges, white edges",
)
_operations(Kind.POSTERIZE, "posterize, posterized, posterization, posterize effect, posterisation, posterised")
_operations(Kind.PIXELATE, "pixelate, pixelated, pixelation, pixel mosaic, mosaic, mosaic effect, pixelate effect")
_operations(
    Kind.SKETCH,
    "pencil sketch, sketch, pencil drawing, line drawing, edge drawing, pencil effect, sketch effect, charcoal sketch, "
    "outline drawing, edges only",
)
_operations(Kind.EMBOSS, "emboss, embossed, embossing, emboss effect, relief effect, bas relief")


def _tonal(words: str, kind: Kind, area: Area) -> None:
    _put(words, Entry(Role.TONAL, kind, area=area))


_tonal("highlights, highlight, bright areas, brightest areas, bright tones, light tones", Kind.HIGHLIGHTS, Area.HIGHLIGHTS)
_tonal("shadows, shadow, dark areas, darker areas, dark tones, shadow areas", Kind.SHADOWS, Area.SHADOWS)
_tonal("midtones, midtone, mid tones, mids, gamma, mid tone", Kind.MIDTONES, Area.MIDTONES)
_tonal("whites, white point, white level, white levels", Kind.WHITES, Area.HIGHLIGHTS)
_tonal("blacks, black point, black level, black levels, darkest tones", Kind.BLACKS, Area.SHADOWS)

for _words, _nudges in {
    "moody, brooding": ((Kind.EXPOSURE, -0.06), (Kind.CONTRAST, 0.05)),
    "vintage, retro, nostalgic": ((Kind.SEPIA, 0.08), (Kind.BLACKS, 0.05)),
    "dreamy, ethereal": ((Kind.GLOW, 0.08), (Kind.CLARITY, -0.06)),
    "cinematic": ((Kind.CONTRAST, 0.06), (Kind.VIGNETTE, 0.06)),
    "dramatic": ((Kind.CONTRAST, 0.08),),
    "punchy, punchier, lively": ((Kind.CONTRAST, 0.06), (Kind.VIBRANCE, 0.07)),
    "filmic, analogue, analog": ((Kind.GRAIN, 0.06), (Kind.BLACKS, 0.05)),
    "cozy, cosy, golden": ((Kind.WARMTH, 0.08),),
    "icy, frosty, chilly, wintry": ((Kind.WARMTH, -0.08),),
    "sunny, airy, luminous": ((Kind.EXPOSURE, 0.07),),
    "gloomy": ((Kind.EXPOSURE, -0.07),),
    "glowing": ((Kind.GLOW, 0.07),),
    "pastel": ((Kind.SATURATION, -0.06), (Kind.EXPOSURE, 0.05)),
    "bleak, sombre, somber": ((Kind.SATURATION, -0.07), (Kind.EXPOSURE, -0.05)),
}.items():
    _put(_words, Entry(Role.MOOD, nudges=_nudges))

_put(
    "increase, increased, increasing, raise, raised, raising, boost, boosted, boosting, add, added, adding, more, up, "
    "enhance, enhanced, enhancing, strengthen, strengthening, intensify, intensified, amplify, lift, lifted, lifting, "
    "push, push up, higher, stronger, bump, bump up, crank up, turn up, bring up, dial up, pull up, open, open up, "
    "extra, heighten, gain, apply, applied, applying, introduce, put, put in, plus, bring out, pump up, set, adjust, "
    "include, place, greater, high",
    Entry(Role.MORE, sign=1),
)
_put("add, put, insert, place, apply, draw, write, type, adding, include", Entry(Role.MORE, sign=1, word="add"))
_put(
    "decrease, decreased, decreasing, reduce, reduced, reducing, lower, lowered, lowering, less, down, drop, cut, "
    "weaken, turn down, bring down, pull down, tone down, dial down, dial back, pull back, minimise, minimize, lessen, "
    "diminish, weaker, fewer, minus, take down, remove, removing, take out, take away, eliminate, get rid of, "
    "suppress, ease, cut down, tame, low",
    Entry(Role.MORE, sign=-1),
)
_put("deepen, deeper, deepening, crush, crushed, crushing", Entry(Role.MORE, sign=1, word="deepen"))
_put("recover, recovering, restore", Entry(Role.MORE, sign=1, word="recover"))
for _words, _value in {
    "very slightly, ever so slightly, barely, a hint, a hint of, a trace of, the tiniest": 0.06,
    "slightly, slight, a touch, a touch of, touch, a little, a little bit, little, subtle, subtly, gently, gentle, tiny, "
    "lightly, light, mild, mildly, delicate, a tad, faint": 0.12,
    "a bit, bit, somewhat, a bit of, some what": 0.15,
    "moderately, moderate, noticeably, medium": 0.3,
    "strongly, strong, much, a lot, a lot of, lots of, heavily, heavy, significantly, considerably, dramatically, greatly, "
    "substantially, intense, intensely, hugely, really, very, far, big": 0.55,
    "extremely, extreme, drastically, massively": 0.8,
    "completely, fully, totally, entirely, full, maximum, to the maximum, all the way, pure, total": 1.0,
    "half, halve, a stop, one stop, a full stop": 0.5,
    "half a stop, half stop": 0.25,
    "two stops": 1.0,
    "a quarter, by a quarter": 0.25,
    "double, twice": 1.0,
}.items():
    _put(_words, Entry(Role.LEVEL, value=_value))


def _area(words: str, area: Area) -> None:
    _put(words, Entry(Role.AREA, area=area))


_area("subject, subjects, main subject, foreground, main object, object, main subjects", Area.SUBJECT)
_area("background, backdrop, backgrounds, behind the subject, surroundings, back ground", Area.BACKGROUND)
_area("sky, skies", Area.SKY)
_area("top, upper part, top part, upper half, top half, top edge, upper edge", Area.TOP)
_area("bottom, lower part, bottom part, lower half, bottom half, bottom edge, lower edge", Area.BOTTOM)
_area("left, left side, left half, left edge, left part, left hand side", Area.LEFT)
_area("right, right side, right half, right edge, right part, right hand side", Area.RIGHT)
_area("centre, central part, centre part", Area.CENTRE)
_area("edges, corners, edge, borders of the image, periphery, corner", Area.EDGES)

_put(
    "make, turn, change, set the colour, colour, recolour, recolouring, paint, dye, convert, transform, making, turning, "
    "changing, give, colourise, render, shift, alter, swap the colour",
    Entry(Role.CHANGE),
)
_put("shift, push, move, shifting, pushing", Entry(Role.CHANGE, word="shift"))
_put("replace, swap, substitute, exchange, fill, replacing, swap out, cut out", Entry(Role.REPLACE))
_put(
    "keep, keeping, preserve, preserving, leave, leaving, maintain, maintaining, retain, retaining, protect, protecting",
    Entry(Role.KEEP),
)
_put(
    "unchanged, untouched, as is, as it is, intact, alone, the same, as they are, unaffected, unaltered, unedited",
    Entry(Role.UNCHANGED),
)
_put(
    "no, not, don't, do not, without, never, avoid, avoiding, nor, neither, cannot, excluding any, free of, must not",
    Entry(Role.NEGATION),
)
_put(
    "except, except for, apart from, other than, excluding, save for, everything but, all but, but not, aside from, outside, "
    "outside of",
    Entry(Role.EXCEPT),
)
_put("only, just, solely", Entry(Role.ONLY))
_put(
    "in colour, in full colour, coloured, in its colour, in original colour, in its original colour, in their original colour",
    Entry(Role.IN_COLOUR),
)
_put(
    "selective colour, selective colour on, colour splash, colour splash on, colour pop, selective colour effect",
    Entry(Role.IN_COLOUR, word="splash"),
)
_put("colour of, colour, colours of, shade of", Entry(Role.COLOUR_NOUN))
_put("colours, the colours, colour", Entry(Role.COLOUR_NOUN, word="colours"))
_put("the, this, that, these, those, his, her, their, my, its, your, our, all the, all", Entry(Role.DETERMINER))
_put("of, on, in, for, from, at, over, across, inside, within, around, behind, under, along, near, through", Entry(Role.LINK))
_put("to, into, with, by, towards, toward, using, as, onto", Entry(Role.TO))
_put(
    "like, as if, as though, feel like, look like, looks like, feels like, reminiscent of, in the style of, style of, "
    "inspired by, in the spirit of, similar to, such as, as in, so that, evoke, evoking, resemble, imagine, "
    "suggesting, suggest, conveying, convey",
    Entry(Role.LIKE),
)
_put(
    "and, or, then, while, but, also, plus, as well as, along with, together with, and then, and also, but also, "
    "followed by, afterwards, after that, next, finally, yet, whilst, when, because, since, which, where, until, if, "
    "although, though, instead of, rather than, and with, in addition, in addition to, besides",
    Entry(Role.JOIN),
)
_put("instead of, rather than", Entry(Role.JOIN, word="not"))
_put("with, featuring, having", Entry(Role.TO, word="with"))
_put("horizontally, horizontal, left to right, left right, mirror image, sideways", Entry(Role.HORIZONTAL))
_put("vertically, vertical, upside down, top to bottom", Entry(Role.VERTICAL))
_put("clockwise, to the right, rightwards", Entry(Role.CLOCKWISE))
_put("counterclockwise, counter clockwise, anticlockwise, anti clockwise, to the left, leftwards", Entry(Role.COUNTERCLOCKWISE))
_put("square, a square, square format", Entry(Role.SQUARE))
_put("crop, cropped, cropping, trim", Entry(Role.CROP))
_put("flip, flipped, mirror, mirrored, flipping", Entry(Role.FLIP))
_put("rotate, rotated, rotating, rotation, straighten, tilt, spin", Entry(Role.ROTATE))
_put(
    "text, caption, words, word, title, label, watermark, headline, lettering, inscription, slogan, saying, that says, "
    "reading, that reads",
    Entry(Role.TEXT),
)
_put("border, frame, borders, passe partout, edge frame", Entry(Role.BORDER))
_put("gradient, fade from, blend from", Entry(Role.GRADIENT))
_put(
    "everything, everything else, all else, the rest, the whole thing, anything, anything else, the rest of the image, "
    "the rest of the picture, the rest of the photo, the other colours, "
    "all other colours, rest",
    Entry(Role.EVERYTHING),
)
_put(
    "a, an, it, is, be, are, image, picture, photo, photograph, pic, scene, shot, overall, entire, whole, please, look, "
    "looks, feel, effect, style, version, light, lighting, tones, tone, tonal, some, any, too, so, there, "
    "out, off, kindly, can you, could you, would you, i, want, would like, i'd, you, me, let, let's, us, to be, global, "
    "globally, amount, level, levels, value, slider, percent, percentage, amounts, strength, intensity, opacity, "
    "effect of, about, around, approximately, roughly, nearly, almost, exactly, same, size, edit, editing, result, "
    "final, original, source, overall look, colour grade, colour grading, grade, grading, just, simply, nice, "
    "no more than, not more than, at most, up to, not too much, at least, not only, filter, the image, the picture, "
    "the photo, the frame, of the frame, in the frame, the entire frame, the whole frame, has, have, them, they, "
    "again, still, now, here, appear, appearance, colour balance, white balance, background music, image's, photo's, "
    "in the image, in the picture, in the photo, do, get, getting, use, also, both, each, every, one, much too, point, "
    "points, equivalent, colouring, finish, pass, quality, area, areas, region, regions, part, parts, solid, plain, "
    "uniform, thick, thin, large, small, bold, letters, font, coloured light, a little too, direction, end, side, sides, "
    "very top, very bottom, width, wide, hue range, range, stays, stay, becomes, become, go, goes, ratio, aspect, aspect ratio, "
    "format, block, blocks, it's",
    Entry(Role.STOP),
)
_put("thin", Entry(Role.STOP, value=0.02, word="size"))
_put("thick, wide", Entry(Role.STOP, value=0.1, word="size"))
_put("large, big", Entry(Role.STOP, value=0.14, word="size"))
_put("small", Entry(Role.STOP, value=0.05, word="size"))
_put("huge, giant", Entry(Role.STOP, value=0.22, word="size"))

# What "keep the ... unchanged" may name although there is nothing to protect: every edit preserves it.
NOTHING_TO_PROTECT = frozenset(
    """
    composition framing identity details detail layout pose style mood content contents geometry
    proportions perspective resolution everything rest original natural realistic realism elements
    arrangement atmosphere skin features expression structure position positions lighting balance look
    feel detailed believable photorealistic
    """.split()  # noqa: SIM905 - a list of words reads better than a list of strings
)
