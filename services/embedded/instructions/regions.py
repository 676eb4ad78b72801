"""The region that a clause names, and the words that it leaves over."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.embedded.instructions.clauses import Clause, Concept
from services.embedded.instructions.colour_names import HUES
from services.embedded.instructions.operations import Area, Kind, Region, Term
from services.embedded.instructions.vocabulary import REASONS, Role

_POINTERS = frozenset(
    {"the", "this", "that", "these", "those", "all", "any", "every", "his", "her", "their", "my", "your", "our"}
)
_NAMES_AFTER = (Role.TONAL, Role.LOOK, Role.AREA, Role.HUES, Role.BORDER, Role.PICTURE, Role.TEXT)
_OF_TONES = (Kind.WARMTH, Kind.TINT, Kind.SATURATION)
_UNREAD = (Role.UNKNOWN, Role.REFUSED)


@dataclass(frozen=True, slots=True)
class Leftover:
    """Words that nothing accounts for.

    Attributes:
        concepts: the words.
        thing: whether they name a part of the picture ("brighten the cat"), by their place in the clause.
        context: whether they describe, behind "like", "at" and so on.
    """

    concepts: tuple[Concept, ...]
    thing: bool
    context: bool

    @property
    def refused(self) -> str | None:
        """Why what they name is never edited, if it is not."""
        group = next((concept.entry.word for concept in self.concepts if concept.role is Role.REFUSED), None)
        return REASONS[group] if group is not None else None


@dataclass(slots=True)
class ClauseRegion:
    """What a clause is confined to, the colours that name it or a thing, and what is left over."""

    terms: list[Term] = field(default_factory=list)
    used_colours: set[int] = field(default_factory=set)  # indices of colours that name a range of hues or a thing
    leftovers: list[Leftover] = field(default_factory=list)

    @property
    def region(self) -> Region:
        """The region; the whole picture if the clause names none."""
        return Region(tuple(dict.fromkeys(self.terms)))


def find_region(clause: Clause) -> ClauseRegion:
    """Read areas and hues ("the reds") out of a clause; a coloured thing ("the red car") is left over."""
    found = ClauseRegion()
    concepts = clause.concepts
    index = 0
    while index < len(concepts):
        concept = concepts[index]
        if concept.role is Role.AREA and concept.entry.area is not None:
            found.terms.append(Term(concept.entry.area))
        elif concept.role is Role.HUES:
            found.terms.append(Term(Area.HUE, concept.colour))
        elif concept.role is Role.COLOUR and concept.colour is not None and _is_pointed_at(concepts, index):
            end = _end_of_run(concepts, index + 1)
            if end == index + 1 and concept.colour.name in HUES:
                found.terms.append(Term(Area.HUE, concept.colour))
            else:
                found.leftovers.append(_leftover(concepts, index, end))
            found.used_colours.add(index)
            index = end - 1
        elif concept.role in _UNREAD or (concept.role is Role.PART and not _has_area_before(concepts, index)):
            end = _end_of_run(concepts, index + 1)
            if not _is_of_the_picture(concepts, index, end):
                found.leftovers.append(_leftover(concepts, index, end))
            index = end - 1
        index += 1
    return found


def _has_area_before(concepts: list[Concept], index: int) -> bool:
    """Whether "part" or "tones" follows what says which: "the left part", "the red tones", or how: "warmer tones"."""
    if index == 0:
        return False
    before, pointed = concepts[index - 1], index > 1 and concepts[index - 2].words[-1] in _POINTERS
    how = before.entry.kind in _OF_TONES and not pointed and concepts[index].words == ("tones",)
    return how or before.role in (Role.AREA, Role.HUES, Role.TONAL, Role.COLOUR)


def _is_of_the_picture(concepts: list[Concept], start: int, end: int) -> bool:
    """Whether unknown words only say which picture: "my holiday photo", not "a zebra photo"."""
    pointed = start > 0 and concepts[start - 1].words[-1] in _POINTERS
    strange = any(concept.role is not Role.UNKNOWN for concept in concepts[start:end])
    return pointed and not strange and end < len(concepts) and concepts[end].role is Role.PICTURE


def _end_of_run(concepts: list[Concept], index: int) -> int:
    while index < len(concepts) and concepts[index].role in _UNREAD:
        index += 1
    return index


def _is_pointed_at(concepts: list[Concept], index: int) -> bool:
    """Whether a colour is that of a part: "the red", "the red car", not "a red tint", "to red" or "text in red"."""
    before = concepts[index - 1] if index else None
    after = concepts[index + 1] if index + 1 < len(concepts) else None
    if before is None:
        return False
    if before.role in (Role.EXCEPT, Role.ONLY):
        return True
    if before.role is Role.EVERYTHING and any(concept.entry.kind is Kind.OVERLAY for concept in concepts[: index - 1]):
        return False  # "tint everything green"
    named_after = after is not None and (after.role in _NAMES_AFTER or after.entry.kind is Kind.OVERLAY)
    return (before.role is Role.EVERYTHING or before.words[-1] in _POINTERS) and not named_after


def _leftover(concepts: list[Concept], start: int, end: int) -> Leftover:
    context = any(concept.role in (Role.LIKE, Role.CONTEXT) for concept in concepts[:start])
    named = (Role.DETERMINER, Role.INSIDE, Role.EXCEPT, Role.REPLACE)
    thing = concepts[start].role is not Role.UNKNOWN or (start > 0 and concepts[start - 1].role in named)
    return Leftover(tuple(concepts[start:end]), thing, context)
