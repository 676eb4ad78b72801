"""Other languages and typing mistakes: what the phrase table knows is put into English before it is parsed."""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache

from services.embedded.instructions.colour_names import COLOURS
from services.embedded.instructions.table import SPELLING, TABLE, replacements_of
from services.embedded.instructions.vocabulary import LOOKS, STARTS, VOCABULARY, Role

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
_AMBIGUOUS = frozenset(TABLE["spelling"]["ambiguous"].split())
_CONNECTIVES = ("and", "with", "but", "not", "make", "more", "less", "than", "little")
_COLOURS = ("orange", "yellow", "purple", "magenta", "turquoise", "black", "white", "green", "brown")
_CORRECTED = {Role.OPERATION, Role.TONAL, Role.VERB, Role.AREA, Role.LEVEL, Role.CROP, Role.SQUARE, Role.BORDER, Role.ROTATE}
_CORRECTED |= {Role.CLOCKWISE, Role.COUNTERCLOCKWISE, Role.HORIZONTAL, Role.VERTICAL, Role.UPSIDE_DOWN}
_SHORT, _SHORTEST = 5, 3  # letters of a word that lacks one or doubles one, and that has two swapped
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
    told = not {match.group().lower() for match in _pattern(best).finditer(text)} <= _AMBIGUOUS
    return _replaced(text, best) if told and covered > english and covered >= _ENOUGH * len(words) else text


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
def _mistyped() -> dict[str, str]:
    """What mistyped words stand for: those of operations, looks, directions, places and colours, and those that link others.

    Two letters are swapped, one is missing, or one is doubled. A wrong letter is as often another word ("bolder", "contract"),
    and so are some of these ("cats", "boots"), or they may be two words ("tited").
    """
    words = {word for phrase, entry in VOCABULARY.items() if entry.role in _CORRECTED for word in phrase}
    words |= {word for phrase in LOOKS for word in phrase} | {*_COLOURS, *_CONNECTIVES}
    out: dict[str, set[str]] = {}
    for word in words:
        for at in range(1, len(word)):
            swapped = word[:at] + word[at : at + 2][::-1] + word[at + 2 :]
            shorter, doubled = word[:at] + word[at + 1 :], word[:at] + word[at - 1 :]
            alike = [swapped] if len(word) > _SHORTEST or word in _CONNECTIVES else []
            for other in alike + ([shorter, doubled] if len(word) > _SHORT else []):
                out.setdefault(other, set()).add(word)
    right = {*TABLE["spelling"]["right"].split()}
    return {other: min(meant) for other, meant in out.items() if other not in right and len({*map(_meaning, meant)}) == 1}


def _meaning(word: str) -> object:
    entry = VOCABULARY.get((word,))
    return LOOKS.get((word,)) or (word if entry is None else (entry.role, entry.kind, entry.sign, entry.word))


def corrected(word: str) -> str:
    """The word of the table that a mistyped word stands for, or the word itself; the first letter is right."""
    return _mistyped().get(word, word)
