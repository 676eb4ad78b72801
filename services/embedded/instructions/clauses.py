"""Match tokens with the vocabulary and split them into clauses, one for each request."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Literal

from services.embedded.instructions.colour_names import Colour, hue_plural, match_colour, parse_hex
from services.embedded.instructions.languages import corrected
from services.embedded.instructions.tokens import Token, tokenize
from services.embedded.instructions.vocabulary import KNOWN, LONGEST, LOOKS, SILENT, STARTS, VOCABULARY, Entry, Role

_NO_ENTRY = Entry(Role.UNKNOWN)
_TOP = 360.0  # a larger number without a unit is no amount: "1970"
_OPENS = {Role.NEGATION: "not", Role.LIMIT: "not", Role.KEEP: "keep", Role.EXCEPT: "except", Role.INSTEAD: "not"}
_OPENS[Role.PURPOSE] = "why"
# A clause that holds one of these uses "with" for its own value: "replace the red with blue".
_OWNS_WITH = {Role.REPLACE, Role.CHANGE, Role.TEXT, Role.BORDER, Role.CROP, Role.QUOTE}
_ENDS = (Role.BREAK, Role.COMMA, Role.JOIN)
_CONDITIONS = ("if", "when", "whenever")
_WRITERS = ("you", "u", "we", "i")
_IDLE = {Role.UNKNOWN, Role.FILLER, Role.CONTEXT, Role.NEGATION, Role.STATE, Role.LEVEL, Role.TOO, Role.TO, Role.INSIDE}
_IDLE.add(Role.PICTURE)
_GREETING = re.compile(
    r"(?:(?:a )?(?:very )?good (?:morning|afternoon|evening|day)|morning|hi|hiya|hello|hey|howdy|greetings|dear|yo)"
    r"(?: (?:to )?(?:you|all|there|again|everyone|everybody|team|folks|guys|mate|sir|madam|dear|my|friend|friends|editor))*"
)
_CALLED = ("hi", "hello", "hey", "dear")
_NAMES = 2  # words of a name behind these
_VAGUE = ("a", "an", "any", "some", "my", "your")
Mood = Literal["do", "not", "keep", "except", "why"]


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
        mood: whether it asks for something, rules it out, keeps it, excepts it from the clause before, or says why.
        joined: linked by a comma or "and", so that verb, negation and amount may be shared.
        conjoined: by "and" alone.
        opposed: by "but".
    """

    concepts: list[Concept] = field(default_factory=list)
    mood: Mood = "do"
    joined: bool = False
    conjoined: bool = False
    opposed: bool = False

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
    return _split(_measured_looks(_without_asides(concepts)))


def _without_asides(concepts: list[Concept]) -> list[Concept]:
    """Drop what is said to the reader ("if you have a minute", "I'm no expert"), and words of order that open a clause."""
    out: list[Concept] = []
    start, first = 0, True
    while start < len(concepts):
        end = start + 1
        while end < len(concepts) and concepts[end].role not in _ENDS and concepts[end].words[0] not in _CONDITIONS:
            end += 1
        opens = not out or out[-1].role in (Role.BREAK, Role.COMMA, Role.JOIN)
        greets = first and _greets(concepts[start : end + 1])
        first = False
        if not _is_aside(concepts[start:end], opens=opens, greets=greets):
            out += concepts[start:end]
        start = end
    return [concept for index, concept in enumerate(out) if concept.role is not Role.ORDER or not _orders(out, index)]


def _greets(concepts: list[Concept]) -> bool:
    """Whether words may greet: something follows, and it is not "morning, soft light"."""
    end, alone = concepts[-1].role, [concept.words for concept in concepts[:-1]] == [("morning",)]
    return end is Role.BREAK or (end is Role.COMMA and not alone)


def _orders(concepts: list[Concept], index: int) -> bool:
    """Whether "first" is the order of requests: "first rotate it", not "make the first one brighter", "first summer"."""
    opens = index == 0 or concepts[index - 1].role in _ENDS
    return opens and all(following.role is not Role.LOOK for following in concepts[index + 1 : index + 2])


def _is_aside(concepts: list[Concept], *, opens: bool, greets: bool) -> bool:
    """Whether words greet, or are about the two who write, and name nothing in or of the picture."""
    words = [word for concept in concepts for word in concept.words]
    if greets and (_GREETING.fullmatch(" ".join(words)) or _calls(concepts)):
        return True
    negated = any(concept.role is Role.NEGATION for concept in concepts)
    if words[0] in _CONDITIONS:
        addressed = words[1:2] and (words[1].split("'")[0] in _WRITERS or (words[1].startswith("it") and negated))
    else:
        said = words[1:] if concepts[0].role in _ENDS else words
        said = said[1:] if said[:1] == ["i"] else said
        polite = said[:1] == ["hope"] or said[:2] == ["how", "are"]  # "I hope you are well"
        polite = polite and any(word.split("'")[0] in _WRITERS for word in said)
        addressed = polite or (opens and (words[0] == "sorry" or (negated and words[0].split("'")[0] == "i")))
    named = [one for one in concepts if one.role not in {*_IDLE, *_ENDS} and one.words != ("too", "much")]
    return bool(addressed) and all(concept.role is Role.DETERMINER and concept.words[0] in _VAGUE for concept in named)


def _calls(concepts: list[Concept]) -> bool:
    """Whether a name is greeted: "Hi Anna"."""
    names = concepts[1:]
    return concepts[0].words[0] in _CALLED and len(names) <= _NAMES and all(one.role is Role.UNKNOWN for one in names)


def _spelled(token: Token) -> Token:
    """The token with a typing mistake corrected."""
    if token.role is not Role.UNKNOWN or token.text in KNOWN or match_colour((token.text,)) or hue_plural(token.text):
        return token
    plain = re.sub("ier$", "y", token.text)  # "moodier": the comparative of a look asks for it
    return replace(token, text=plain if (plain,) in LOOKS else corrected(token.text))


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
            named = entry is not None and entry.role is Role.OPERATION
            return (replace(entry, role=Role.LOOK, word=look) if entry and named else Entry(Role.LOOK, word=look)), length
        if entry is not None:
            return entry, length
    return _NO_ENTRY, 0


def _measured_looks(concepts: list[Concept]) -> list[Concept]:
    """Treat a look as the operation of the same name where the text gives it an amount ("add fog of 20%")."""
    out = list(concepts)
    for index, concept in enumerate(concepts):
        near = concepts[max(0, index - 3) : index + 4]
        named = concept.role is Role.LOOK and concept.entry.kind and concept.entry.form != "complaint"
        if named and any(other.role is Role.AMOUNT for other in near):
            out[index] = replace(concept, role=Role.OPERATION, entry=replace(concept.entry, role=Role.OPERATION, word=""))
    return out


def _belongs(comma: Concept, following: Concept) -> bool:
    return following.role is Role.QUOTE or (comma.words == (":",) and following.role in (Role.AMOUNT, Role.LEVEL))


def _split(concepts: list[Concept]) -> list[Clause]:
    clauses: list[Clause] = []
    current = Clause()

    def close(after: Clause) -> Clause:
        if current.concepts:
            clauses.append(current)
        return after

    for index, concept in enumerate(concepts):
        following = concepts[index + 1] if index + 1 < len(concepts) else None
        if concept.role is Role.COMMA and following is not None and _belongs(concept, following):
            continue  # 'caption: "Hello"', "brightness: +20%"
        if concept.role in (Role.BREAK, Role.COMMA, Role.JOIN) or _splits_with(concept, following, current):
            if not current.concepts:
                current.joined = current.joined and concept.role is not Role.BREAK
                current.opposed = current.opposed or "but" in concept.words
                continue
            joins = concept.role is Role.JOIN
            opposed = joins and "but" in concept.words
            current = close(Clause(joined=concept.role is not Role.BREAK, conjoined=joins, opposed=opposed))
        elif concept.role in _OPENS and not (concept.role is Role.KEEP and current.mood == "not"):
            mood: Mood = _OPENS[concept.role]  # type: ignore[assignment]
            if all(other.role in (*SILENT, Role.PICTURE, Role.DETERMINER) for other in current.concepts):
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
