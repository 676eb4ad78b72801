"""Other languages and typing mistakes: what the phrase table knows is put into English before it is parsed."""

from __future__ import annotations

import re
import unicodedata
from difflib import get_close_matches
from functools import cache, lru_cache

from services.embedded.instructions.colour_names import COLOURS
from services.embedded.instructions.table import SPELLING, TABLE, replacements_of
from services.embedded.instructions.vocabulary import STARTS, VOCABULARY, Role

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")  # noqa: RUF001 - a typographic apostrophe
_QUOTED = re.compile(r'"[^"\n]{0,200}"|“[^”\n]{0,200}”|«[^»\n]{0,200}»|「[^」\n]{0,200}」')
_UNSPACED = ("chinese", "emoji")
_SCRIPTS = {
    "CYRILLIC": "Russian or another language in Cyrillic",
    "HIRAGANA": "Japanese",
    "KATAKANA": "Japanese",
    "HANGUL": "Korean",
    "DEVANAGARI": "Hindi",
    "HEBREW": "Hebrew",
    "GREEK": "Greek",
    "THAI": "Thai",
    "ARABIC": "Arabic",
    "CJK": "Chinese",
}
_TWO_HITS = 2
_SHORT, _LONG = 6, 9  # letters from which one, and two, typing mistakes are corrected
_ENOUGH = 0.5  # share of the words that a language must know for the text to be put into English


@cache
def _phrases(language: str) -> dict[str, str]:
    return replacements_of(TABLE["languages"][language])


@cache
def _pattern(language: str) -> re.Pattern[str]:
    longest_first = sorted(_phrases(language), key=len, reverse=True)
    joined = "|".join(re.escape(phrase) for phrase in longest_first)
    return re.compile(joined if language in _UNSPACED else rf"(?<!\w)(?:{joined})(?!\w)", re.IGNORECASE)


def to_english(text: str) -> str:
    """The text with the phrases of the language that it is written in replaced; English text stays as it is."""
    text = _replaced(text, "emoji")
    for language, script in (("chinese", "CJK"), ("arabic", "ARABIC")):
        if script in _scripts(text):
            return _replaced(text, language)
    words = _WORD.findall(text.lower())
    if not words:
        return text
    english = _known_in_english(words)
    best = max(("german", "spanish", "french"), key=lambda language: _coverage(text, language))
    covered = _coverage(text, best)
    return _replaced(text, best) if covered > english and covered >= _ENOUGH * len(words) else text


def _replaced(text: str, language: str) -> str:
    phrases, out, at = _phrases(language), [], 0
    spaced = " {} " if language in _UNSPACED else "{}"
    for quote in (*_QUOTED.finditer(text), None):
        end = quote.start() if quote else len(text)
        out.append(_pattern(language).sub(lambda match: spaced.format(phrases.get(match.group().lower(), "")), text[at:end]))
        if quote:
            out.append(quote.group())
            at = quote.end()
    return "".join(out)


def _coverage(text: str, language: str) -> int:
    """How many words of the text the language's phrases account for."""
    return sum(len(match.group().split()) for match in _pattern(language).finditer(text))


def _known_in_english(words: list[str]) -> int:
    return sum(word in STARTS or word in SPELLING or word in COLOURS for word in words)


def _scripts(text: str) -> set[str]:
    return {unicodedata.name(letter, "").split(" ", 1)[0] for letter in text[:400] if letter.isalpha() and not letter.isascii()}


@lru_cache(maxsize=8)
def language_of(text: str) -> str:
    """The name of the language of a text that is not English, or an empty string; a guess by script and short words."""
    found = _scripts(text)
    for script, name in _SCRIPTS.items():
        if script in found:
            return name
    words = set(_WORD.findall(text.lower()))
    tables: dict[str, str] = TABLE["language_words"]
    hits = {name: len(words & set(known.split())) for name, known in tables.items()}
    best = max(hits, key=lambda name: hits[name])
    return best if hits[best] >= _TWO_HITS and hits[best] > _known_in_english(list(words)) else ""


@cache
def _correctable() -> tuple[str, ...]:
    """Single words that a typing mistake may stand for: those that name an operation, a direction, a place or a colour."""
    roles = {Role.OPERATION, Role.TONAL, Role.VERB, Role.AREA, Role.CROP, Role.ROTATE, Role.BORDER}
    words = {phrase[0] for phrase, entry in VOCABULARY.items() if len(phrase) == 1 and entry.role in roles}
    colours = {"orange", "yellow", "purple", "magenta", "turquoise", "black", "white", "green", "brown"}
    return tuple(sorted(words | colours))


@cache
def corrected(word: str) -> str:
    """The word of the table that a mistyped word stands for, or the word itself.

    One mistake (a letter too much, too little, wrong, or two swapped) from six letters, two from nine; the first letter is right.
    """
    if len(word) < _SHORT - 1 or not word.isalpha():
        return word
    mistakes = 2 if len(word) >= _LONG else 1
    alike = [known for known in _correctable() if known[0] == word[0] and abs(len(known) - len(word)) <= mistakes]
    near = get_close_matches(word, alike, cutoff=1 - mistakes / len(word) - 0.01)
    if len(word) < _SHORT:
        # So short a word is only one with swapped letters or one too few: "grian" is grain, "shark" is not sharp.
        near = [known for known in near if sorted(known) == sorted(word) or _misses_a_letter(word, known)]
    return near[0] if near else word


def _misses_a_letter(word: str, known: str) -> bool:
    letters = iter(known)
    return len(known) == len(word) + 1 and all(letter in letters for letter in word)
