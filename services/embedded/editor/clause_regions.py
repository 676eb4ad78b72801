"""The region that a clause names, and which of its words the region accounts for."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.embedded.editor.clauses import Clause, Concept
from services.embedded.editor.plan import Area, Region, Term
from services.embedded.editor.vocabulary import Role

_POINTERS = (Role.DETERMINER, Role.EXCEPT, Role.ONLY, Role.KEEP, Role.UNCHANGED)
_NAMES_AFTER = (Role.OPERATION, Role.TONAL, Role.ADJECTIVE, Role.MOOD, Role.AREA, Role.HUES, Role.BORDER)


@dataclass(slots=True)
class ClauseRegion:
    """The region that a clause names, the colours it uses, and the unknown phrases that it does not account for."""

    terms: list[Term] = field(default_factory=list)
    inverted: bool = False
    leftovers: list[tuple[int, int]] = field(default_factory=list)  # character spans
    used_colours: set[int] = field(default_factory=set)  # indices of the colours that name a region

    @property
    def region(self) -> Region:
        """The region; the whole picture if the clause names none."""
        return Region(tuple(dict.fromkeys(self.terms)), self.inverted and bool(self.terms))


def find_region(clause: Clause) -> ClauseRegion:
    """Read areas, hues ("the reds", "the red car") and things ("the cup") out of a clause.

    A thing is recognised only by the grammar ("brighten the cat", "except the cup"), and only if no area is named. Every
    other unknown word is a leftover.
    """
    found = ClauseRegion()
    concepts = clause.concepts
    things: list[tuple[int, int]] = []
    index = 0
    while index < len(concepts):
        concept = concepts[index]
        if concept.role is Role.EXCEPT:
            found.inverted = True
        elif concept.role is Role.AREA and concept.entry.area is not None:
            found.terms.append(Term(concept.entry.area))
        elif concept.role is Role.HUES:
            found.terms.append(Term(Area.HUE, concept.colour))
        elif concept.role is Role.COLOUR and _names_a_hue(concepts, index):
            found.terms.append(Term(Area.HUE, concept.colour))
            found.used_colours.add(index)
            index = _end_of_run(concepts, index + 1) - 1
        elif concept.role is Role.UNKNOWN:
            end = _end_of_run(concepts, index)
            span = (concept.start, concepts[end - 1].end)
            (things if _is_thing(concepts, index, end) else found.leftovers).append(span)
            index = end - 1
        index += 1
    if things and not found.terms:
        found.terms.append(Term(Area.SUBJECT))
    elif things and not _explained_by_area(found):
        found.leftovers.extend(things)
    found.leftovers.sort()
    return found


def _explained_by_area(found: ClauseRegion) -> bool:
    """Whether the clause also names an area, as in "brighten the left of the face"."""
    return any(term.area is not Area.HUE for term in found.terms)


def _end_of_run(concepts: list[Concept], index: int) -> int:
    while index < len(concepts) and concepts[index].role is Role.UNKNOWN:
        index += 1
    return index


def _names_a_hue(concepts: list[Concept], index: int) -> bool:
    """Whether a colour names a range of hues: "the red", "the red car", not "a red tint", "to red" or "text in red"."""
    before = concepts[index - 1] if index else None
    after = concepts[index + 1] if index + 1 < len(concepts) else None
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
