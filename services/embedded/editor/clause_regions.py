"""Which part of the picture a clause points at, and which of its words that explains."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.embedded.editor.clauses import Clause, Concept
from services.embedded.editor.plan import Area, Region, Term
from services.embedded.editor.vocabulary import Role

_POINTERS = (Role.DETERMINER, Role.EXCEPT, Role.ONLY, Role.KEEP, Role.UNCHANGED)
_NAMES_AFTER = (Role.OPERATION, Role.TONAL, Role.ADJECTIVE, Role.MOOD, Role.AREA, Role.HUES, Role.BORDER)


@dataclass(slots=True)
class Pointing:
    """What a clause points at: the region, the concepts it used up, and the unknown phrases that it did not."""

    terms: list[Term] = field(default_factory=list)
    inverted: bool = False
    thing: bool = False  # a word without a meaning of its own was taken as the main subject
    leftovers: list[tuple[int, int]] = field(default_factory=list)  # character spans
    used_colours: set[int] = field(default_factory=set)  # places of colours that name a region, not a target

    @property
    def region(self) -> Region:
        """The region, whole picture if nothing was pointed at."""
        return Region(tuple(dict.fromkeys(self.terms)), self.inverted and bool(self.terms))


def find_region(clause: Clause) -> Pointing:
    """Read areas, hues ("the reds", "the red car") and things ("the cup") out of a clause.

    A thing counts only where the grammar points at one ("brighten the cat", "except the cup"), and only if no area is
    named; every other unknown word is a leftover.
    """
    pointing = Pointing()
    concepts = clause.concepts
    things: list[tuple[int, int]] = []
    place = 0
    while place < len(concepts):
        concept = concepts[place]
        if concept.role is Role.EXCEPT:
            pointing.inverted = True
        elif concept.role is Role.AREA and concept.entry.area is not None:
            pointing.terms.append(Term(concept.entry.area))
        elif concept.role is Role.HUES:
            pointing.terms.append(Term(Area.HUE, concept.colour))
        elif concept.role is Role.COLOUR and _names_a_hue(concepts, place):
            pointing.terms.append(Term(Area.HUE, concept.colour))
            pointing.used_colours.add(place)
            place = _end_of_run(concepts, place + 1) - 1
        elif concept.role is Role.UNKNOWN:
            end = _end_of_run(concepts, place)
            span = (concept.start, concepts[end - 1].end)
            (things if _is_thing(concepts, place, end) else pointing.leftovers).append(span)
            place = end - 1
        place += 1
    if things and not pointing.terms:
        pointing.terms.append(Term(Area.SUBJECT))
        pointing.thing = True
    elif things and not _explained_by_area(pointing):
        pointing.leftovers.extend(things)
    pointing.leftovers.sort()
    return pointing


def _explained_by_area(pointing: Pointing) -> bool:
    """Whether an area already answers where, as in "brighten the left of the face"."""
    return any(term.area is not Area.HUE for term in pointing.terms)


def _end_of_run(concepts: list[Concept], place: int) -> int:
    while place < len(concepts) and concepts[place].role is Role.UNKNOWN:
        place += 1
    return place


def _names_a_hue(concepts: list[Concept], place: int) -> bool:
    """Whether a colour points at a range of hues: "the red", "the red car", not "a red tint", "to red" or "text in red"."""
    before = concepts[place - 1] if place else None
    after = concepts[place + 1] if place + 1 < len(concepts) else None
    if before is None or before.words[-1] == "in":
        return False
    if before.role in (Role.EXCEPT, Role.ONLY):
        return True
    points = before.words[-1] in ("the", "this", "that", "these", "those", "all", "any", "his", "her", "their", "my")
    if not points or (after is not None and after.role in _NAMES_AFTER):
        return False
    return before.role is not Role.TO


def _is_thing(concepts: list[Concept], start: int, end: int) -> bool:
    before = concepts[start - 1] if start else None
    if before is None:
        return False
    after = concepts[end] if end < len(concepts) else None
    if after is not None and after.role in (Role.OPERATION, Role.TONAL) and not after.words[-1].endswith(("er", "ed")):
        return False  # "the painterly contrast", but "make the ground darker"
    if before.role in _POINTERS or before.words[-1] in ("the", "this"):
        return True
    if before.words[-1] == "of":
        return True
    return before.role is Role.OPERATION and before.words[-1] != "noise"
