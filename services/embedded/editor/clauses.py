"""Match tokens with the vocabulary and split them into clauses, one for each operation."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.embedded.editor.colour_names import THING_NAMES, Colour, hue_plural, match_colour, parse_hex
from services.embedded.editor.tokens import Mark, Token, tokenize
from services.embedded.editor.vocabulary import LONGEST, VOCABULARY, Entry, Role

_MARKS = {
    Mark.AMOUNT: Role.AMOUNT,
    Mark.RATIO: Role.RATIO,
    Mark.QUOTE: Role.QUOTE,
    Mark.BREAK: Role.BREAK,
    Mark.COMMA: Role.COMMA,
}
_NO_ENTRY = Entry(Role.UNKNOWN)
# A clause that holds one of these uses "with" for its own value: "replace the background with white".
_OWNS_WITH = {Role.REPLACE, Role.CHANGE, Role.TEXT, Role.BORDER, Role.GRADIENT, Role.CROP}


@dataclass(frozen=True, slots=True)
class Concept:
    """A matched phrase: its role, its entry in the vocabulary, and the characters ``start`` to ``end`` it covers."""

    role: Role
    words: tuple[str, ...]
    start: int
    end: int
    entry: Entry = _NO_ENTRY
    token: Token | None = None
    colour: Colour | None = None


@dataclass(slots=True)
class Clause:
    """The concepts of one operation, and how the clause is linked to the one before it."""

    concepts: list[Concept] = field(default_factory=list)
    joined: bool = False  # by a comma or "and": verb, negation and amount may be shared
    conjoined: bool = False  # by "and" alone
    negated: bool = False  # "instead of ..."
    roles: set[Role] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.roles.update(concept.role for concept in self.concepts)

    def append(self, concept: Concept) -> None:
        """Add a concept at the end."""
        self.concepts.append(concept)
        self.roles.add(concept.role)

    def has(self, *roles: Role) -> bool:
        """Whether any concept plays one of these roles."""
        return not self.roles.isdisjoint(roles)

    def first(self, *roles: Role) -> Concept | None:
        """The first concept that plays one of these roles."""
        return next((concept for concept in self.concepts if concept.role in roles), None)

    def all(self, *roles: Role) -> list[Concept]:
        """Every concept that plays one of these roles."""
        return [concept for concept in self.concepts if concept.role in roles]

    def says(self, role: Role, word: str) -> bool:
        """Whether a concept of this role carries this word, as ``MORE`` carries "add"."""
        return any(concept.role is role and concept.entry.word == word for concept in self.concepts)

    def text(self, prompt: str) -> str:
        """The characters of the prompt that the clause covers."""
        return prompt[self.concepts[0].start : self.concepts[-1].end].strip() if self.concepts else ""


def read_clauses(prompt: str) -> list[Clause]:
    """All clauses of ``prompt`` in the order of the text; linear in its length."""
    return _split(_match(tokenize(prompt)))


def _match(tokens: list[Token]) -> list[Concept]:
    concepts: list[Concept] = []
    position = 0
    while position < len(tokens):
        concept, taken = _match_one(tokens, position)
        concepts.append(concept)
        position += taken
    return _name_things(concepts)


def _match_one(tokens: list[Token], position: int) -> tuple[Concept, int]:
    token = tokens[position]
    if token.mark in _MARKS:
        return Concept(_MARKS[token.mark], (token.text,), token.start, token.end, token=token), 1
    if token.mark is Mark.HEX:
        colour = parse_hex(token.text)
        role = Role.COLOUR if colour else Role.UNKNOWN
        return Concept(role, (token.text,), token.start, token.end, colour=colour), 1
    words = _words_from(tokens, position)
    entry, length = _look_up(words)
    named = match_colour(words)
    if named is not None and named[1] > length:
        colour, length = named
        return Concept(Role.COLOUR, words[:length], token.start, tokens[position + length - 1].end, colour=colour), length
    plural = hue_plural(words[0])
    if plural is not None and length <= 1:
        return Concept(Role.HUES, words[:1], token.start, token.end, colour=plural), 1
    length = max(length, 1)
    return Concept(entry.role, words[:length], token.start, tokens[position + length - 1].end, entry), length


def _words_from(tokens: list[Token], position: int) -> tuple[str, ...]:
    words = []
    for token in tokens[position : position + LONGEST]:
        if token.mark is not Mark.WORD:
            break
        words.append(token.text)
    return tuple(words)


def _look_up(words: tuple[str, ...]) -> tuple[Entry, int]:
    for length in _LENGTHS.get(words[0], ()):
        entry = VOCABULARY.get(words[:length]) if length <= len(words) else None
        if entry is not None:
            return entry, length
    return _NO_ENTRY, 0


def _phrase_lengths() -> dict[str, tuple[int, ...]]:
    """For each word that starts a phrase, how long such phrases are, longest first."""
    lengths: dict[str, set[int]] = {}
    for phrase in VOCABULARY:
        lengths.setdefault(phrase[0], set()).add(len(phrase))
    return {word: tuple(sorted(found, reverse=True)) for word, found in lengths.items()}


_LENGTHS = _phrase_lengths()


def _name_things(concepts: list[Concept]) -> list[Concept]:
    """Treat "the tomato" as a thing although tomato is also a colour."""
    named = list(concepts)
    for index in range(1, len(named)):
        concept = named[index]
        if (
            concept.role is Role.COLOUR
            and concept.words[0] in THING_NAMES
            and named[index - 1].words[-1:] in (("the",), ("this",), ("that",))
            and not (index + 1 < len(named) and named[index + 1].role is Role.UNKNOWN)
        ):
            named[index] = Concept(Role.UNKNOWN, concept.words, concept.start, concept.end)
    return named


def _split(concepts: list[Concept]) -> list[Clause]:
    clauses: list[Clause] = []
    current = Clause()
    for index, concept in enumerate(concepts):
        following = concepts[index + 1] if index + 1 < len(concepts) else None
        if _starts_clause(concept, current):
            clauses.append(current)
            current = Clause(joined=True)
        if not _ends_clause(concept, following, current):
            current.append(concept)
            continue
        if current.concepts:
            clauses.append(current)
            current = Clause(joined=concept.role is not Role.BREAK, conjoined=concept.role is Role.JOIN)
        elif concept.role is Role.BREAK:
            current.joined = False
        current.negated = concept.entry.word == "not"
    if current.concepts:
        clauses.append(current)
    return clauses


def _starts_clause(concept: Concept, current: Clause) -> bool:
    """Whether a clause starts without a comma: "... by 20% without adding grain", "... keeping the sky unchanged"."""
    if concept.role not in (Role.NEGATION, Role.KEEP) or not current.concepts:
        return False
    return current.concepts[-1].role not in (Role.NEGATION, Role.STOP, Role.KEEP, Role.TO)


def _ends_clause(concept: Concept, following: Concept | None, current: Clause) -> bool:
    if concept.role in (Role.BREAK, Role.COMMA):
        return True
    if concept.role is Role.JOIN:
        between_colours = current.has(Role.GRADIENT) and current.concepts[-1].role is Role.COLOUR
        return not between_colours
    if concept.entry.word != "with" or (following is not None and following.role in (Role.AMOUNT, Role.LEVEL)):
        return False
    return not current.has(*_OWNS_WITH)
