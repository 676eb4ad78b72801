"""Split an instruction into tokens in one linear pass: words, amounts with units, quotations, colours, punctuation."""

from __future__ import annotations

import re
from dataclasses import dataclass

from services.embedded.instructions.table import SPELLING
from services.embedded.instructions.vocabulary import Role


@dataclass(frozen=True, slots=True)
class Token:
    """A token and its position: ``text`` is lower case (a quotation keeps its case), ``value`` the number of an amount.

    ``role`` is UNKNOWN for a word, COLOUR for a hexadecimal code; nothing is inherited across a BREAK. ``unit`` is one of ``%``,
    ``degrees``, ``stops``, ``px``, ``levels`` or empty.
    """

    role: Role
    text: str
    start: int
    end: int
    value: float = 0.0
    unit: str = ""


# Typographic forms of quotation marks, dashes and the times sign.
_OPEN, _CLOSE = "\u2018", "\u2019"
_DASH, _MINUS, _TIMES = "\u2013", "\u2212", "\u00d7"
_GAP = r"[^\S\n]{0,3}"
_NUMBER = r"\d{1,7}(?:\.\d{1,6})?|\.\d{1,6}"
# Pictographs are words that nothing knows, apart from faces, hearts and gestures, which are no more than a tone of voice.
_EMOJI = (
    "[\u2190-\u2763\u2765-\u27bf\U0001f300-\U0001f440\U0001f451-\U0001f490\U0001f4a0-\U0001f5ff"
    "\U0001f680-\U0001f90b\U0001f980-\U0001faff]"
)
# Every alternative starts with a different class of character and has bounded or disjoint repetition, so there is no
# backtracking.
_TOKEN = re.compile(
    rf"""
      (?P<quote>"[^"\n]{{0,200}}"|“[^”\n]{{0,200}}”|«[^»\n]{{0,200}}»|(?<!\w)['{_OPEN}][^'{_CLOSE}\n]{{1,200}}['{_CLOSE}](?!\w))
    | (?P<hex>\#[0-9a-f]{{3,8}}\b)
    | (?P<ratio>(?<![\w.])\d{{1,4}}(?:\.\d{{1,3}})?{_GAP}[:x{_TIMES}]{_GAP}\d{{1,4}}(?:\.\d{{1,3}})?(?![\w%]))
    | (?P<sign>(?<![\w.])[-+{_MINUS}{_DASH}])?
      (?P<number>{_NUMBER})(?:/(?P<divisor>[1-9]\d?)(?![\d/]))?
      (?:{_GAP}(?:%|°)?{_GAP}(?:-|{_DASH}|to){_GAP}(?P<upper>{_NUMBER})(?={_GAP}(?:%|percent|°)))?
      (?:{_GAP}-?(?P<unit>%|°|percent\b|per\scent\b|pct\b|degrees?\b|deg\b|stops?\b|ev\b|px\b|pixels?\b|levels?\b|tones\b))?
      (?!\w)
    | (?P<code>\d\w{{0,20}})
    | (?P<word>[^\W\d_]+(?:['{_CLOSE}][^\W\d_]+)?)
    | (?P<emoji>{_EMOJI})
    | (?P<amp>[&+/])
    | (?P<break>[.;!?\n|])
    | (?P<comma>[,:()\[\]—])
    """,
    re.VERBOSE | re.IGNORECASE,
)
_UNITS = {"%": "%", "°": "degrees", "pe": "%", "pc": "%", "de": "degrees", "st": "stops", "ev": "stops", "px": "px"}
_UNITS |= {"pi": "px", "le": "levels", "to": "levels"}


def tokenize(text: str) -> list[Token]:
    """All tokens of ``text``; other characters (faces, stray signs) are skipped."""
    return [_token(found) for found in _TOKEN.finditer(text)]


def _token(found: re.Match[str]) -> Token:
    kind, text, (start, end) = found.lastgroup, found.group(), found.span()
    if kind in ("number", "divisor", "upper", "unit"):
        return _amount(found)
    if kind in ("word", "code", "emoji"):
        word = text.lower().replace(_CLOSE, "'")
        return Token(Role.UNKNOWN, SPELLING.get(word, word), start, end)
    if kind == "quote":
        return Token(Role.QUOTE, text[1:-1], start, end)
    if kind == "ratio":
        width, height = (float(part) for part in re.split(f"[:x{_TIMES}]", text.lower()))
        return Token(Role.RATIO, text, start, end, width / height if height else 0.0)
    if kind == "hex":
        return Token(Role.COLOUR, text.lower(), start, end)
    if kind == "amp":
        return Token(Role.UNKNOWN, "/" if text == "/" else "and", start, end)
    return Token(Role.COMMA if kind == "comma" else Role.BREAK, text, start, end)


def _amount(found: re.Match[str]) -> Token:
    value = float(found["number"]) / float(found["divisor"] or 1)
    if found["upper"] is not None:
        value = (value + float(found["upper"])) / 2
    if found["sign"] in ("-", _MINUS, _DASH):
        value = -value
    unit = _UNITS.get((found["unit"] or "").lower()[:2], "")
    start, end = found.span()
    return Token(Role.AMOUNT, found.group(), start, end, value, unit)
