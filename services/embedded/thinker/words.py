"""The words of the parser: names of operations, directions, degrees, regions, fillers and actions."""

from __future__ import annotations

from services.embedded.thinker.operations import MONOCHROME


def _words(*lines: str) -> list[str]:
    """The words of some lines of text."""
    return " ".join(lines).split()


_NOUNS: dict[str, str] = {
    # Names of sliders and the phrases for them. The direction comes from a verb or a comparative.
    "exposure": "exposure, brightness, luminosity, lightness",
    "contrast": "contrast",
    "highlights": "highlights",
    "shadows": "shadows",
    "whites": "whites, white point",
    "blacks": "blacks, black point, matte look",
    "midtones": "midtones, mid-tones, mids",
    "warmth": "warmth, temperature, colour temperature",
    "tint": "tint",
    "saturation": "saturation, colourfulness, colour intensity, colour, colours, chroma",
    "vibrance": "vibrance",
    "vignette": "vignette, vignetting",
    "white vignette": "white vignette",
    "grain": "grain, film grain, noise",
    "haze": "haze, fog, mist",
    "glow": "glow, soft glow, bloom",
    "blur": "blur",
    "sharpen": "sharpness",
    "clarity": "clarity, local contrast, detail, details",
    "light leak": "light leak, light leaks",
    "sepia": "sepia tone",
    "corners": "corners",
}
NOUNS: dict[str, str] = {phrase: name for name, phrases in _NOUNS.items() for phrase in phrases.split(", ")}

STATES: dict[str, tuple[str, int]] = {
    # Words that name both an operation and its direction.
    "brighter": ("exposure", 1), "brighten": ("exposure", 1), "lighten": ("exposure", 1), "lighter": ("exposure", 1),
    "darker": ("exposure", -1), "darken": ("exposure", -1), "dim": ("exposure", -1), "dimmer": ("exposure", -1),
    "warmer": ("warmth", 1), "warm up": ("warmth", 1), "cooler": ("warmth", -1), "colder": ("warmth", -1),
    "cool down": ("warmth", -1), "bluer": ("warmth", -1), "contrasty": ("contrast", 1), "flatter": ("contrast", -1),
    "saturated": ("saturation", 1), "colourful": ("saturation", 1), "vivid": ("saturation", 1),
    "vibrant": ("saturation", 1), "desaturated": ("saturation", -1), "desaturate": ("saturation", -1),
    "muted": ("saturation", -1), "sharpen": ("sharpen", 1), "sharper": ("sharpen", 1), "sharp": ("sharpen", 1),
    "crisper": ("sharpen", 1), "crisp": ("sharpen", 1), "blurry": ("blur", 1), "blurred": ("blur", 1),
    "blurrier": ("blur", 1), "softer": ("blur", 1), "grainy": ("grain", 1), "grainier": ("grain", 1),
    "denoise": ("denoise", 1), "dehaze": ("haze", -1), "hazy": ("haze", 1), "glowing": ("glow", 1),
    "sepia": ("sepia", 1), MONOCHROME: (MONOCHROME, 1), "posterise": ("posterise", 1), "posterised": ("posterise", 1),
    "posterize": ("posterise", 1), "posterized": ("posterise", 1), "pixelate": ("pixelate", 1),
    "pixelated": ("pixelate", 1), "pixel art": ("pixelate", 1), "pencil sketch": ("sketch", 1), "sketch": ("sketch", 1),
    "emboss": ("emboss", 1), "embossed": ("emboss", 1), "invert": ("invert", 1), "negative": ("invert", 1),
    "mirror": ("flip horizontal", 1), "mirrored": ("flip horizontal", 1), "flip horizontally": ("flip horizontal", 1),
    "horizontal flip": ("flip horizontal", 1), "flip vertically": ("flip vertical", 1), "vertical flip": ("flip vertical", 1),
    "upside down": ("flip vertical", 1), "upside-down": ("flip vertical", 1), "flip": ("flip horizontal", 1),
    "matte": ("blacks", 1), "greener": ("tint", -1), "magenta": ("tint", 1), "pinker": ("tint", 1),
    "brighten up": ("exposure", 1),
}  # fmt: skip

DIRECTIONS: dict[str, int] = {
    **dict.fromkeys(
        _words(
            "increase raise boost add more lift stronger enhance higher up open extra brighten heavier fade",
        ),
        1,
    ),
    **dict.fromkeys(
        _words(
            "decrease reduce lower less cut weaken deepen drop remove crush soften tone down recover darken weaker",
            "fewer eliminate",
        ),
        -1,
    ),
}

NEGATIONS = frozenset(_words("no not without don't dont never avoid"))

DEGREES: dict[str, float] = {
    # Relative to the word without a degree.
    "slightly": 0.45, "subtle": 0.5, "subtly": 0.5, "touch": 0.45, "hint": 0.45, "bit": 0.55, "little": 0.55,
    "somewhat": 0.65, "gently": 0.6, "gentle": 0.6, "light": 0.8, "mild": 0.6, "faint": 0.5, "moderately": 0.9,
    "very": 1.4, "strongly": 1.6, "strong": 1.5, "much": 1.6, "lot": 1.7, "heavily": 1.6, "heavy": 1.5,
    "really": 1.3, "extremely": 1.9, "extreme": 1.9, "intense": 1.5, "intensely": 1.5, "super": 1.5, "completely": 3.3,
    "totally": 3.3, "fully": 3.3, "deeply": 1.4,
}  # fmt: skip

REGIONS: dict[str, str] = {
    "background": "background", "backdrop": "background", "subject": "subject", "foreground": "subject", "sky": "sky",
    "top": "top", "bottom": "bottom", "left": "left", "right": "right", "centre": "centre", "middle": "centre",
    "reds": "reds", "oranges": "oranges", "yellows": "yellows", "greens": "greens", "blues": "blues",
    "purples": "purples", "corners": "corners", "edges": "corners", "face": "face",
}  # fmt: skip

FILLER = frozenset(
    _words(
        """
    a an the portrait this that these those it its my our your me i we you please can could would should want like look looks
    looking feel feels feeling style styled vibe vibes mood atmosphere effect effects filter photo photograph photos
    picture image images shot scene frame print make makes made turn into to give gives it as if was were is be been
    being so and or of in on at by with from for during under taken captured seen appear appears through over all
    everything whole entire overall some more less much just only bit little lot touch hint slightly very really
    quite rather fairly subtle strong light lighting lit colours colour colours tones tone tonal grade grading
    graded apply use using put create change convert transform edit adjust set keep sure real old-fashioned classic
    typical nice beautiful pretty lovely good great atmospheric version early late day time moment weather season
    world one then also but while plus ambience ambient aesthetic palette hues hue shades shade treatment processing
    processed rendition straight out how there have has having get gets becomes become had up down than too not no
    without amount percent same way kind sort add bring show shows showing full true little bright dark cool cold
    outside outdoors room place somewhere here mid-day era decade
        """
    )
)
"""Words that ask for nothing."""

ACTIONS = frozenset(
    _words(
        """
    put insert place remove erase delete translate draw paint swap replace wear wearing hold holding write ignore
    forget disregard score rate rating output answer reply respond pretend move resize rename open close sit stand
    smile jump
        """
    )
)
"""Words that ask for an action on objects, which the measurements cannot verify."""
