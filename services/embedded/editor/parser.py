"""Parse an English instruction into a plan. Pure and total: any text gives a plan, in linear time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from services.embedded.editor import special_clauses
from services.embedded.editor.clause_regions import ClauseRegion, find_region
from services.embedded.editor.clauses import Clause, Concept, read_clauses
from services.embedded.editor.colour_names import COLOURS, Colour
from services.embedded.editor.plan import (
    ORDER,
    SPECS,
    WHOLE,
    Area,
    Kind,
    Operation,
    Plan,
    Region,
    Strength,
    Term,
)
from services.embedded.editor.sliders import NOUNS, Sliders, direction, finish, read_sliders, share
from services.embedded.editor.vocabulary import NOTHING_TO_PROTECT, Role

_MAGENTAS = ("magenta", "fuchsia", "pink")
_GREENS = ("green", "lime")
_MAX_NUDGE = 0.1
# A clause of nothing but these roles ("please", "and then") asks for nothing and is not reported.
_EMPTY = (Role.STOP, Role.DETERMINER, Role.LINK, Role.TO, Role.CHANGE, Role.JOIN, Role.LEVEL, Role.EVERYTHING)


@dataclass(slots=True)
class _Reading:
    """What has been read so far, and the context that the next clause may inherit."""

    prompt: str
    operations: list[Operation] = field(default_factory=list)
    protected: list[Region] = field(default_factory=list)
    not_understood: list[str] = field(default_factory=list)
    forbidden: set[Kind] = field(default_factory=set)
    verb: Concept | None = None
    negated: bool = False
    keeping: bool = False
    chain: list[int] = field(default_factory=list)  # operations that share the current verb
    keeps_colour: list[Region] = field(default_factory=list)

    def add(self, *operations: Operation) -> None:
        self.chain.extend(range(len(self.operations), len(self.operations) + len(operations)))
        self.operations.extend(operations)

    def miss(self, text: str) -> None:
        text = text.strip()
        if text and text not in self.not_understood[-8:]:
            self.not_understood.append(text)


def parse(prompt: str) -> Plan:
    """The plan of ``prompt``; phrases that are not understood are reported in its own words."""
    reading = _Reading(prompt)
    for clause in read_clauses(prompt):
        _read_clause(reading, clause)
    _settle_selective_colour(reading)
    operations = _merge(reading.operations, reading.forbidden)
    operations.sort(key=lambda operation: ORDER[operation.kind])
    return Plan(tuple(operations), tuple(dict.fromkeys(reading.protected)), tuple(reading.not_understood))


def _read_clause(reading: _Reading, clause: Clause) -> None:
    if not clause.joined:
        reading.verb, reading.negated, reading.keeping, reading.chain = None, False, False, []
    own_verb = clause.has(Role.MORE, Role.CHANGE, Role.REPLACE, Role.KEEP, Role.NEGATION, Role.CROP, Role.FLIP, Role.ROTATE)
    names_effect = clause.has(Role.OPERATION, Role.ADJECTIVE, Role.TONAL, Role.AMOUNT, Role.MOOD)
    if own_verb:
        reading.negated = reading.keeping = False
    if clause.negated or clause.has(Role.NEGATION) or (reading.negated and not own_verb and not _compares(clause)):
        _read_negation(reading, clause)
        return
    if (
        clause.has(Role.KEEP)
        or (reading.keeping and not names_effect)
        or clause.says(Role.IN_COLOUR, "splash")
        or (clause.has(Role.ONLY) and clause.has(Role.IN_COLOUR))
    ):
        _read_keep(reading, clause)
        return
    if own_verb:
        reading.chain = []
    clause, compared = _cut_comparison(reading, clause)
    if not clause.concepts:
        return
    named = find_region(clause)
    try:
        operation = _read_special(reading.prompt, clause, named)
    except special_clauses.UnreadableError:
        reading.miss(clause.text(reading.prompt))
        return
    if operation is not None:
        reading.add(operation)
        reading.verb = None
        return
    _read_general(reading, clause, named, compared=compared)


def _compares(clause: Clause) -> bool:
    """Whether a clause after "without grain," is an operation of its own ("warmer"), not one more noun of the list."""
    effects = clause.all(Role.OPERATION, Role.TONAL)
    return clause.has(Role.AMOUNT) or not all(concept.words[-1] in NOUNS for concept in effects)


def _read_special(prompt: str, clause: Clause, named: ClauseRegion) -> Operation | None:
    return (
        special_clauses.read_crop(clause)
        or special_clauses.read_flip_or_rotate(clause)
        or special_clauses.read_text(clause, prompt)
        or special_clauses.read_border(clause)
        or special_clauses.read_background(clause)
        or special_clauses.read_recolour(clause, named)
    )


def _cut_comparison(reading: _Reading, clause: Clause) -> tuple[Clause, bool]:
    """Cut a clause at a comparison ("like ..."), of which only the mood words are used, as nudges."""
    index = next((i for i, concept in enumerate(clause.concepts) if concept.role is Role.LIKE), None)
    if index is None:
        return clause, False
    head = Clause(clause.concepts[:index], clause.joined, clause.conjoined)
    tail = clause.concepts[index:]
    whole = all(concept.role in _EMPTY for concept in head.concepts)
    start = clause.concepts[0].start if whole else tail[0].start
    reading.miss(reading.prompt[start : tail[-1].end])
    for concept in tail:
        _nudge(reading, concept.entry.nudges)
    return (Clause([], clause.joined) if whole else head), True


def _nudge(reading: _Reading, nudges: Sequence[tuple[Kind, float]]) -> None:
    for kind, amount in nudges:
        reading.operations.append(Operation(kind, max(-_MAX_NUDGE, min(_MAX_NUDGE, amount)), nudge=True))


def _read_negation(reading: _Reading, clause: Clause) -> None:
    """Forbid the operations and protect the regions of a negated clause; report the rest."""
    reading.negated = True
    reading.verb, reading.chain = None, []
    named = find_region(clause)
    kinds = {concept.entry.kind for concept in clause.concepts if concept.entry.kind is not None}
    reading.forbidden |= kinds
    if named.terms and not kinds:
        reading.protected.append(named.region)
    elif named.leftovers or (not kinds and clause.has(Role.UNKNOWN)):
        reading.miss(clause.text(reading.prompt))


def _read_keep(reading: _Reading, clause: Clause) -> None:
    """Read a clause that keeps something: "keep only the cup in colour", "keep the sky unchanged", "keep the composition"."""
    named = find_region(clause)
    words = {word for concept in clause.concepts if concept.role is Role.UNKNOWN for word in concept.words}
    reading.chain, reading.verb, reading.keeping = [], None, True
    if clause.has(Role.IN_COLOUR) and named.terms:
        region = Region(named.region.terms)
        if clause.has(Role.ONLY) or clause.says(Role.IN_COLOUR, "splash"):
            reading.add(Operation(Kind.SELECTIVE_COLOUR, 1.0, region))
        else:
            reading.keeps_colour.append(region)
        return
    kinds = {concept.entry.kind for concept in clause.concepts if concept.entry.kind is not None}
    if kinds:
        reading.forbidden |= kinds
    elif words & NOTHING_TO_PROTECT or (not words and not named.terms):
        return
    elif named.terms and not clause.has(Role.ONLY):
        reading.protected.append(named.region)
    else:
        reading.miss(clause.text(reading.prompt))


def _settle_selective_colour(reading: _Reading) -> None:
    """Turn "black and white, but keep the red in colour" into selective colour, in either order."""
    if not reading.keeps_colour:
        return
    terms = tuple(term for region in reading.keeps_colour for term in region.terms)
    for index, operation in enumerate(reading.operations):
        if operation.kind is Kind.MONOCHROME and not operation.region.terms:
            reading.operations[index] = replace(operation, kind=Kind.SELECTIVE_COLOUR, region=Region(terms))
            return
    reading.protected.extend(reading.keeps_colour)


def _read_general(reading: _Reading, clause: Clause, named: ClauseRegion, *, compared: bool) -> None:
    # "shift the tint towards green", "tint the shadows teal": a verb of its own, so none is inherited from before.
    own_verb = clause.has(Role.CHANGE) or clause.has(Role.COLOUR)
    sliders = read_sliders(clause, None if own_verb else reading.verb)
    coloured = _read_colour(clause, named, sliders)
    if coloured is not None:
        if coloured.explicit and clause.conjoined:
            _share_amount(reading, abs(coloured.amount))
        reading.add(coloured)
        reading.verb = sliders.verb or reading.verb
    elif sliders.drafts:
        _add_sliders(reading, clause, named, sliders)
    elif not sliders.nudges and _extend_chain(reading, clause, named, sliders):
        return
    _nudge(reading, sliders.nudges)
    if coloured is not None or sliders.drafts or sliders.nudges:
        for start, end in named.leftovers:
            reading.miss(reading.prompt[start:end])
    elif not (all(concept.role in _EMPTY for concept in clause.concepts) or compared):
        reading.miss(clause.text(reading.prompt))


def _add_sliders(reading: _Reading, clause: Clause, named: ClauseRegion, sliders: Sliders) -> None:
    operations: list[Operation] = []
    region = named.region
    for draft in sliders.drafts:
        operation = finish(draft, region)
        if operation is None or operation.kind is Kind.OVERLAY:
            reading.miss(clause.text(reading.prompt))
        else:
            operations.append(_selective(operation))
    inherits = sliders.verb is None and any(draft.verb is not None for draft in sliders.drafts)
    if operations and operations[-1].explicit and (clause.conjoined or inherits):
        _share_amount(reading, abs(operations[-1].amount))
    reading.add(*operations)
    reading.verb = sliders.verb or reading.verb


def _selective(operation: Operation) -> Operation:
    if operation.kind is Kind.MONOCHROME and operation.region.inverted:
        return replace(operation, kind=Kind.SELECTIVE_COLOUR, region=Region(operation.region.terms))
    return operation


def _share_amount(reading: _Reading, amount: float) -> None:
    """Give the earlier members of a list the last amount: "the contrast and the saturation by 20%"."""
    for index in reading.chain:
        earlier = reading.operations[index]
        if not earlier.explicit and SPECS[earlier.kind].strength is Strength.SLIDER:
            signed = amount if earlier.amount >= 0 else -amount
            reading.operations[index] = replace(earlier, amount=signed, explicit=True)


def _extend_chain(reading: _Reading, clause: Clause, named: ClauseRegion, sliders: Sliders) -> bool:
    """Complete the previous operation by a clause of only an amount or a region: "add a vignette, 20%", "and the bottom"."""
    if (
        not clause.joined
        or not reading.chain
        or (clause.has(Role.MORE, Role.CHANGE, Role.COLOUR, Role.UNKNOWN) and not named.terms)
    ):
        return False
    if named.leftovers or not (named.terms or sliders.orphans):
        return False
    last = reading.operations[reading.chain[-1]]
    if named.terms:
        regional = SPECS[last.kind].regional
        monochrome = last.kind in (Kind.MONOCHROME, Kind.SELECTIVE_COLOUR)
        if not regional or not (last.region.terms or named.inverted) or clause.has(Role.CHANGE):
            return False
        region = Region((*last.region.terms, *named.terms), last.region.inverted or named.inverted)
        if monochrome and region.inverted:
            last = replace(last, kind=Kind.SELECTIVE_COLOUR, region=Region(region.terms))
        else:
            last = replace(last, region=region)
        reading.operations[reading.chain[-1]] = last
    for orphan in sliders.orphans:
        amount = share(orphan, last.kind)
        if amount is not None:
            _share_amount(reading, abs(amount))
    return True


def _read_colour(clause: Clause, named: ClauseRegion, sliders: Sliders) -> Operation | None:
    """The operation of a clause with a colour: tints, split toning, "more blue", "boost the colours"."""
    colours = [c for index, c in enumerate(clause.concepts) if c.role is Role.COLOUR and index not in named.used_colours]
    kinds = [draft.kind for draft in sliders.drafts]
    tonal = sliders.tonal[0].entry.area if sliders.tonal else None
    only_tonal = bool(kinds) and all(draft.kind in _TONAL_KINDS for draft in sliders.drafts)
    if colours and (not kinds or kinds == [Kind.OVERLAY] or only_tonal):
        return _tint(clause, named, sliders, colours[-1], tonal)
    if colours and Kind.VIGNETTE in kinds and _is_light(colours[0].colour):
        draft = sliders.drafts[kinds.index(Kind.VIGNETTE)]
        return Operation(Kind.WHITE_VIGNETTE, abs(draft.signed), explicit=draft.amount is not None)
    if kinds == [Kind.OVERLAY] and sliders.verb is not None:
        draft = sliders.drafts[0]
        return Operation(Kind.TINT, draft.signed, named.region, explicit=draft.amount is not None)
    if not kinds and sliders.verb is not None:
        return _boost(clause, named, sliders)
    return None


_TONAL_KINDS = (Kind.HIGHLIGHTS, Kind.SHADOWS, Kind.MIDTONES, Kind.WHITES, Kind.BLACKS)


def _tint(clause: Clause, named: ClauseRegion, sliders: Sliders, concept: Concept, tonal: Area | None) -> Operation | None:
    colour = concept.colour
    if colour is None:
        return None
    amount, explicit = _colour_amount(sliders)
    if tonal is not None:
        region = Region((*named.region.terms, Term(tonal)))
        return Operation(Kind.SPLIT_TONE, amount, region, colour, explicit=explicit)
    toward = clause.concepts[clause.concepts.index(concept) - 1].words[-1] in ("towards", "toward", "to", "more")
    if toward and any(draft.kind is Kind.OVERLAY for draft in sliders.drafts) and colour.name in (*_MAGENTAS, *_GREENS):
        sign = 1 if colour.name in _MAGENTAS else -1
        return Operation(Kind.TINT, sign * amount, named.region, explicit=explicit)
    is_operation = sliders.drafts or sliders.verb is not None or clause.has(Role.CHANGE)
    if not is_operation or clause.has(Role.BORDER, Role.TEXT):
        return None
    return Operation(Kind.OVERLAY, amount, named.region, colour, explicit=explicit)


def _colour_amount(sliders: Sliders) -> tuple[float, bool]:
    if sliders.drafts and sliders.drafts[0].amount is not None:
        draft = sliders.drafts[0]
        return abs(draft.amount or 0.0) * direction(draft.verb, Kind.OVERLAY), True
    sign = direction(sliders.verb, Kind.OVERLAY)
    for orphan in sliders.orphans:
        amount = share(orphan, Kind.OVERLAY)
        if amount is not None:
            return sign * abs(amount), True
    return sign * SPECS[Kind.OVERLAY].default, False


def _boost(clause: Clause, named: ClauseRegion, sliders: Sliders) -> Operation | None:
    """The saturation of a range of hues or of everything: "boost the blues", "reduce the colours"."""
    hues = any(term.area is Area.HUE for term in named.terms)
    if not hues and not clause.says(Role.COLOUR_NOUN, "colours"):
        return None
    amount, explicit = _colour_amount(sliders)
    return Operation(Kind.SATURATION, amount, named.region, explicit=explicit)


def _is_light(colour: Colour | None) -> bool:
    return colour is not None and sum(colour.rgb) >= sum(COLOURS["silver"])


def _merge(operations: Sequence[Operation], forbidden: set[Kind]) -> list[Operation]:
    """One operation for each kind, region and colour: explicit amounts add up and outweigh defaults and nudges."""
    groups: dict[tuple[object, ...], list[Operation]] = {}
    for operation in operations:
        if operation.nudge and operation.kind in forbidden:
            continue
        key: tuple[object, ...] = (operation.kind, operation.region, operation.colour, operation.text, operation.positions)
        groups.setdefault(key, []).append(operation)
    merged = []
    requested = {operation.kind for operation in operations if not operation.nudge}
    for group in groups.values():
        rank = max(_rank(operation) for operation in group)
        chosen = [operation for operation in group if _rank(operation) == rank]
        if chosen[0].nudge and chosen[0].kind in requested and chosen[0].region == WHOLE:
            continue
        merged.append(_sum(chosen))
    return merged


def _rank(operation: Operation) -> int:
    return 2 if operation.explicit else (0 if operation.nudge else 1)


def _sum(chosen: Sequence[Operation]) -> Operation:
    first = chosen[0]
    if len(chosen) == 1 or SPECS[first.kind].strength is not Strength.SLIDER:
        return chosen[-1]
    if first.explicit:
        total = max(-1.0, min(1.0, sum(operation.amount for operation in chosen)))
    else:
        total = max((operation.amount for operation in chosen), key=abs)
    return replace(first, amount=total)
