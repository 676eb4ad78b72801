"""Clauses with sliders: verbs, amounts and any number of operations, as in "20% more contrast" or "too dark"."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.embedded.instructions.clauses import Clause, Concept
from services.embedded.instructions.operations import SPECS, TONES, Area, Kind, Operation, Region, Term
from services.embedded.instructions.vocabulary import SILENT, Role

_NAMES = (Role.OPERATION, Role.TONAL)
_FULL_TURN = 180.0  # degrees of hue that count as 100 %
_STOPS = 2.0  # photographic stops that count as 100 % of exposure
_PERCENT_FROM = 10  # "12.5" is percent, "1.5" a factor
_DOWN_WHEN_DEEPENED = frozenset({*TONES, Kind.EXPOSURE})
_TOO_MUCH = "an amount is at most 100 %, or two stops of exposure"
_ONE_AMOUNT = "a change has one amount"
_CLEANED = "only noise and haze are cleaned away (“clean up the noise”); say what should change (“softer”, “less contrast”)"
_UNSHADED = "shade is not taken away without a model; the shadows can be made lighter (“lift the shadows by 20%”)"
_UNITS = "an amount is in percent (“by 20%”), of exposure also in stops, of a hue or a rotation in degrees"


class UnreadableError(ValueError):
    """The clause asks for a known operation in a form that is not offered; the message says what is."""


@dataclass(slots=True)
class Draft:
    """An operation of a clause, before its region is known."""

    kind: Kind
    sign: int
    verb: Concept | None = None
    amount: float | None = None
    level: float = 0.0
    tonal: Area | None = None
    numbered: bool = False

    @property
    def direction(self) -> int:
        """-1 down, 1 up, 0 where neither its word nor a verb says."""
        if self.verb is None:
            return self.sign or (0 if self.amount is None else 1)
        word = self.verb.entry.word
        if word == "deepen":
            turn = -1 if self.kind in _DOWN_WHEN_DEEPENED else 1
        elif word == "recover":
            turn = -1 if self.kind in (Kind.HIGHLIGHTS, Kind.WHITES) else 1
        else:
            turn = self.verb.entry.sign
        return turn * (self.sign or 1)

    @property
    def signed(self) -> float:
        """The share with every direction multiplied in; "decrease by -20%" means 20 % down."""
        size = self.amount if self.amount is not None else self.level or SPECS[self.kind].default
        known_direction = self.verb is not None or self.sign < 0
        return self.direction * (abs(size) if known_direction and self.direction < 0 else size)


@dataclass(slots=True)
class Sliders:
    """The operations of a clause, its verb, and the amounts that belong to none."""

    drafts: list[Draft] = field(default_factory=list)
    verb: Concept | None = None
    too: bool = False
    orphans: list[Concept] = field(default_factory=list)


def read_sliders(clause: Clause, inherited: Concept | None) -> Sliders:
    """The sliders of a clause; ``inherited`` is the verb of the clause that it is linked to."""
    found = Sliders()
    pending: Concept | None = None
    for index, concept in enumerate(clause.concepts):
        if concept.role is Role.VERB:
            _take_verb(found, concept, clause, index)
        elif concept.role is Role.TOO:
            found.too = True
        elif concept.role in (Role.AMOUNT, Role.LEVEL):
            pending = _take_amount(found, concept, clause, index, pending)
        elif concept.role in _NAMES and concept.entry.kind is not None:
            pending = _take_name(found, concept, inherited, pending)
    if pending is not None:
        waiting = [draft for draft in found.drafts if draft.amount is None]
        for draft in waiting:
            _measure(draft, pending)
        if not waiting:
            found.orphans.append(pending)
    return found


def _take_verb(found: Sliders, concept: Concept, clause: Clause, index: int) -> None:
    """A verb after its slider ("contrast up") applies to it; one before applies to those that follow."""
    followed = any(later.role in _NAMES for later in clause.concepts[index + 1 : index + 6])
    last = found.drafts[-1] if found.drafts else None
    if not followed and last is not None and last.verb is None and (last.sign == 0 or concept.entry.sign < 0):
        found.drafts[-1].verb = concept
    elif found.verb is None or followed:
        found.verb = concept


def _take_name(found: Sliders, concept: Concept, inherited: Concept | None, pending: Concept | None) -> Concept | None:
    kind, entry = concept.entry.kind, concept.entry
    assert kind is not None
    verb = found.verb if found.verb is not None else (inherited if entry.sign == 0 else None)
    if verb is not None and verb.entry.word == "add" and entry.sign != 0:
        verb = None
    if verb is not None and verb.entry.value > 1:
        raise UnreadableError(_TOO_MUCH)
    draft = Draft(kind, entry.sign, verb, verb.entry.value or None if verb is not None else None, level=entry.value)
    if concept.role is Role.TONAL:
        if found.drafts and _confine(found.drafts[-1], kind):
            return pending
    elif len(found.drafts) == 1 and found.drafts[0].kind in TONES and _was_a_region(found.drafts[0]):
        tonal = found.drafts[0].kind
        if _confine(draft, tonal):
            found.drafts.clear()
    found.drafts.append(draft)
    if pending is None:
        return None
    _measure(draft, pending)
    return None


def _was_a_region(draft: Draft) -> bool:
    """Whether what looked like a slider only named tones, as in "make the whites warmer"."""
    return draft.verb is None and draft.amount is None and draft.sign == 0


def _confine(draft: Draft, tonal: Kind) -> bool:
    """Confine a slider to tones, as in "warm the shadows"; "brighten the shadows" is the shadows slider itself."""
    if draft.tonal is not None or draft.kind in TONES:
        return False
    if draft.kind is Kind.EXPOSURE:
        draft.kind = tonal
        return True
    if SPECS[draft.kind].regional:
        draft.tonal = TONES[tonal]
        return True
    return False


def _take_amount(found: Sliders, concept: Concept, clause: Clause, index: int, pending: Concept | None) -> Concept | None:
    """Assign an amount to the slider before it, if that has none yet, or keep it for the next one."""
    later = [other for other in clause.concepts[index + 1 : index + 4] if other.role not in (*SILENT, Role.VERB)]
    following = later[0] if later else None
    before = found.drafts[-1] if found.drafts else None
    linked = index > 0 and clause.concepts[index - 1].role in (Role.TO, Role.INSIDE)
    if before is not None and (before.amount is None or linked) and (linked or following is None or following.role not in _NAMES):
        _measure(before, concept)
        return pending
    if before is not None and concept.role is Role.AMOUNT and following is None:
        _measure(before, concept)
        return pending
    # "slightly, by 10%": the number takes precedence over the word.
    return pending if pending is not None and pending.role is Role.AMOUNT else concept


def _measure(draft: Draft, concept: Concept) -> None:
    if draft.numbered and concept.role is Role.AMOUNT:
        raise UnreadableError(_ONE_AMOUNT)
    draft.amount, draft.numbered = share(concept, draft.kind), concept.role is Role.AMOUNT


def share(concept: Concept, kind: Kind) -> float:
    """The signed share that an amount or level stands for, as ``kind`` reads it.

    Percent are divided by 100, stops by the range of exposure, degrees by half a turn of hue. A number without a unit
    is percent ("by 20"), with a decimal point below 10 a share ("by 0.2").

    Raises:
        UnreadableError: its unit does not fit, or it is more than all.
    """
    token = concept.token
    if token is None:
        return concept.entry.value
    value, unit = token.value, token.unit
    if unit == "degrees" or (kind is Kind.HUE and unit == "" and abs(value) > 1):
        unit, value = "hue", value / _FULL_TURN
    elif unit == "stops":
        value /= _STOPS
    elif unit == "%" or abs(value) >= _PERCENT_FROM or "." not in token.text:
        value /= 100
    if unit not in ("", "%", {Kind.EXPOSURE: "stops", Kind.HUE: "hue"}.get(kind)):
        raise UnreadableError(_UNITS)
    if abs(value) > (2 if unit == "hue" else 1):
        raise UnreadableError(_TOO_MUCH)
    return value


def finish(draft: Draft, region: Region, clause: str) -> Operation | None:
    """The operation of a draft; None for a noun without a direction, or less of what can only be added ("less glow").

    Raises:
        UnreadableError: its verb is not for it ("remove the shadows", "clean up the contrast").
    """
    kind, amount = draft.kind, draft.signed
    verb = "" if draft.verb is None else draft.verb.entry.word
    if verb == "clean" and kind not in (Kind.GRAIN, Kind.DENOISE, Kind.HAZE):
        raise UnreadableError(_CLEANED)
    if verb == "remove" and kind in (Kind.SHADOWS, Kind.BLACKS):
        raise UnreadableError(_UNSHADED)
    if draft.direction == 0:
        return None
    if draft.tonal is not None and kind not in TONES:
        region = Region((*region.terms, Term(draft.tonal)), region.inverted)
    if kind is Kind.EXPOSURE and region == Region((Term(Area.EDGES),)):
        kind, amount, region = Kind.VIGNETTE, -amount, Region()
    opposite = SPECS[kind].opposite
    if amount < 0 and opposite is not None:
        kind, amount = opposite, -amount
    if (amount < 0 and not SPECS[kind].signed) or (region.terms and not SPECS[kind].regional):
        return None
    explicit = draft.amount is not None
    return Operation(kind, amount, region, explicit=explicit, clause=clause)
