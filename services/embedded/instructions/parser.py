"""Parse an instruction. Pure and total: any text gives a reading, in linear time.

What is not understood is never guessed: it is refused where it asks for something, and reported as unjudged where it only
describes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from services.embedded.instructions import framing
from services.embedded.instructions.clauses import Clause, Concept, Mood, read_clauses
from services.embedded.instructions.colour_names import Colour
from services.embedded.instructions.complaints import NoRequestError, settle
from services.embedded.instructions.contradictions import contradictions
from services.embedded.instructions.languages import language_of, to_english
from services.embedded.instructions.operations import (
    COLOUR_KINDS,
    HUE_KINDS,
    ORDER,
    SPECS,
    TONES,
    Area,
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
from services.embedded.instructions.sliders import Sliders, UnreadableError, finish, read_sliders, share
from services.embedded.instructions.vocabulary import LINKS, NOTHING_TO_PROTECT, REASONS, SILENT, Role

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
_CODE = re.compile(r"\w\(\s*(?:['\"“)]|\w+\s*=)|[^\W\d]\.[^\W\d]\w*\(|^\s*\w+\([^()]*\)\W*$")
"""A call: of a text, of nothing, with a named argument, of a method, or alone."""
_WRITTEN = re.compile(r"(['\"“])[^'\"”\n]{0,200}(['\"”])")
_IS_CODE = "this looks like code; say in words what should change (“make it darker”)"
_UNKNOWN = f"this was not understood; {POSSIBLE}"
_NOTHING = "nothing to change was asked for"
_TAKEN_BACK = "something is asked for and taken back; ask for what should change"
_REMARK = "this may be a remark; say what should change (“cooler”, “make it sharp”)"
_ASKED = re.compile(r"(?<![^.,;!?\s])\b(is|are|was|does|do)n['\u2019]t (?=(?:it|this|that|the|they|these)\b)", re.IGNORECASE)
_EXCLAIMED = re.compile(r"!|\bthank|\bthx\b|\bcheers\b", re.IGNORECASE)
_ABOUT_THE_CALLER = "this says what is liked; say what should change (“warmer”, “more contrast”)"
_COMPARED = "nothing is compared with something else; say how much should change (“brighter by 20%”)"
_CORNER = "one corner is not changed on its own; a side can be, or all corners (“darken the corners”)"
_READ = LINKS | {
    *(Role.OPERATION, Role.TONAL, Role.LOOK, Role.LEVEL, Role.AMOUNT, Role.AREA, Role.PART, Role.HUES, Role.COLOUR),
    *(Role.COLOURS, Role.COLOUR_NOUN, Role.NEGATION, Role.TOO, Role.ENOUGH, Role.UNCHANGED, Role.CHATTER),
}
"""Roles that a clause with sliders or a look can carry out."""
_SAYS_NOTHING = LINKS | {Role.CHATTER, Role.LEVEL, Role.TOO, Role.ENOUGH, Role.UNCHANGED}
_PRONOUNS = frozenset({"it", "them", "that", "this", "those"})
_REMAINDER = frozenset({"rest", "else", "other"})
_UNSEEN = frozenset({"see", "read", "out"})
"""In a reason ("can't see my cat"): nothing behind them is asked for."""
_FEW = 2
_STRESS = {0.06: 0.3, 0.12: 0.45, 0.15: 0.55, 0.3: 0.9, 0.55: 1.5, 0.8: 1.9, 1.0: 2.2}
"""How strong a look is that is asked for with an amount in words."""
_NOUNS = frozenset({Kind.GRAIN, Kind.VIGNETTE, Kind.HAZE, Kind.GLOW, Kind.SEPIA, Kind.MONOCHROME})
_DIRECTED = frozenset(kind for kind, spec in SPECS.items() if spec.signed) - _NOUNS
_ADJECTIVES = ("y", "ic", "al", "ed", "ous")
_THINGS = ("candy", "documentary", "fantasy", "hospital", "laboratory")
"""Looks of these endings that are nouns: "add a hospital" asks for a thing."""
_KEEPING = frozenset({"keep", "leave"})  # last words of "but keep" and "but leave", which except as well
_COLOURLESS = frozenset({Kind.MONOCHROME, Kind.SEPIA})
_LESS = 0.6  # of the amount without a limit
_SHOWN = 80


@dataclass(slots=True)
class _Reading:
    """What has been read so far, and the context that the next clause may inherit."""

    prompt: str  # in English
    original: str
    operations: list[Operation] = field(default_factory=list)
    looks: list[NamedLook] = field(default_factory=list)
    protected: list[Region] = field(default_factory=list)
    forbidden: set[Kind] = field(default_factory=set)
    unwanted: set[tuple[Kind, int]] = field(default_factory=set)  # "don't make it darker": one direction
    kept: list[tuple[Kind, int, str]] = field(default_factory=list)  # "keep it bright": kind, sign and words
    unjudged: list[str] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    described: list[Sequence[Concept]] = field(default_factory=list)  # clauses that may describe a look: "gritty"
    declines: bool = False  # something was to be kept, or not to be done
    verb: Concept | None = None
    mood: str = "do"
    complains: bool = False  # the clause before is a complaint
    faults: list[Operation] = field(default_factory=list)  # its remedies, which "fix it" and "lighten it" point back at
    chain: list[int] = field(default_factory=list)  # operations that share the current verb

    def add(self, *operations: Operation) -> None:
        self.chain.extend(range(len(self.operations), len(self.operations) + len(operations)))
        self.operations.extend(operations)

    def unmeasured(self) -> list[int]:
        """The operations that share the current verb and have no amount of their own."""
        sliders = [index for index in self.chain if SPECS[self.operations[index].kind].strength is Strength.SLIDER]
        return [index for index in sliders if not self.operations[index].explicit]

    def quote(self, concepts: Sequence[Concept]) -> str:
        """The caller's own words: those of the concepts, or all of a text that had to be translated."""
        if self.prompt != self.original:
            return self.original.strip()[:_SHOWN]
        return self.original[concepts[0].start : concepts[-1].end].strip() if concepts else ""

    def refuse(self, phrase: str, reason: str) -> None:
        self.refusals.append(Refusal(phrase, reason))

    def not_understood(self, concepts: Sequence[Concept], reason: str = _UNKNOWN) -> None:
        language = language_of(self.original)
        if language:
            self.refuse(self.original[:_SHOWN], f"this seems to be {language} and was not understood; write it in English")
        else:
            self.refuse(self.quote(concepts), reason)


def _stated(question: re.Match[str]) -> str:
    """As "isn't it" becomes "is    it", so that every word stays in its place."""
    return question[1] + " " * (len(question[0]) - len(question[1]))


def _no_order(text: str, clauses: Sequence[Clause]) -> str | None:
    """Why a text asks for nothing, if so: it is code, or says nothing but one quality ("cool, thanks", "sharp!")."""
    if _CODE.search(_WRITTEN.sub(r"\1\2", text)):
        return _IS_CODE
    said = [concept for clause in clauses for concept in clause.concepts if concept.role not in (Role.FILLER, Role.CHATTER)]
    if len(said) != 1 or not _EXCLAIMED.search(text):
        return None
    quality = said[0].entry
    bare = len(said[0].words) == 1 and quality.form in ("mild", "adjective")
    return _REMARK if bare and quality.kind in {*_DIRECTED, Kind.SHARPEN} else None


@lru_cache(maxsize=512)
def parse(prompt: str) -> Instruction:
    """The reading of ``prompt``."""
    original = prompt[:MAX_LENGTH].replace("0's", "0s")
    english = to_english(original)
    text = _ASKED.sub(_stated, english)
    reading = _Reading(english, original)
    clauses = read_clauses(text)
    for clause in clauses:
        _read_clause(reading, clause)
    if (reason := _no_order(original, clauses)) is not None:
        reading.refusals = [Refusal(original.strip()[:_SHOWN], reason)]
    if Kind.BLUR in reading.forbidden:  # whose noise is reduced, loses detail
        for at, one in enumerate(reading.operations):
            if one.kind is Kind.DENOISE and not one.explicit:
                reading.operations[at] = replace(one, amount=_LESS * one.amount)
    _tell_what_is_unmeasured(reading)
    if len(prompt) > MAX_LENGTH:
        reading.unjudged.append("the rest of a very long instruction")
    operations = _merge(reading.operations)
    confined = [one for one in operations if one.region.of_hues and one.kind not in HUE_KINDS]
    reading.refusals += [Refusal(one.clause, REASONS["colour"]) for one in confined]
    reading.refusals += contradictions(operations, reading.looks, reading.forbidden, reading.unwanted)
    if not (operations or reading.looks or reading.refusals):
        nothing = _NOTHING if reading.declines else f"nothing that can be done was found in it; {POSSIBLE}"
        reading.refuse(prompt.strip()[:_SHOWN], nothing)
    return Instruction(
        prompt,
        tuple(sorted(operations, key=lambda operation: ORDER[operation.kind])),
        tuple(reading.looks),
        tuple(dict.fromkeys(reading.protected)),
        frozenset(reading.forbidden),
        tuple(dict.fromkeys(reading.unjudged)),
        tuple(dict.fromkeys(reading.refusals)),
    )


def _tell_what_is_unmeasured(reading: _Reading) -> None:
    """What describes or is to stay, and that no measure is of; judged when all clauses are known."""
    colourless = any(one.kind in _COLOURLESS for one in reading.operations)
    for kind, sign, words in reading.kept:
        if (reading.looks and sign) or (colourless and kind in COLOUR_KINDS):
            reading.unjudged.append(words)
    for concepts in reading.described:
        if reading.looks:
            reading.unjudged.append(reading.quote(concepts))
        else:
            reading.not_understood(concepts)


def _read_clause(reading: _Reading, clause: Clause) -> None:
    if not clause.joined:
        reading.verb, reading.mood, reading.chain = None, "do", []
    own_verb = clause.has(Role.VERB, Role.CHANGE, Role.REPLACE, Role.CROP, Role.ROTATE, Role.TEXT)
    mood = clause.mood
    if mood == "why":
        reason = clause.first(Role.PURPOSE)
        unseen = reason is not None and _UNSEEN & {*reason.words}
        measure = reading.complains and not clause.has(*_READ - LINKS)  # "too bright for my eyes"
        if unseen or measure or not clause.has(*_READ - LINKS, Role.REFUSED):
            return
        mood = "do"  # "because it is so flat", "for the left"
    if mood == "do" and not own_verb and not clause.opposed and _continues(clause, reading.mood):
        mood = reading.mood  # type: ignore[assignment]
    elif mood == "do" and not own_verb and clause.has(Role.ENOUGH):
        reading.mood = "not"  # "bright enough", "enough with the grain"
        reading.declines = True
        return
    reading.mood = mood
    if mood == "not" and (clause.has(Role.ENOUGH) or (clause.has(Role.LIMIT) and clause.has(Role.AMOUNT))):
        mood = "do"  # "not bright enough", "no more than 10% brighter"
    elif clause.has(Role.LIMIT) or (mood == "not" and clause.has(Role.TOO)):
        _moderate(reading)
        _refuse_kept(reading, find_region(clause))
        return
    if mood == "do":
        if own_verb:
            reading.chain = []
        _read_request(reading, clause)
    else:
        _read_protection(reading, clause, mood)


def _moderate(reading: _Reading) -> None:
    """Do less of what was asked for without an amount: "but not too much"."""
    reading.declines = True
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


def _read_protection(reading: _Reading, clause: Clause, mood: Mood) -> None:
    """What must not happen or change: operations are ruled out, regions protected, the rest refused."""
    reading.declines = True
    excepts = mood == "except"
    refuses = (Role.NEGATION, Role.KEEP, Role.EXCEPT)
    alone = clause.has(*refuses) and all(concept.role in (*SILENT, *refuses) for concept in clause.concepts)
    if alone and (reading.operations or reading.looks):  # "sepia? never!"
        reading.refuse(reading.original.strip()[:_SHOWN], _TAKEN_BACK)
    named = find_region(clause)
    said = {word for concept in clause.concepts for word in concept.words}
    everything = said & {"everything", "all", "it", "them"} and not said & _REMAINDER
    narrowed = named.terms or named.leftovers or clause.has(*_READ - LINKS - {Role.UNCHANGED})
    if everything and clause.has(Role.UNCHANGED) and not narrowed and (reading.operations or reading.looks):
        reading.refuse(reading.quote(clause.concepts), _TAKEN_BACK)
        return
    if named.region.of_hues:
        reading.refuse(reading.quote(clause.concepts), REASONS["colour"])
        return
    if excepts and _is_limited(reading, clause):
        _moderate(reading)
        return
    if excepts or mood == "keep" or (clause.has(Role.CHANGE) and not clause.has(Role.OPERATION, Role.VERB)):
        # "keep the shadows", "without touching the whites"
        tones = [concept.entry.kind for concept in clause.all(Role.TONAL)]
        named.terms += [Term(TONES[kind]) for kind in tones if kind in TONES]
    kinds = _ruled_out(reading, clause, whole=not named.terms, keeps=_keeps(clause, mood)) - (
        TONES.keys() if named.terms else set()
    )
    if named.terms and not kinds - COLOUR_KINDS:
        _protect(reading, named.region, excepts=excepts)
    reading.forbidden |= kinds if not named.terms else set()
    _refuse_kept(reading, named)


def _keeps(clause: Clause, mood: Mood) -> bool:
    """Whether what a clause names is to stay ("keep it bright"), not to be avoided ("keep it from getting darker")."""
    avoided = any(concept.words == ("from",) for concept in clause.concepts)
    return not avoided and (mood == "keep" or any(concept.words[-1] in _KEEPING for concept in clause.all(Role.EXCEPT)))


def _is_limited(reading: _Reading, clause: Clause) -> bool:
    """Whether a quality says how far to go: "less warm but not cold"."""
    asked = {(one.kind, one.amount > 0) for one in reading.operations}
    qualities = [concept.entry for concept in clause.all(Role.OPERATION) if concept.entry.form in ("mild", "adjective")]
    return any((entry.kind, entry.sign > 0) in asked for entry in qualities)


def _refuse_kept(reading: _Reading, named: ClauseRegion) -> None:
    """Refuse what cannot be kept as it is."""
    for leftover in named.leftovers:
        if {word for concept in leftover.concepts for word in concept.words} <= NOTHING_TO_PROTECT:
            continue
        reading.not_understood(leftover.concepts, leftover.refused or (PART if leftover.thing else _UNKNOWN))


def _ruled_out(reading: _Reading, clause: Clause, *, whole: bool, keeps: bool) -> set[Kind]:
    """The operations that a clause rules out, apart from those of which it rules out one direction."""
    names = [concept.entry for concept in clause.all(Role.OPERATION, Role.TONAL)]
    directed = {(entry.kind, entry.sign) for entry in names if entry.kind is not None and entry.kind in _DIRECTED and entry.sign}
    if keeps and whole:  # what should stay bright must not become darker
        reading.unwanted |= {(kind, -sign) for kind, sign in directed}
        reading.kept += [(each.kind, each.sign, reading.quote(clause.concepts)) for each in names if each.kind is not None]
    elif not keeps:
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
    if excepts and reading.operations and not free:  # "a border, but not at the top"
        reading.refuse(
            str(region), f"what was asked for is done to the whole picture; {_OF_A_PART}"
        )  # "a border, but not at the top"
    elif not free:
        reading.protected.append(Region(region.terms))


def _read_request(reading: _Reading, clause: Clause) -> None:
    text = reading.quote(clause.concepts)
    try:
        earlier, faults, reading.faults = len(reading.operations), reading.faults, []
        if faults and clause.has(Role.REMEDY) and all(one.role in (*SILENT, Role.REMEDY) for one in clause.concepts):
            return
        if faults:
            known = [replace(one, role=Role.FILLER) if one.words == ("them",) else one for one in clause.concepts]
            clause = replace(clause, concepts=known)
        clause, reading.complains = settle(clause, complains=reading.complains)
        strange = clause.first(Role.REFUSED)
        if strange is not None:
            reading.refuse(text, REASONS[strange.entry.word])
        elif (framed := framing.read(clause, text)) is None:
            _read_adjustments(reading, clause, text, faults)
            excess = clause.has(Role.TOO) or any(one.words[0] == "too" for one in clause.all(Role.VERB))  # "too blue", "too much"
            reading.faults = reading.operations[earlier:] if reading.complains or excess else []
        else:
            reading.chain = [] if clause.joined else reading.chain
            reading.add(framed)
            reading.verb = None
    except (NoRequestError, UnreadableError) as exc:
        reading.refuse(text, str(exc))


def _point_back(clause: Clause, named: ClauseRegion, sliders: Sliders, fault: Operation) -> None:
    """Confine a clause to the part that the complaint before was about: "the bottom is too dark, lighten it"."""
    kinds = {Kind.EXPOSURE} if fault.kind in (*TONES, Kind.VIGNETTE) else {fault.kind}
    pronoun = any(_PRONOUNS & {*concept.words} for concept in clause.concepts)
    same = {draft.kind for draft in sliders.drafts} == kinds
    if not (pronoun or same) or clause.has(Role.PICTURE, Role.EVERYTHING, Role.AREA, Role.HUES, Role.TONAL):
        return
    named.terms = [Term(Area.EDGES)] if fault.kind is Kind.VIGNETTE else list(fault.region.terms)
    for draft in sliders.drafts if fault.kind in TONES else ():
        draft.kind, draft.tonal = (fault.kind, None) if draft.kind is Kind.EXPOSURE else (draft.kind, TONES[fault.kind])


def _read_adjustments(reading: _Reading, clause: Clause, text: str, faults: Sequence[Operation]) -> None:
    smooth = any(concept.entry.word == "clean" for concept in clause.concepts)  # a quality too: "sharp but smooth"
    silent = not smooth and all(concept.role in _SAYS_NOTHING for concept in clause.concepts)
    if silent and not (reading.chain and clause.has(Role.LEVEL)):
        return  # "please", "I love this picture"
    if _may_describe(clause):
        reading.described.append(clause.concepts)
        return
    named = find_region(clause)
    sliders = read_sliders(clause, None if clause.has(Role.CHANGE, Role.COLOUR) else reading.verb)
    if len(faults) == 1 and not reading.complains:
        _point_back(clause, named, sliders, faults[0])
    looks, colours = clause.all(Role.LOOK), _new_colours(clause, named)
    found = _colour_operations(clause, named, sliders, text)
    unused = [] if found else [(colour,) for colour in colours]
    found = found or [finish(draft, named.region, text) for draft in sliders.drafts]
    idle = not (found or looks)
    if (idle and _extend_chain(reading, clause, named, sliders)) or _is_strange(reading, clause, named, idle=idle):
        return
    reason = _refusal(reading, clause, named, idle=idle or None in found)
    if reason is None and unused and not looks:
        reason = REASONS["colour"]  # "a brighter blue"
    if reason is not None:
        reading.refuse(text, reason)
        return
    operations = [operation for operation in found if operation is not None]
    _share_amounts(reading, clause, sliders, operations)
    reading.add(*operations)
    reading.verb = sliders.verb or reading.verb
    known = {look.name for look in reading.looks}
    new = {look.entry.word: look for look in reversed(looks) if look.entry.word not in known}
    reading.looks += [NamedLook(name, _stress(clause), " ".join(look.words)) for name, look in reversed(new.items())]
    reading.unjudged += [reading.quote(words) for words in (*(leftover.concepts for leftover in named.leftovers), *unused)]


def _may_describe(clause: Clause) -> bool:
    """Whether a clause is one or two words that may describe a look which another clause names: "gritty, silvery war film"."""
    words = clause.all(Role.UNKNOWN, Role.COLOUR)
    bare = not clause.has(Role.CHANGE, Role.VERB, Role.DETERMINER, Role.STATE, Role.REQUEST) or clause.has(Role.LIKE)
    known = {*LINKS, Role.UNKNOWN, Role.COLOUR, Role.LEVEL}
    return bare and 0 < len(words) <= _FEW and all(concept.role in known for concept in clause.concepts)


def _is_strange(reading: _Reading, clause: Clause, named: ClauseRegion, *, idle: bool) -> bool:
    """Refuse a clause that holds a word which nothing carries out; a look's comparison ("like my dad's album") is unjudged."""
    looks = clause.has(Role.LOOK)
    described = looks and clause.has(Role.LIKE, Role.CONTEXT)
    strange = next((leftover for leftover in named.leftovers if not (leftover.context and described)), None)
    if strange is not None and idle and clause.has(Role.VERB, Role.REPLACE):
        reading.not_understood(clause.concepts, REASONS["object"])  # "add a zebra"
    elif strange is not None:
        reading.not_understood(strange.concepts, PART if strange.thing else _UNKNOWN)
    elif clause.has(*set(Role) - _READ - {Role.UNKNOWN, Role.REPLACE} - ({Role.SCENERY} if looks else set())):
        reading.not_understood(clause.concepts)
    else:
        return False
    return True


def _refusal(reading: _Reading, clause: Clause, named: ClauseRegion, *, idle: bool) -> str | None:
    """Why a clause whose words are all known is not carried out, if it is not."""
    looks, areas = clause.has(Role.LOOK), clause.all(Role.AREA)
    if clause.has(Role.CHATTER):
        return _ABOUT_THE_CALLER
    if not looks and _new_colours(clause, named) and _is_recoloured(clause):
        return REASONS["colour"]
    if looks and _adds_a_thing(clause):
        return REASONS["object"]  # "add a spaceship"
    if looks and (named.terms or clause.has(Role.REPLACE)):
        return f"a look is for the whole picture; {_OF_A_PART}"
    if len(areas) > 1 or any(concept.words == ("corner",) for concept in areas):
        return _CORNER
    if any(_REMAINDER & {*concept.words} for concept in clause.all(Role.EVERYTHING)) and not reading.protected:
        return PART
    removed = any(concept.entry.word == "remove" for concept in clause.all(Role.VERB))
    if named.region.of_hues and (removed or (idle and not clause.has(Role.OPERATION, Role.TONAL))):
        return REASONS["colour"]  # "remove the reds", "only the red in colour"
    pairs = zip(clause.concepts, clause.concepts[1:], strict=False)
    ranged = any(first.words == ("from",) and second.role is Role.AMOUNT for first, second in pairs)
    if ranged or sum(concept.words == ("as",) for concept in clause.concepts) > 1:
        return _COMPARED
    return f"this does not say what should change, or how; {_OF_A_PART}" if idle else None


def _is_recoloured(clause: Clause) -> bool:
    """Whether the clause's new colour is to take the place of others: "make the reds blue", not "make it more magenta"."""
    other_use = clause.has(Role.VERB, Role.OPERATION, Role.TONAL, Role.TOO)
    return clause.has(Role.REPLACE) or (clause.has(Role.CHANGE) and not other_use)


def _adds_a_thing(clause: Clause) -> bool:
    """Whether a look's word is what should be added ("add a spaceship", not "add a sci-fi look")."""
    like = next((at for at, concept in enumerate(clause.concepts) if concept.role is Role.LIKE), None)
    concepts = clause.concepts[:like] if like else clause.concepts
    if not any(concept.entry.word == "add" for concept in clause.all(Role.VERB)):
        return False
    last = concepts[-1]
    quality = len(last.words) == 1 and last.words[0].endswith(_ADJECTIVES) and last.words[0] not in _THINGS
    if quality or last.words[-1] in ("look", "finish"):
        return False  # "give it a wintry, icy feel", "a matte finish"
    before = concepts[-2] if len(concepts) > 1 else last
    return last.role is Role.LOOK and last.entry.kind is None and before.words[-1] in ("a", "an", "some", "the")


def _stress(clause: Clause) -> float:
    """The strength of a look: 1 without an amount."""
    for concept in clause.all(Role.LEVEL, Role.AMOUNT):
        value = share(concept, Kind.CROP)
        if concept.role is Role.LEVEL:
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


def _extend_chain(reading: _Reading, clause: Clause, named: ClauseRegion, sliders: Sliders) -> bool:
    """Complete the operation before by a clause of only an amount or a region: "add a vignette, 20%", "and the bottom"."""
    known = {*LINKS, Role.AMOUNT, Role.LEVEL, Role.AREA, Role.PART, Role.HUES, Role.COLOUR, Role.LIMIT}
    stated = all(concept.role in known for concept in clause.concepts)
    if not reading.chain or not stated or named.leftovers or not (named.terms or sliders.orphans):
        return False
    last = reading.operations[reading.chain[-1]]
    if named.terms:
        if not SPECS[last.kind].regional or not last.region.terms:
            return False
        region = Region((*last.region.terms, *named.terms), last.region.inverted)
        reading.operations[reading.chain[-1]] = replace(last, region=region)
    for orphan in sliders.orphans:
        _give_amount(reading, abs(share(orphan, last.kind)))
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
    amount = -1.0 if sliders.verb.entry.word == "remove" and not explicit else amount
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
    given = [share(orphan, Kind.OVERLAY) for orphan in sliders.orphans]
    amount = draft.amount if draft is not None and draft.amount is not None else next(iter(given), None)
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
