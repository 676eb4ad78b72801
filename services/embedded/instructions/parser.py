"""Parse an instruction. Pure and total: any text gives a reading, in linear time.

What is not understood is never guessed: it is refused where it asks for something, and reported as unjudged where it only
describes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from services.embedded.instructions import framing
from services.embedded.instructions.clauses import Clause, Concept, read_clauses
from services.embedded.instructions.colour_names import Colour
from services.embedded.instructions.contradictions import contradictions
from services.embedded.instructions.languages import language_of, to_english
from services.embedded.instructions.operations import (
    COLOUR_KINDS,
    HUE_KINDS,
    ORDER,
    SPECS,
    TONES,
    Instruction,
    Kind,
    NamedLook,
    Operation,
    Refusal,
    Region,
    Strength,
    Term,
)
from services.embedded.instructions.regions import ClauseRegion, find_region
from services.embedded.instructions.sliders import Sliders, finish, read_sliders, share
from services.embedded.instructions.vocabulary import NOTHING_TO_PROTECT, REASONS, Role

POSSIBLE = "light, colour, looks, sharpness, noise, framing, borders and quoted text of the whole picture can be changed"
PART = (
    "this part cannot be told from the rest of the picture without a model; a side, a range of tones (“the shadows”) or of hues "
    "(“the reds”), or the whole picture can be changed"
)
_OF_A_PART = "a side, or a range of tones or hues can be made brighter, darker, warmer, cooler, more or less colourful"
MAX_LENGTH = 4000
"""Characters of an instruction that are parsed."""
_MAGENTAS, _GREENS = ("magenta", "fuchsia", "pink"), ("green", "lime")
_BLUES, _YELLOWS = ("blue", "cyan", "skyblue"), ("yellow", "orange", "gold", "amber")
_EMPTY = frozenset(
    {Role.FILLER, Role.PICTURE, Role.DETERMINER, Role.INSIDE, Role.TO, Role.CHANGE, Role.LEVEL, Role.EVERYTHING, Role.LIMIT}
    | {Role.CONTEXT, Role.PURPOSE, Role.ONLY, Role.SIZE, Role.VERB, Role.LIKE}
)
"""A clause of nothing but these ("please", "make it") asks for nothing."""
_STRESS = {0.06: 0.3, 0.12: 0.45, 0.15: 0.55, 0.3: 0.9, 0.55: 1.5, 0.8: 1.9, 1.0: 2.2}
"""How strong a look is that is asked for with an amount in words."""
_NOUNS = frozenset({Kind.GRAIN, Kind.VIGNETTE, Kind.HAZE, Kind.GLOW, Kind.SEPIA, Kind.MONOCHROME})
_DIRECTED = frozenset(kind for kind, spec in SPECS.items() if spec.signed) - _NOUNS
_FEW = 2
_LESS = 0.6  # of the amount without a limit
_SHOWN = 80


@dataclass(slots=True)
class _Reading:
    """What has been read so far, and the context that the next clause may inherit."""

    prompt: str
    original: str
    operations: list[Operation] = field(default_factory=list)
    looks: list[NamedLook] = field(default_factory=list)
    protected: list[Region] = field(default_factory=list)
    forbidden: set[Kind] = field(default_factory=set)
    unwanted: set[tuple[Kind, int]] = field(default_factory=set)  # "don't make it darker": one direction
    unjudged: list[str] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    misses: list[str] = field(default_factory=list)
    verb: Concept | None = None
    mood: str = "do"
    chain: list[int] = field(default_factory=list)  # operations that share the current verb

    def add(self, *operations: Operation) -> None:
        self.chain.extend(range(len(self.operations), len(self.operations) + len(operations)))
        self.operations.extend(operations)

    def unmeasured(self) -> list[int]:
        """The operations that share the current verb and have no amount of their own."""
        sliders = [index for index in self.chain if SPECS[self.operations[index].kind].strength is Strength.SLIDER]
        return [index for index in sliders if not self.operations[index].explicit]

    def refuse(self, phrase: str, reason: str) -> None:
        self.refusals.append(Refusal(phrase.strip(), reason))


@lru_cache(maxsize=512)
def parse(prompt: str) -> Instruction:
    """The reading of ``prompt``."""
    text = to_english(prompt[:MAX_LENGTH].replace("0's", "0s"))
    reading = _Reading(text, prompt)
    for clause in read_clauses(text):
        _read_clause(reading, clause)
    if len(prompt) > MAX_LENGTH:
        reading.unjudged.append("the rest of a very long instruction")
    _settle_misses(reading)
    operations = _merge(reading.operations)
    confined = [one for one in operations if one.region.of_hues and one.kind not in HUE_KINDS]
    reading.refusals += [Refusal(one.clause, REASONS["colour"]) for one in confined]
    reading.refusals += contradictions(operations, reading.looks, reading.forbidden, reading.unwanted)
    if not (operations or reading.looks or reading.refusals):
        phrase = prompt.strip()[:_SHOWN]
        reading.refuse(phrase, f"nothing that can be done was found in it; {POSSIBLE}")
    return Instruction(
        prompt,
        tuple(sorted(operations, key=lambda operation: ORDER[operation.kind])),
        tuple(reading.looks),
        tuple(dict.fromkeys(reading.protected)),
        frozenset(reading.forbidden),
        tuple(dict.fromkeys(reading.unjudged)),
        tuple(dict.fromkeys(reading.refusals)),
    )


def _settle_misses(reading: _Reading) -> None:
    """Clauses without meaning: refused where they ask for something; a few stray words among others are unjudged."""
    for miss in reading.misses:
        language = language_of(reading.original)
        words = miss.split()
        if language:
            reading.refuse(reading.original[:_SHOWN], f"this seems to be {language} and was not understood; write it in English")
        elif len(words) <= _FEW and (reading.operations or reading.looks) and not _asks(miss):
            reading.unjudged.append(miss)
        else:
            reading.refuse(miss, f"this was not understood; {POSSIBLE}")


def _asks(text: str) -> bool:
    roles = {concept.role for clause in read_clauses(text) for concept in clause.concepts}
    return bool(roles & {Role.VERB, Role.CHANGE, Role.REPLACE, Role.DETERMINER, Role.ONLY})


def _read_clause(reading: _Reading, clause: Clause) -> None:
    if not clause.joined:
        reading.verb, reading.mood, reading.chain = None, "do", []
    own_verb = clause.has(Role.VERB, Role.CHANGE, Role.REPLACE, Role.CROP, Role.ROTATE)
    mood = clause.mood
    if mood == "do" and not own_verb and _continues(clause, reading.mood):
        mood = reading.mood  # type: ignore[assignment]
    reading.mood = mood
    if mood == "not" and clause.has(Role.ENOUGH):
        mood = "do"
    if clause.has(Role.LIMIT) or (mood == "not" and clause.has(Role.TOO)):
        _moderate(reading)
        return
    if mood == "do":
        if own_verb:
            reading.chain = []
        _read_request(reading, clause)
    else:
        _read_protection(reading, clause, excepts=mood == "except")


def _moderate(reading: _Reading) -> None:
    """Do less of what was asked for without an amount: "but not too much"."""
    for index in reading.unmeasured():
        earlier = reading.operations[index]
        reading.operations[index] = replace(earlier, amount=_LESS * earlier.amount)


def _continues(clause: Clause, mood: str) -> bool:
    """Whether a clause after "without grain" or "keep the sky" is one more noun of that list, not a request of its own."""
    names = clause.all(Role.OPERATION, Role.TONAL)
    if mood not in ("not", "keep") or (mood == "keep" and names):
        return False
    nouns = all(concept.entry.sign == 0 or concept.entry.kind in _NOUNS for concept in names)
    return nouns and not clause.has(Role.AMOUNT, Role.LOOK)


def _read_protection(reading: _Reading, clause: Clause, *, excepts: bool) -> None:
    """What must not happen or change: operations are ruled out, regions protected, the rest refused."""
    named = find_region(clause)
    if named.region.of_hues:
        reading.refuse(clause.text(reading.prompt), REASONS["colour"])
        return
    kinds = _ruled_out(reading, clause, whole=not named.terms)
    if named.terms and not kinds - COLOUR_KINDS:
        _protect(reading, named.region, excepts=excepts)
    reading.forbidden |= kinds if not named.terms else set()
    for leftover in named.leftovers:
        words = {word for concept in leftover.concepts for word in concept.words}
        if not words <= NOTHING_TO_PROTECT:
            reason = f"it cannot be kept: {PART}" if leftover.refused is None else leftover.refused
            reading.refuse(leftover.text(reading.prompt), reason)


def _ruled_out(reading: _Reading, clause: Clause, *, whole: bool) -> set[Kind]:
    """The operations that a clause rules out, apart from those of which it rules out one direction."""
    names = [concept.entry for concept in clause.all(Role.OPERATION, Role.TONAL)]
    directed = {(entry.kind, entry.sign) for entry in names if entry.kind is not None and entry.kind in _DIRECTED and entry.sign}
    reading.unwanted |= directed
    kinds = {entry.kind for entry in names if entry.kind is not None} - {kind for kind, _ in directed}
    roles = (Role.CROP, Role.ROTATE, Role.TEXT, *((Role.BORDER,) if whole else ()))
    kinds |= {Kind[role.name] for role in roles if clause.has(role)}
    return kinds | (COLOUR_KINDS if whole and clause.has(Role.COLOURS) else set())


def _protect(reading: _Reading, region: Region, *, excepts: bool) -> None:
    """Take a region out of the operations before it, or protect it from all."""
    chain = reading.chain or range(len(reading.operations)) if excepts else ()
    free = [index for index in chain if not reading.operations[index].region.terms]
    free = [index for index in free if SPECS[reading.operations[index].kind].regional]
    for index in free:
        reading.operations[index] = replace(reading.operations[index], region=Region(region.terms, inverted=True))
    if not free:
        reading.protected.append(Region(region.terms))


def _read_request(reading: _Reading, clause: Clause) -> None:
    text = clause.text(reading.prompt)
    named = find_region(clause)
    refused = next((leftover for leftover in named.leftovers if leftover.refused is not None), None)
    if refused is not None and refused.refused is not None and not refused.context:
        reading.refuse(text, refused.refused)
        return
    try:
        framed = framing.read(clause, text)
    except framing.UnreadableError as exc:
        reading.refuse(text, str(exc))
        return
    if framed is not None:
        if clause.conjoined or clause.joined:
            reading.chain = []
        reading.add(framed)
        reading.verb = None
        _report(reading, named, object_asked=False)
        return
    _read_adjustments(reading, clause, named, text)


def _read_adjustments(reading: _Reading, clause: Clause, named: ClauseRegion, text: str) -> None:
    sliders = read_sliders(clause, None if clause.has(Role.CHANGE, Role.COLOUR) else reading.verb)
    looks = clause.all(Role.LOOK)
    found = _colour_operations(clause, named, sliders, text)
    found = found or [finish(draft, named.region, text) for draft in sliders.drafts]
    if _refuses(reading, clause, named, found) or (not (found or looks) and _extend_chain(reading, named, sliders)):
        return
    operations = [operation for operation in found if operation is not None]
    if len(operations) < len(found):
        reading.unjudged.append(text)
    _share_amounts(reading, clause, sliders, operations)
    reading.add(*operations)
    reading.verb = sliders.verb or reading.verb
    known = {look.name for look in reading.looks}
    new = {look.entry.word: look for look in reversed(looks) if look.entry.word not in known}
    reading.looks += [NamedLook(name, _stress(clause), " ".join(look.words)) for name, look in reversed(new.items())]
    if operations or looks:
        _report(reading, named, object_asked=bool(operations) and not looks)
    elif clause.has(Role.LIKE) and not clause.has(Role.UNKNOWN, Role.OPERATION):
        reading.unjudged.append(text)
    elif named.region.of_hues:
        reading.refuse(text, REASONS["colour"])  # "only the red in colour"
    elif any(concept.role not in _EMPTY for concept in clause.concepts):
        _miss(reading, clause, text)


def _refuses(reading: _Reading, clause: Clause, named: ClauseRegion, found: Sequence[Operation | None]) -> bool:
    """Whether the clause asks for what is not offered: a colour for a thing, a look for a part, no direction."""
    text, looks = clause.text(reading.prompt), clause.has(Role.LOOK)
    thing = next((leftover for leftover in named.leftovers if leftover.thing and not leftover.context), None)
    if thing is not None and not named.terms and not looks and clause.has(Role.COLOUR):
        reading.refuse(thing.text(reading.prompt), PART)  # "make the cup blue"
    elif not looks and _new_colours(clause, named) and _is_recoloured(clause):
        reading.refuse(text, REASONS["colour"])
    elif looks and _adds_a_thing(clause):
        reading.refuse(text, REASONS["object"])  # "add a spaceship"
    elif looks and (named.terms or clause.has(Role.REPLACE)):
        reading.refuse(text, f"a look is for the whole picture; {_OF_A_PART}")
    elif not looks and None in found:
        reading.refuse(text, f"this does not say what should change, or how; {_OF_A_PART}")
    else:
        return False
    return True


def _is_recoloured(clause: Clause) -> bool:
    """Whether the clause's new colour is to take the place of others: "make the reds blue", not "make it more magenta"."""
    other_use = clause.has(Role.VERB, Role.OPERATION, Role.TONAL, Role.TOO)
    return clause.has(Role.REPLACE) or (clause.has(Role.CHANGE) and not other_use)


def _adds_a_thing(clause: Clause) -> bool:
    """Whether a look's word is what should be added ("add a spaceship", not "add a sci-fi look")."""
    concepts = clause.concepts
    if not any(concept.entry.word == "add" for concept in clause.all(Role.VERB)):
        return False
    last = concepts[-1]
    before = concepts[-2] if len(concepts) > 1 else last
    return last.role is Role.LOOK and last.entry.kind is None and before.words[-1] in ("a", "an", "some", "the")


def _miss(reading: _Reading, clause: Clause, text: str) -> None:
    """A clause of which nothing was understood."""
    if clause.has(Role.VERB, Role.REPLACE, Role.TEXT) and clause.has(Role.UNKNOWN) and not language_of(reading.original):
        reading.refuse(text, REASONS["object"])
    else:
        reading.misses.append(text)


def _report(reading: _Reading, named: ClauseRegion, *, object_asked: bool) -> None:
    """Refuse a thing that an operation is asked for, and note other words as unjudged."""
    strange = [leftover for leftover in named.leftovers if not leftover.context and not leftover.thing]
    if sum(len(leftover.concepts) for leftover in strange) > _FEW:
        reading.refuse(strange[0].text(reading.prompt), f"this was not understood; {POSSIBLE}")
    for leftover in named.leftovers:
        if leftover.purpose:
            continue
        if leftover.thing and object_asked and not leftover.context and not named.terms:
            reading.refuse(leftover.text(reading.prompt), PART)
        else:
            reading.unjudged.append(leftover.text(reading.prompt))


def _stress(clause: Clause) -> float:
    """The strength of a look: 1 without an amount."""
    for concept in clause.all(Role.LEVEL, Role.AMOUNT):
        value = share(concept, Kind.CROP)
        if concept.role is Role.LEVEL and value is not None:
            return _STRESS.get(value, 1.0)
        if value:
            return max(0.2, min(2.0, 2.0 * abs(value)))
    return 1.0


def _share_amounts(reading: _Reading, clause: Clause, sliders: Sliders, operations: Sequence[Operation]) -> None:
    """Give the earlier members of a list the last amount: "the contrast and the saturation by 20%"."""
    inherits = sliders.verb is None and reading.verb is not None and any(draft.sign == 0 for draft in sliders.drafts)
    if operations and operations[-1].explicit and clause.joined and (clause.conjoined or inherits):
        _give_amount(reading, abs(operations[-1].amount))


def _give_amount(reading: _Reading, amount: float) -> None:
    for index in reading.unmeasured():
        earlier = reading.operations[index]
        reading.operations[index] = replace(earlier, amount=amount if earlier.amount >= 0 else -amount, explicit=True)


def _extend_chain(reading: _Reading, named: ClauseRegion, sliders: Sliders) -> bool:
    """Complete the operation before by a clause of only an amount or a region: "add a vignette, 20%", "and the bottom"."""
    if not reading.chain or named.leftovers or not (named.terms or sliders.orphans):
        return False
    last = reading.operations[reading.chain[-1]]
    if named.terms:
        if not SPECS[last.kind].regional or not last.region.terms:
            return False
        region = Region((*last.region.terms, *named.terms), last.region.inverted)
        reading.operations[reading.chain[-1]] = replace(last, region=region)
    for orphan in sliders.orphans:
        amount = share(orphan, last.kind)
        if amount is not None:
            _give_amount(reading, abs(amount))
    return True


def _colour_operations(clause: Clause, named: ClauseRegion, sliders: Sliders, text: str) -> list[Operation | None]:
    """The operations of a clause with a colour: tints, split toning, "more blue", "boost the colours"."""
    colours = _new_colours(clause, named)
    kinds = {draft.kind for draft in sliders.drafts}
    if colours and not kinds - {Kind.OVERLAY, *TONES}:
        # "a pink light" only describes
        asks = bool(sliders.drafts) or sliders.verb is not None or sliders.too
        return [_coloured(clause, named, sliders, colours[-1], text)] if asks else []
    names_colours = named.region.of_hues or clause.has(Role.COLOURS)
    if kinds or sliders.verb is None or not names_colours or sliders.verb.entry.word in ("add", "shift"):
        return []
    amount, explicit = _colour_amount(sliders)
    saturation = Operation(Kind.SATURATION, amount, named.region, explicit=explicit, clause=text)
    if sliders.verb.entry.word != "deepen":
        return [saturation]
    return [replace(saturation, kind=Kind.EXPOSURE, amount=-amount), saturation]  # deep colours are dark as well


def _new_colours(clause: Clause, named: ClauseRegion) -> list[Concept]:
    """The colours that name no part; one in a comparison ("like a grey day") only describes."""
    concepts = clause.concepts
    described = next((index for index, concept in enumerate(concepts) if concept.role is Role.LIKE), len(concepts))
    free = [index for index in range(described) if index not in named.used_colours]
    return [concepts[index] for index in free if concepts[index].role is Role.COLOUR]


def _coloured(clause: Clause, named: ClauseRegion, sliders: Sliders, concept: Concept, text: str) -> Operation | None:
    amount, explicit = _colour_amount(sliders)
    colour = concept.colour
    tonal = next((draft.tonal or TONES.get(draft.kind) for draft in sliders.drafts if draft.tonal or draft.kind in TONES), None)
    if colour is None:
        return None
    if sliders.too and not sliders.drafts:
        return _cast(colour, named, text)
    if tonal is not None:
        region = Region((*named.region.terms, Term(tonal)))
        return Operation(Kind.SPLIT_TONE, amount, region, colour, explicit=explicit, clause=text)
    before = clause.concepts[clause.concepts.index(concept) - 1]
    toward = before.words[-1] in ("towards", "toward", "to", "more", "less")
    if toward and (sliders.drafts or before.role is Role.VERB) and colour.name in (*_MAGENTAS, *_GREENS):
        sign = 1 if colour.name in _MAGENTAS else -1
        return Operation(Kind.TINT, sign * amount, named.region, explicit=explicit, clause=text)
    return Operation(Kind.OVERLAY, amount, named.region, colour, explicit=explicit, clause=text)


def _cast(colour: Colour, named: ClauseRegion, text: str) -> Operation:
    """Less of a cast: "too blue" asks for warmer, "too green" for more magenta."""
    for kind, towards, away in ((Kind.WARMTH, _BLUES, _YELLOWS), (Kind.TINT, _GREENS, _MAGENTAS)):
        if colour.name in (*towards, *away):
            return Operation(kind, 0.3 if colour.name in towards else -0.3, named.region, clause=text)
    return Operation(Kind.OVERLAY, -0.3, named.region, colour, clause=text)


def _colour_amount(sliders: Sliders) -> tuple[float, bool]:
    draft = sliders.drafts[0] if sliders.drafts else None
    verb = draft.verb if draft is not None and draft.verb is not None else sliders.verb
    sign = -1 if (verb is not None and verb.entry.sign < 0) or sliders.too else 1
    given = [draft.amount if draft is not None else None, *(share(orphan, Kind.OVERLAY) for orphan in sliders.orphans)]
    amount = next((amount for amount in given if amount is not None), None)
    return sign * abs(SPECS[Kind.OVERLAY].default if amount is None else amount), amount is not None


def _merge(operations: Sequence[Operation]) -> list[Operation]:
    """One operation for each kind, region and colour: explicit amounts of one direction add up and outweigh defaults."""
    groups: dict[tuple[object, ...], list[Operation]] = {}
    for operation in operations:
        groups.setdefault((*operation.key, operation.text, operation.positions, operation.amount < 0), []).append(operation)
    return [_sum(group) for group in groups.values()]


def _sum(group: Sequence[Operation]) -> Operation:
    explicit = [operation for operation in group if operation.explicit]
    first = (explicit or group)[0]
    if len(group) == 1 or SPECS[first.kind].strength is not Strength.SLIDER:
        return group[-1]
    if explicit:
        total = max(-1.0, min(1.0, sum(operation.amount for operation in explicit)))
    else:
        total = max((operation.amount for operation in group), key=abs)
    return replace(first, amount=total)
