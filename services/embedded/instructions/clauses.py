"""Match tokens with the vocabulary and split them into clauses, one for each request."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from services.embedded.instructions.colour_names import Colour, hue_plural, match_colour, parse_hex
from services.embedded.instructions.languages import corrected
from services.embedded.instructions.tokens import Token, tokenize
from services.embedded.instructions.vocabulary import KNOWN, LONGEST, LOOKS, STARTS, VOCABULARY, Entry, Role

_NO_ENTRY = Entry(Role.UNKNOWN)
_TOP = 360.0  # a larger number without a unit is no amount: "1970"
_OPENS = {Role.NEGATION: "not", Role.LIMIT: "not", Role.KEEP: "keep", Role.EXCEPT: "except", Role.INSTEAD: "not"}
# A clause that holds one of these uses "with" for its own value: "replace the red with blue".
_OWNS_WITH = {Role.REPLACE, Role.CHANGE, Role.TEXT, Role.BORDER, Role.CROP, Role.QUOTE}
Mood = Literal["do", "not", "keep", "except"]


@dataclass(frozen=True, slots=True)
class Concept:
    """A matched phrase: its role, its entry in the vocabulary, and the characters ``start`` to ``end`` that it covers."""

    role: Role
    words: tuple[str, ...]
    start: int
    end: int
    entry: Entry = _NO_ENTRY
    token: Token | None = None
    colour: Colour | None = None


@dataclass(slots=True)
class Clause:
    """The concepts of one request, and how it is linked to the one before.

    Attributes:
        concepts: in the order of the text.
        mood: whether it asks for something, rules it out, keeps it, or excepts it from the clause before.
        joined: linked by a comma or "and", so that verb, negation and amount may be shared.
        conjoined: by "and" alone.
    """

    concepts: list[Concept] = field(default_factory=list)
    mood: Mood = "do"
    joined: bool = False
    conjoined: bool = False

    def has(self, *roles: Role) -> bool:
        """Whether any concept plays one of these roles."""
        return any(concept.role in roles for concept in self.concepts)

    def first(self, *roles: Role) -> Concept | None:
        """The first concept that plays one of these roles."""
        return next((concept for concept in self.concepts if concept.role in roles), None)

    def all(self, *roles: Role) -> list[Concept]:
        """Every concept that plays one of these roles."""
        return [concept for concept in self.concepts if concept.role in roles]

    def text(self, prompt: str) -> str:
        """The characters of the prompt that the clause covers."""
        return prompt[self.concepts[0].start : self.concepts[-1].end].strip() if self.concepts else ""


def read_clauses(prompt: str) -> list[Clause]:
    """All clauses of ``prompt`` in the order of the text; linear in its length."""
    tokens = [_spelled(token) for token in tokenize(prompt)]
    concepts: list[Concept] = []
    position = 0
    while position < len(tokens):
        concept, taken = _match_one(tokens, position)
        concepts.append(concept)
        position += taken
    return _split(_measured_looks(concepts))


def _spelled(token: Token) -> Token:
    """The token with a typing mistake corrected."""
    if token.role is not Role.UNKNOWN or token.text in KNOWN or match_colour((token.text,)) or hue_plural(token.text):
        return token
    return replace(token, text=corrected(token.text))


def _match_one(tokens: list[Token], position: int) -> tuple[Concept, int]:
    """The longest phrase that starts at this token, and how many tokens it takes."""
    token = tokens[position]
    if token.role is not Role.UNKNOWN:
        colour = parse_hex(token.text) if token.role is Role.COLOUR else None
        strange = token.role is Role.COLOUR and colour is None
        strange = strange or (token.role is Role.AMOUNT and not token.unit and abs(token.value) > _TOP)
        role = Role.UNKNOWN if strange else token.role
        return Concept(role, (token.text,), token.start, token.end, token=token, colour=colour), 1
    words = _words_from(tokens, position)
    entry, length = _look_up(words)
    colour, named = match_colour(words) or (None, 0)
    plural = hue_plural(words[0])
    if colour is not None and named > length:
        entry, length = Entry(Role.COLOUR), named
    elif plural is not None and length <= 1:
        colour, entry, length = plural, Entry(Role.HUES), 1
    else:
        colour, length = None, max(length, 1)
    return Concept(entry.role, words[:length], token.start, tokens[position + length - 1].end, entry, colour=colour), length


def _words_from(tokens: list[Token], position: int) -> tuple[str, ...]:
    words = []
    for token in tokens[position : position + LONGEST]:
        if token.role is not Role.UNKNOWN:
            break
        words.append(token.text)
    return tuple(words)


def _look_up(words: tuple[str, ...]) -> tuple[Entry, int]:
    for length in range(len(words) if words[0] in STARTS else 0, 0, -1):
        entry, look = VOCABULARY.get(words[:length]), LOOKS.get(words[:length])
        if look is not None:
            # Kept with the operation of the same name, which is meant where an amount is given.
            kind, sign = (entry.kind, entry.sign) if entry is not None and entry.role is Role.OPERATION else (None, 1)
            return Entry(Role.LOOK, kind, sign, word=look), length
        if entry is not None:
            return entry, length
    return _NO_ENTRY, 0


def _measured_looks(concepts: list[Concept]) -> list[Concept]:
    """Treat a look as the operation of the same name where the text gives it an amount ("add fog of 20%")."""
    out = list(concepts)
    for index, concept in enumerate(concepts):
        near = concepts[max(0, index - 3) : index + 4]
        if concept.role is Role.LOOK and concept.entry.kind and any(other.role is Role.AMOUNT for other in near):
            out[index] = replace(concept, role=Role.OPERATION, entry=replace(concept.entry, role=Role.OPERATION, word=""))
    return out


def _split(concepts: list[Concept]) -> list[Clause]:
    clauses: list[Clause] = []
    current = Clause()

    def close(after: Clause) -> Clause:
        if current.concepts:
            clauses.append(current)
        return after

    for index, concept in enumerate(concepts):
        following = concepts[index + 1] if index + 1 < len(concepts) else None
        if concept.role in (Role.BREAK, Role.COMMA, Role.JOIN) or _splits_with(concept, following, current):
            if not current.concepts:
                current.joined = current.joined and concept.role is not Role.BREAK
                continue
            current = close(Clause(joined=concept.role is not Role.BREAK, conjoined=concept.role is Role.JOIN))
        elif concept.role in _OPENS and not (concept.role is Role.KEEP and current.mood == "not"):
            mood: Mood = _OPENS[concept.role]  # type: ignore[assignment]
            if all(other.role in (Role.FILLER, Role.PICTURE, Role.DETERMINER) for other in current.concepts):
                # "it is not …", "please don't …"
                current.mood = mood
            else:
                current = close(Clause(mood=mood, joined=True))
            current.concepts.append(concept)
        else:
            current.concepts.append(concept)
    close(current)
    return clauses


def _splits_with(concept: Concept, following: Concept | None, current: Clause) -> bool:
    if concept.words != ("with",) or (following is not None and following.role in (Role.AMOUNT, Role.LEVEL)):
        return False
    return bool(current.concepts) and not current.has(*_OWNS_WITH)
