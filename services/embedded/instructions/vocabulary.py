"""The phrase table as a dictionary from phrases to their grammatical role and meaning."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from services.embedded.instructions.operations import Area, Kind
from services.embedded.instructions.table import SPELLING, TABLE, phrases_of

# The grammatical role of a phrase in a clause. TONAL is an operation of its own or the range of tones of another; VERB says
# more, less, or a direction that depends on what follows; LEVEL is an amount in words; CONTEXT describes how it should look,
# PURPOSE says why; INSIDE comes before a part of the picture; PART needs an area before it, SCENERY a look, CHATTER is about
# the caller ("I love …"), ORDER opens a clause ("first"), and REMEDY points back at a complaint ("get rid of it"). The second
# paragraph has the keys of [words]; the last has what is not in the table. Integers hash fast, and the parser looks up roles
# often.
Role = IntEnum(
    "Role",
    """OPERATION TONAL VERB CHANGE REPLACE KEEP LEVEL AREA LOOK REFUSED SIZE

    UNCHANGED NEGATION LIMIT TOO ENOUGH STATE REQUEST EXCEPT ONLY COLOUR_NOUN COLOURS DETERMINER INSIDE PURPOSE
    CONTEXT TO LIKE JOIN INSTEAD HORIZONTAL VERTICAL UPSIDE_DOWN CLOCKWISE COUNTERCLOCKWISE SQUARE CROP ROTATE TEXT BORDER
    EVERYTHING PICTURE FILLER CHATTER ORDER REMEDY PART SCENERY

    AMOUNT RATIO QUOTE COLOUR HUES BREAK COMMA UNKNOWN""",
)

SILENT = (Role.FILLER, Role.STATE, Role.REQUEST)
"""Words that name nothing."""
LINKS = frozenset(
    {*SILENT, Role.PICTURE, Role.DETERMINER, Role.INSIDE, Role.TO, Role.CHANGE, Role.EVERYTHING, Role.LIMIT, Role.CONTEXT}
    | {Role.PURPOSE, Role.ONLY, Role.VERB, Role.LIKE}
)
"""Words that only link or direct others; a clause of nothing else ("please", "make it") asks for nothing."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a phrase means.

    Attributes:
        role: its place in a clause.
        kind, sign: of an operation; sign is 0 for a noun, which needs a verb or an amount.
        value: of an amount, a size or a verb ("double"), as a share; of an operation, its own default if that is not the usual.
        word: a verb's direction (``more``, ``less``, ``remove``, ``add``, ``deepen``, ``recover``, ``shift``), a look's name, or
            the name of a group of refusals.
        form: of an operation, the list of the table that it stands in, without its direction: "noun", "adjective", "complaint" …
    """

    role: Role
    kind: Kind | None = None
    sign: int = 1
    value: float = 0.0
    area: Area | None = None
    word: str = ""
    form: str = ""


LONGEST = 6
_SEPARATORS = re.compile(r"[-\s]+")
_VERY, _FAINT = ("very", "ever so", "oh so", "so", "just", "really", "extremely"), 0.06
"""What makes "slightly" and its like less, and how much that is."""
_DEFAULTS = {"mild": 0.2, "slight": 0.1, "complaint": 0.4}


def words_of(phrase: str) -> tuple[str, ...]:
    """The words of a phrase as the tokenizer gives them."""
    plain = phrase.lower().replace("&", " and ").replace("0's", "0s")
    return tuple(SPELLING.get(word, word) for word in _SEPARATORS.split(plain.strip()))


def _entries() -> Iterator[tuple[str, Entry]]:
    """Every list of phrases with its meaning; a later one takes precedence."""
    for name, text in TABLE["words"].items():
        yield text, Entry(Role[name.upper()])
    for name, group in TABLE["refusals"].items():
        yield group["phrases"], Entry(Role.REFUSED, word=name)
    for name, text in TABLE["areas"].items():
        yield text, Entry(Role.AREA, area=Area(name))
    for name, text in TABLE["verbs"].items():
        word, _, percent = name.partition("_")
        sign = -1 if word in ("less", "remove", "clean") else 1
        yield text, Entry(Role.VERB, sign=sign, value=int(percent or 0) / 100, word=word)
    for section, role in (("levels", Role.LEVEL), ("sizes", Role.SIZE)):
        for percent, text in TABLE[section].items():
            yield text, Entry(role, value=int(percent) / 100)
    faint = [phrase for phrase in phrases_of(TABLE["levels"]["12"]) if phrase.endswith("ly")]
    yield ", ".join(f"{very} {word}" for very in _VERY for word in faint), Entry(Role.LEVEL, value=_FAINT)
    for name, text in TABLE["tonal"].items():
        yield text, Entry(Role.TONAL, Kind(name), 0)
    for name, forms in TABLE["operations"].items():
        for form, text in forms.items():
            sign = 0 if form == "noun" else 1 if form.endswith("up") else -1
            group = form.split("_")[0]
            yield text, Entry(Role.OPERATION, Kind(name), sign, _DEFAULTS.get(group, 0.0), form=group)


VOCABULARY = {words_of(phrase): entry for text, entry in _entries() for phrase in phrases_of(text)}
LOOKS = {words_of(phrase): name for name, look in reversed(TABLE["looks"].items()) for phrase in phrases_of(look["phrases"])}
"""Phrases that name a look; some of them are operations too, where they are measured ("fog of 20%")."""
REASONS: dict[str, str] = {name: group["sentence"] for name, group in TABLE["refusals"].items()}
NOTHING_TO_PROTECT = frozenset(phrases_of(TABLE["protection"]["nothing"]))
STARTS = frozenset(phrase[0] for phrase in (*VOCABULARY, *LOOKS))
"""Every word that starts a phrase."""
KNOWN = frozenset(word for phrase in (*VOCABULARY, *LOOKS) for word in phrase)
"""Every word of the table."""
