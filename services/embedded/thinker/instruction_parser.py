"""Parse an instruction into operations, looks, and clauses that are not understood.

One pass over the words, linear in the length of the text. Nothing is guessed about words outside `words` and
`look_phrases`: their clauses are returned as `unknown`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from services.embedded.thinker.look_phrases import look_phrases
from services.embedded.thinker.operations import MONOCHROME, Op
from services.embedded.thinker.sentence_patterns import match_patterns
from services.embedded.thinker.words import (
    ACTIONS,
    DEGREES,
    DIRECTIONS,
    FILLER,
    NEGATIONS,
    NOUNS,
    REGIONS,
    STATES,
)

MAX_LENGTH = 4000
"""Characters of an instruction that are parsed; a longer one is not understood in full."""

_SPLIT = re.compile(r"[,;\n!?]|\.(?=\s|$)|\b(?:and|then|but|while|plus)\b|&|\+(?!\d)", re.IGNORECASE)
_WORD = re.compile(r"\x01\d+|#[0-9a-f]{6}|[+-]?\d+(?:\.\d+)?(?:\s?%|(?![\w/:'-]))|[\w'’/:-]+")  # noqa: RUF001
_QUOTED = re.compile(r"\"([^\"\x01]{0,400})\"|“([^”\x01]{0,400})”|(?<!\w)'([^'\x01]{1,400})'(?!\w)")
_LOOK_PHRASES = look_phrases()
_PAIRS = "|".join(
    re.escape(phrase).replace(r"\ and\ ", r"(\s+and\s+)", 1)
    for phrase in sorted(_LOOK_PHRASES, key=len, reverse=True)
    if " and " in phrase
)
_FIXED = re.compile(
    r"\b(?:b(\s?&\s?)w|black([\s-]+(?:and|&)[\s-]+)white|teal([\s-]*(?:and|&|/)[\s-]*)orange|orange([\s-]*(?:and|&|/)[\s-]*)teal"
    rf"|{_PAIRS})\b",
    re.IGNORECASE,
)
# \x01 and a number stands for a quoted string, \x02 for the "and" of a fixed expression; neither may come from the text.
_NO_MARKS = {1: " ", 2: " "}
_NUMBER = re.compile(r"^([+-]?)(\d{1,6}(?:\.\d{1,6})?)\s?(%?)$")
_LONGEST = 5


@dataclass(frozen=True)
class NamedLook:
    """A look that was named, its strength, and the words that named it."""

    look: str
    strength: float
    words: str


@dataclass(frozen=True)
class ParsedInstruction:
    """The literal reading of an instruction.

    `ops` are explicit operations, `looks` named looks, `forbidden` operations that are ruled out ("without grain"),
    `protected` regions that must not change, `unknown` the clauses that are not, or not fully, understood.
    """

    ops: tuple[Op, ...] = ()
    looks: tuple[NamedLook, ...] = ()
    forbidden: frozenset[str] = frozenset()
    protected: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def understood(self) -> bool:
        """Whether anything at all was understood."""
        return bool(self.ops or self.looks)


@dataclass
class _Clause:
    """A clause while it is parsed."""

    text: str
    words: list[str] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    looks: list[NamedLook] = field(default_factory=list)
    sign: int = 0
    amount: float | None = None
    degree: float = 1.0
    negated: bool = False
    forbidden: list[str] = field(default_factory=list)
    region: str = ""
    rest: list[str] = field(default_factory=list)


def unquote(text: str) -> tuple[str, list[str]]:
    """The text with quoted strings and fixed expressions replaced by marks, so that they are not split, and the quotes."""
    quotes: list[str] = []

    def take(match: re.Match[str]) -> str:
        quotes.append(match.group(0))
        return f" \x01{len(quotes) - 1} "

    plain = _QUOTED.sub(take, text[:MAX_LENGTH].translate(_NO_MARKS))
    return _FIXED.sub(_indivisible, plain), quotes


def _indivisible(match: re.Match[str]) -> str:
    link = next(group for group in match.groups() if group)
    return match.group(0).replace(link, "\x02", 1)


def normalised(clause: str) -> str:
    """One clause in lower case and in one spelling."""
    plain = clause.lower().replace("’", "'")  # noqa: RUF001
    plain = re.sub(r"\bcolor", "colour", plain).replace("gray", "grey").replace("center", "centre")
    plain = re.sub(r"\bb\s?(?:\x02|/|n)\s?w\b|\bblack\x02white\b|\bgr[ae]y-?scale\b|\bmonochromatic\b", MONOCHROME, plain)
    plain = re.sub(r"\b(?:teal\x02orange|orange\x02teal)\b", "teal-and-orange", plain)
    plain = re.sub(
        r"\beverything\s(?:except|but|around|other than)\s(?:for\s)?the\s[\w-]{1,30}(?=$|\sby\b)", "the background", plain
    )
    return re.sub(r"(\d)\s?per\s?cent\b", r"\1%", plain).replace("\x02", " and ")


def parse_instruction(text: str) -> ParsedInstruction:
    """Parse an instruction of any length and content; never raises."""
    plain, quotes = unquote(text)
    clauses: list[_Clause] = []
    for piece in _SPLIT.split(plain):
        clause = _clause(piece.strip(), quotes)
        if clause.words or clause.ops:
            _inherit(clauses, clause)
            clauses.append(clause)
    return _collect(clauses, too_long=len(text) > MAX_LENGTH)


def _clause(text: str, quotes: list[str]) -> _Clause:
    """Parse one clause on its own."""
    clause = _Clause(text=_unquoted(text, quotes))
    found, remaining = match_patterns(normalised(text), quotes)
    clause.ops.extend(replace(op, clause=clause.text) for op in found)
    matched = bool(clause.ops)
    clause.words = _WORD.findall(remaining)
    at = 0
    named: list[tuple[str, int]] = []
    while at < len(clause.words):
        before, negated = len(named), clause.negated
        at += _take(clause, named, at)
        if negated and len(named) > before:
            # "a vintage look without grain": only what follows "without" is forbidden.
            clause.forbidden.extend(name for name, _ in named[before:])
            del named[before:]
    if clause.negated and matched:
        clause.forbidden.extend(op.name for op in clause.ops)
        clause.ops.clear()
    _name_operations(clause, named)
    return clause


def _take(clause: _Clause, named: list[tuple[str, int]], at: int) -> int:
    """Match the phrase that starts at a word; returns how many words it took."""
    for length in range(min(_LONGEST, len(clause.words) - at), 0, -1):
        phrase = " ".join(clause.words[at : at + length])
        if phrase in _LOOK_PHRASES and not clause.negated and not _is_slider(clause, phrase):
            clause.looks.append(NamedLook(_LOOK_PHRASES[phrase], 1.0, phrase))
            return length
        if phrase in STATES:
            named.append(STATES[phrase])
            return length
        if phrase in NOUNS:
            named.append((NOUNS[phrase], 0))
            return length
    _small_word(clause, clause.words[at])
    return 1


def _is_slider(clause: _Clause, phrase: str) -> bool:
    """Whether words that could name a look are used as an adjustment ("20% vivid", "fog of 10%")."""
    return (phrase in STATES or phrase in NOUNS) and any(_NUMBER.match(word) for word in clause.words)


def _small_word(clause: _Clause, word: str) -> None:
    """Match a single word: a direction, an amount, a region, or a word that remains."""
    number = _NUMBER.match(word)
    if number:
        _number(clause, number)
    elif word in NEGATIONS:
        clause.negated = True
    elif word in DIRECTIONS:
        clause.sign = DIRECTIONS[word]
    elif word in DEGREES:
        clause.degree = DEGREES[word]
    elif word in REGIONS:
        clause.region = REGIONS[word]
    elif word not in FILLER and word != MONOCHROME:
        clause.rest.append(word)


def _number(clause: _Clause, match: re.Match[str]) -> None:
    sign, digits, percent = match.groups()
    value = float(digits)
    if not percent and not sign and not 0 < value <= 1:
        clause.rest.append(match.group(0))
        return
    clause.amount = min(100.0, value * 100.0 if not percent and value <= 1 else value)
    if sign == "-":
        clause.sign = -1


def _name_operations(clause: _Clause, named: list[tuple[str, int]]) -> None:
    """Turn the names found in a clause into operations, with its amount and region."""
    for name, sign in named:
        direction = sign or clause.sign
        if sign and clause.sign < 0 and name != "exposure":
            # "less saturated", "reduce the blur"
            direction = -sign if "more" not in clause.words else sign
        corners = name == "corners"
        clause.ops.append(
            Op(
                name="vignette" if corners else name,
                sign=-direction if corners else direction,
                amount=clause.amount,
                degree=clause.degree,
                region=clause.region,
                clause=clause.text,
            )
        )
    if clause.region and clause.sign and not clause.ops and not clause.rest:
        # "brighten the left by 20%" has no slider's name.
        clause.ops.append(Op("exposure", clause.sign, clause.amount, clause.degree, clause.region, clause=clause.text))
    clause.looks = [replace(look, strength=clause.degree) for look in clause.looks]


def _inherit(before: list[_Clause], clause: _Clause) -> None:
    """Share the verb and the amount of a list: "the contrast and the saturation by 20%"."""
    if not before:
        return
    last = before[-1]
    for index, op in enumerate(clause.ops):
        if op.sign == 0 and last.ops and last.sign:
            clause.ops[index] = replace(op, sign=last.sign)
            clause.sign = clause.sign or last.sign
    own_verb = any(word in DIRECTIONS or word in STATES for word in clause.words)
    if clause.amount is not None and not own_verb and last.amount is None:
        last.ops = [replace(op, amount=clause.amount) if op.amount is None else op for op in last.ops]


def _collect(clauses: list[_Clause], *, too_long: bool) -> ParsedInstruction:
    """The reading of all clauses together."""
    ops: list[Op] = []
    looks: list[NamedLook] = []
    forbidden: set[str] = set()
    protected: list[str] = []
    unknown: list[str] = []
    for clause in clauses:
        if "unchanged" in clause.rest or "untouched" in clause.rest:
            protected.append(clause.region or "all")
            continue
        forbidden.update(clause.forbidden)
        if clause.negated and not clause.forbidden:
            unknown.append(clause.text)
            if not clause.looks:
                continue
        ops.extend(replace(op, sign=op.sign or 1) for op in clause.ops)
        looks.extend(look for look in clause.looks if look.look not in {other.look for other in looks})
        if _is_unknown(clause):
            unknown.append(clause.text)
    if too_long:
        unknown.append("the rest of a very long instruction")
    return ParsedInstruction(tuple(ops), tuple(looks), frozenset(forbidden), tuple(protected), tuple(unknown))


def _is_unknown(clause: _Clause) -> bool:
    """Whether a clause asks for more than was understood."""
    if not clause.rest:
        return False
    if any(word in ACTIONS for word in clause.rest):
        return True
    return len(clause.rest) > 3 if clause.ops or clause.looks else True  # noqa: PLR2004 - "a postcard from my aunt in Paris"


def _unquoted(text: str, quotes: list[str]) -> str:
    """The text with the quoted strings put back."""
    filled = re.sub(r"(?:(?<!\s)\s+)?\x01(\d+)\s*", lambda m: f" {quotes[int(m.group(1))]} ", text)
    return filled.replace("\x02", " and ").strip()
