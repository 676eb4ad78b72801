"""The cases: a photograph and an instruction in a user's words, mostly implied and seldom technical."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.targets import family_of


@dataclass(frozen=True)
class Case:
    """One request to the stack.

    Attributes:
        photo: a name in `benchmarks.photos`.
        recipe: the name in `benchmarks.targets` of the recipe that makes the target.
        instruction: the user's words; every photo has another paraphrase.
    """

    photo: str
    recipe: str
    instruction: str

    @property
    def id(self) -> str:
        """A unique, readable id."""
        return f"{self.recipe}/{self.photo}"

    @property
    def family(self) -> str:
        """The family of the recipe."""
        return family_of(self.recipe)


_INSTRUCTIONS: dict[str, dict[str, str]] = {
    "golden-hour": {
        "astronaut-face": "make it feel like golden hour",
        "motorcycle": "as if the low evening sun was streaming in",
        "cat": "warm light just before sunset please",
    },
    "blue-hour": {
        "astronaut": "make this look like blue hour",
        "motorcycle": "it should look like dusk, right after the sun has gone",
    },
    "overcast": {
        "coffee": "overcast morning",
        "motorcycle-front": "make the light look like a grey, cloudy day",
    },
    "foggy": {
        "rocket": "a foggy morning at the launch site",
        "motorcycle": "fill the place with thick mist",
    },
    "moonlit": {
        "astronaut": "as if it was shot on a moonlit night",
        "garage": "turn day into night, only moonlight",
        "cat": "make it look like night time with just the moon shining in",
    },
    "stormy": {
        "rocket-pad": "a storm is coming",
        "motorcycle-front": "make it stormy and threatening",
    },
    "hot-desert": {
        "motorcycle": "a scorching summer day in the desert",
        "astronaut-shuttle": "make it feel hot and dusty, like a desert in July",
    },
    "winter-cold": {
        "cat": "make it look freezing cold",
        "motorcycle": "a cold winter's day",
        "coffee-cup": "give it a wintry, icy feel",
    },
    "autumn": {
        "cat-eyes": "give it autumn colours",
        "astronaut": "make it look like it was taken in the fall",
    },
    "underwater": {
        "astronaut": "as if she was under water",
        "motorcycle": "make the motorbike look sunken on the sea floor",
    },
    "candlelight": {
        "astronaut-face": "lit only by candles",
        "cat": "cosy candlelight",
        "coffee-cup": "make it look like a candlelit table at night",
    },
    "rosy-dawn": {
        "astronaut-shuttle": "soft pink light of dawn",
        "rocket": "make it feel like first light, a rosy sunrise",
    },
    "seventies": {
        "astronaut": "faded 1970s print",
        "motorcycle": "make it look like a photo from my dad's album in the seventies",
        "cat": "give it a washed-out retro 70s look",
    },
    "film-noir": {
        "astronaut-face": "film noir",
        "coffee": "like a still from a 1940s detective movie",
        "garage": "make it look like a noir crime scene",
    },
    "classic-mono": {
        "cat": "a classic black and white portrait",
        "motorcycle-front": "timeless black-and-white photo",
    },
    "sepia": {
        "motorcycle": "sepia antique",
        "astronaut-face": "make it look a hundred years old, brown and worn",
    },
    "postcard": {
        "rocket": "old postcard",
        "coffee": "turn it into a vintage travel postcard",
    },
    "polaroid": {
        "cat": "like a polaroid",
        "astronaut": "an instant camera snapshot",
    },
    "bleach-bypass": {
        "motorcycle": "bleach bypass",
        "astronaut-shuttle": "gritty, silvery war film look",
    },
    "matte": {
        "astronaut-face": "matte editorial",
        "coffee-cup": "give it a soft matte finish like in a lifestyle magazine",
    },
    "cross-process": {
        "motorcycle-front": "cross-processed slide film",
        "cat": "make it look like lomography",
    },
    "kodachrome": {
        "garage": "like a 1950s Kodachrome slide",
        "astronaut": "rich old National Geographic colours",
    },
    "cyanotype": {
        "rocket": "make it a cyanotype",
        "astronaut-shuttle": "print it like an old blueprint photograph",
    },
    "dreamy": {
        "cat": "dreamy and ethereal",
        "astronaut-face": "make it look like a dream",
        "rocket-pad": "soft, glowing, otherworldly",
    },
    "teal-orange": {
        "motorcycle": "cinematic teal and orange",
        "rocket": "give it that Hollywood blockbuster colour grade",
        "astronaut": "colour grade it like a Michael Bay movie",
    },
    "high-key": {
        "cat": "high-key",
        "astronaut-face": "make it really bright, airy and almost shadowless",
    },
    "low-key": {
        "coffee": "low-key moody",
        "motorcycle": "dark and moody",
        "cat-eyes": "a mysterious dark portrait",
    },
    "pastel": {
        "astronaut": "pastel",
        "motorcycle-front": "soft candy pastel colours",
    },
    "hdr": {
        "garage": "punchy HDR",
        "rocket-pad": "make every detail pop, super dramatic HDR style",
    },
    "neon": {
        "motorcycle": "cyberpunk neon",
        "astronaut": "as if she stood under the neon signs of Tokyo",
    },
    "horror": {
        "garage": "make it look like a horror film",
        "cat": "creepy and unsettling",
    },
    "cheerful": {
        "rocket": "make it bright and cheerful",
        "astronaut-shuttle": "happy summer vibes",
        "coffee": "make it fresh, lively and appetising",
    },
    "nordic": {
        "coffee": "calm scandinavian interior style",
        "cat": "muted, minimalist nordic tones",
    },
    "romantic": {
        "astronaut-face": "a romantic rosy glow",
        "coffee-cup": "make it sweet and romantic, like Valentine's day",
    },
    "science-fiction": {
        "astronaut": "a cold, sterile science-fiction film",
        "garage": "make it look like a clinical lab in the future",
    },
    "white-product": {
        "coffee": "product shot on white",
        "motorcycle": "put the motorbike on a clean white background like in a catalogue",
        "astronaut": "passport-style, plain white behind her",
    },
    "black-backdrop": {
        "astronaut": "a studio portrait on a black background",
        "motorcycle": "show the bike against pure black",
    },
    "only-colour": {
        "coffee": "make the cup the only colour",
        "astronaut": "everything black and white except her orange suit",
        "motorcycle": "only the motorcycle should be in colour",
        "cat-eyes": "keep the colour in the cat's eyes and nowhere else",
    },
    "blurred-background": {
        "astronaut": "portrait with blurred background",
        "motorcycle": "shallow depth of field, the bike sharp and everything behind it soft",
    },
    "stand-out": {
        "motorcycle": "make the motorcycle stand out",
        "cat": "draw attention to the cat",
        "coffee": "the eye should go straight to the cup and saucer",
    },
    "spotlight": {
        "astronaut": "put her in a spotlight on a dark stage",
        "motorcycle": "as if one spotlight was shining on the bike",
    },
    "silhouette": {
        "astronaut": "turn her into a silhouette",
        "motorcycle": "just the dark outline of the motorbike against the garage",
    },
}


def cases() -> list[Case]:
    """Every case, in a stable order."""
    return [Case(photo, recipe, text) for recipe, texts in _INSTRUCTIONS.items() for photo, text in texts.items()]
