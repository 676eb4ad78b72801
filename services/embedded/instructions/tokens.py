"""Split an instruction into tokens in one linear pass: words, amounts with units, quotations, colours, punctuation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from services.embedded.instructions.table import TABLE


class Mark(Enum):
    """The kind of a token."""

    WORD = auto()
    AMOUNT = auto()
    RATIO = auto()
    HEX = auto()
    QUOTE = auto()
    BREAK = auto()  # . ; ! ? newline: nothing is inherited across it
    COMMA = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """A token and its position: ``text`` is lower case (a quotation keeps its case), ``value`` the number of an amount.

    ``unit`` is one of ``%``, ``degrees``, ``stops``, ``px``, ``levels`` or empty.
    """

    mark: Mark
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
# Every alternative starts with a different class of character and has bounded or disjoint repetition, so there is no
# backtracking.
_TOKEN = re.compile(
    rf"""
      (?P<quote>"[^"\n]{{0,200}}"|“[^”\n]{{0,200}}”|«[^»\n]{{0,200}}»|(?<!\w)['{_OPEN}][^'{_CLOSE}\n]{{1,200}}['{_CLOSE}](?!\w))
    | (?P<hex>\#[0-9a-f]{{3,8}}\b)
    | (?P<ratio>(?<![\w.])\d{{1,4}}(?:\.\d{{1,3}})?{_GAP}[:x{_TIMES}]{_GAP}\d{{1,4}}(?:\.\d{{1,3}})?(?![\w%]))
    | (?P<sign>(?<![\w.])[-+{_MINUS}{_DASH}])?
      (?P<number>{_NUMBER})
      (?:{_GAP}(?:%|°)?{_GAP}(?:-|{_DASH}|to){_GAP}(?P<upper>{_NUMBER})(?={_GAP}(?:%|percent|°)))?
      (?:{_GAP}-?(?P<unit>%|°|percent\b|per\scent\b|pct\b|degrees?\b|deg\b|stops?\b|ev\b|px\b|pixels?\b|levels?\b|tones\b))?
      (?!\w)
    | (?P<code>\d\w{{0,20}})
    | (?P<word>[^\W\d_]+(?:['{_CLOSE}][^\W\d_]+)?)
    | (?P<amp>[&+/])
    | (?P<break>[.;!?\n|])
    | (?P<comma>[,:()\[\]—])
    """,
    re.VERBOSE | re.IGNORECASE,
)
_UNITS = {"%": "%", "°": "degrees", "pe": "%", "pc": "%", "de": "degrees", "st": "stops", "ev": "stops", "px": "px"}
_UNITS |= {"pi": "px", "le": "levels", "to": "levels"}

_SPELLING: dict[str, str] = TABLE["spelling"]


def tokenize(text: str) -> list[Token]:
    """All tokens of ``text``; other characters (emoji, stray signs) are skipped."""
    tokens = []
    for found in _TOKEN.finditer(text):
        kind = found.lastgroup
        start, end = found.span()
        if kind in ("number", "upper", "unit"):
            tokens.append(_amount(found))
        elif kind in ("word", "code"):
            word = found.group().lower().replace(_CLOSE, "'")
            tokens.append(Token(Mark.WORD, _SPELLING.get(word, word), start, end))
        elif kind == "quote":
            tokens.append(Token(Mark.QUOTE, found["quote"][1:-1], start, end))
        elif kind == "ratio":
            tokens.append(_ratio(found))
        elif kind == "hex":
            tokens.append(Token(Mark.HEX, found["hex"].lower(), start, end))
        elif kind == "amp":
            tokens.append(Token(Mark.WORD, "and" if found["amp"] != "/" else "/", start, end))
        else:
            mark = Mark.COMMA if kind == "comma" else Mark.BREAK
            tokens.append(Token(mark, found.group(), start, end))
    return tokens


def _amount(found: re.Match[str]) -> Token:
    value = float(found["number"])
    if found["upper"] is not None:
        value = (value + float(found["upper"])) / 2
    if found["sign"] in ("-", _MINUS, _DASH):
        value = -value
    unit = _UNITS.get((found["unit"] or "").lower()[:2], "")
    start, end = found.span()
    return Token(Mark.AMOUNT, found.group(), start, end, value, unit)


def _ratio(found: re.Match[str]) -> Token:
    width, height = (float(part) for part in re.split(f"[:x{_TIMES}]", found["ratio"].lower()))
    start, end = found.span()
    return Token(Mark.RATIO, found["ratio"], start, end, width / height if height else 0.0)
