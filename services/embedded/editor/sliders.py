"""Clauses with sliders: verbs, amounts and any number of sliders, as in "20% more contrast" or "deepen the blacks"."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.embedded.editor.clauses import Clause, Concept
from services.embedded.editor.plan import SPECS, Area, Kind, Operation, Region, Term
from services.embedded.editor.vocabulary import Role

# Nouns share the verb before them ("reduce the contrast and the saturation"); "sharpen" in such a list does not.
NOUNS = frozenset(
    """
    exposure brightness luminosity luminance lightness contrast contrasts warmth temperature saturation
    intensity colourfulness richness vibrance vibrancy hue sharpness crispness clarity structure texture
    definition haze fog mist grain noise glow bloom vignette vignetting darkness coolness highlights
    shadows midtones mids gamma whites blacks tint cast
    """.split()  # noqa: SIM905 - a list of words reads better than a list of strings
)
_OPPOSITE = {Kind.GRAIN: Kind.DENOISE, Kind.BLUR: Kind.SHARPEN, Kind.SHARPEN: Kind.BLUR}
# A bare noun gives these no direction: "contrast" says neither more nor less. "Film grain" alone does ask for grain.
_NEEDS_A_VERB = frozenset(kind for kind, spec in SPECS.items() if spec.signed) - {Kind.HAZE, Kind.VIGNETTE}
_COUNTED = {Kind.POSTERIZE: "levels", Kind.PIXELATE: "px"}
_FULL_TURN = 180.0  # degrees of hue that count as 100 %
_PLAIN_TOP = 100.0  # a larger number without a unit is not an amount: "1970"
_STOPS = 2.0  # photographic stops that count as 100 % of exposure
_DOWN_WHEN_DEEPENED = {Kind.BLACKS, Kind.SHADOWS, Kind.MIDTONES, Kind.EXPOSURE, Kind.HIGHLIGHTS, Kind.WHITES}


@dataclass(slots=True)
class Draft:
    """A slider of a clause, before its region and colour are known."""

    kind: Kind
    sign: int
    noun: bool
    verb: Concept | None = None
    amount: float | None = None
    count: int | None = None
    tonal: Area | None = None

    @property
    def signed(self) -> float:
        """The share with every sign multiplied in; "decrease by -20%" means 20 % down."""
        size = SPECS[self.kind].default if self.amount is None else self.amount
        sign = self.sign * direction(self.verb, self.kind)
        return sign * (abs(size) if self.verb is not None and self.verb.entry.sign < 0 else size)


@dataclass(slots=True)
class Sliders:
    """The sliders and moods of one clause, and the amounts that belong to none of its sliders."""

    drafts: list[Draft] = field(default_factory=list)
    nudges: list[tuple[Kind, float]] = field(default_factory=list)
    orphans: list[Concept] = field(default_factory=list)
    verb: Concept | None = None
    tonal: list[Concept] = field(default_factory=list)


def read_sliders(clause: Clause, inherited: Concept | None) -> Sliders:
    """The sliders of a clause; ``inherited`` is the verb of the clause that it is linked to."""
    found = Sliders()
    pending: Concept | None = None
    measured = clause.has(Role.AMOUNT)
    for index, concept in enumerate(clause.concepts):
        if concept.role is Role.MORE:
            found.verb = _verb(found, concept, clause, index)
        elif concept.role in (Role.AMOUNT, Role.LEVEL):
            pending = _give_amount(found, concept, clause, index, pending)
        elif concept.role is Role.MOOD or _is_mood(concept, clause, index, found, measured=measured):
            found.nudges.extend(concept.entry.nudges)
        elif concept.role in (Role.OPERATION, Role.ADJECTIVE, Role.TONAL):
            pending = _add_draft(found, concept, pending, inherited)
    if pending is not None:
        _settle(found, pending)
    return found


def _verb(found: Sliders, concept: Concept, clause: Clause, index: int) -> Concept:
    """The verb from here on: after its slider ("contrast up") it applies to that slider, before it to those that follow."""
    followed = any(later.role in (Role.OPERATION, Role.ADJECTIVE, Role.TONAL) for later in clause.concepts[index + 1 : index + 6])
    if not followed and found.drafts and found.drafts[-1].verb is None:
        found.drafts[-1].verb = concept
    if found.verb is not None and found.verb.entry.sign != concept.entry.sign and not followed:
        return found.verb
    return concept


def _is_mood(concept: Concept, clause: Clause, index: int, found: Sliders, *, measured: bool) -> bool:
    """Whether an adjective is only a mood: bare ("vivid") or before a noun ("a warm glow"), not "more vivid" or "20% vivid"."""
    if concept.role is not Role.ADJECTIVE:
        return False
    after = clause.concepts[index + 1] if index + 1 < len(clause.concepts) else None
    if after is not None and after.role in (Role.OPERATION, Role.TONAL):
        return True
    return not (measured or (found.verb is not None and found.verb.entry.word != "add"))


def _add_draft(found: Sliders, concept: Concept, pending: Concept | None, inherited: Concept | None) -> Concept | None:
    kind = concept.entry.kind
    if kind is None:
        return pending
    noun = concept.words[-1] in NOUNS
    verb = found.verb if found.verb is not None else (inherited if noun else None)
    draft = Draft(kind, concept.entry.sign, noun, verb)
    if concept.role is Role.TONAL:
        found.tonal.append(concept)
        if found.drafts and _confine(found.drafts[-1], concept):
            return pending
    elif found.tonal and len(found.drafts) == 1 and _was_a_region(found, draft):
        found.drafts.clear()
    found.drafts.append(draft)
    if pending is None:
        return None
    found.orphans.clear()
    _measure(draft, pending)
    return None


def _confine(before: Draft, tonal: Concept) -> bool:
    """Confine a slider to tones, as in "warm the shadows"; "brighten the shadows" is the shadows slider itself."""
    if before.tonal is not None or tonal.entry.kind is None:
        return False
    if before.kind is Kind.EXPOSURE and tonal.entry.kind is not Kind.EXPOSURE:
        before.kind = tonal.entry.kind
        before.tonal = tonal.entry.area
        return True
    if SPECS[before.kind].regional and before.kind not in (Kind.HIGHLIGHTS, Kind.SHADOWS, Kind.BLACKS, Kind.WHITES):
        before.tonal = tonal.entry.area
        return True
    return False


def _was_a_region(found: Sliders, draft: Draft) -> bool:
    """Whether what looked like a slider only named tones, as in "make the whites warmer"."""
    tonal, before = found.tonal[0], found.drafts[0]
    if found.verb is not None or before.amount is not None or before.kind is not tonal.entry.kind:
        return False
    return _confine(draft, tonal)


def _give_amount(found: Sliders, concept: Concept, clause: Clause, index: int, pending: Concept | None) -> Concept | None:
    """Assign an amount to the slider before it, if that has none yet, or keep it for the next one."""
    following = next(
        (later for later in clause.concepts[index + 1 : index + 4] if later.role not in (Role.STOP, Role.MORE)), None
    )
    before = found.drafts[-1] if found.drafts else None
    if before is not None and before.amount is None and before.count is None:
        linked = clause.concepts[index - 1].role in (Role.TO, Role.LINK)
        if linked or following is None or following.role not in (Role.OPERATION, Role.ADJECTIVE, Role.TONAL):
            _measure(before, concept)
            return pending
    if before is not None and concept.role is Role.AMOUNT and following is None:
        _measure(before, concept)
        return pending
    if pending is not None and pending.role is Role.AMOUNT:
        return pending  # "slightly, by 10%": the number takes precedence over the word
    return concept


def _measure(draft: Draft, concept: Concept) -> None:
    token = concept.token
    if token is not None and token.unit and token.unit == _COUNTED.get(draft.kind):
        draft.count = max(1, round(token.value))
        return
    amount = share(concept, draft.kind)
    if amount is not None:
        draft.amount = amount


def _settle(found: Sliders, pending: Concept) -> None:
    """Assign an amount that no slider followed to every slider of the clause without one."""
    unmeasured = [draft for draft in found.drafts if draft.amount is None]
    for draft in unmeasured:
        _measure(draft, pending)
    if not unmeasured:
        found.orphans.append(pending)


def finish(draft: Draft, region: Region) -> Operation | None:
    """The operation of a draft; None when it asks for less of an effect that can only be added ("less glow")."""
    kind, amount = draft.kind, draft.signed
    if draft.noun and draft.verb is None and draft.amount is None and kind in _NEEDS_A_VERB:
        return None
    if draft.tonal is not None and kind not in (Kind.HIGHLIGHTS, Kind.SHADOWS, Kind.BLACKS, Kind.WHITES, Kind.MIDTONES):
        region = Region((*region.terms, Term(draft.tonal)), region.inverted)
    if kind is Kind.EXPOSURE and region == Region((Term(Area.EDGES),)):
        kind, amount, region = Kind.VIGNETTE, -amount, Region()
    if amount < 0 and kind in _OPPOSITE:
        kind, amount = _OPPOSITE[kind], -amount
    if amount < 0 and not SPECS[kind].signed:
        return None
    return Operation(kind, amount, region, count=draft.count, explicit=draft.amount is not None)


def share(concept: Concept, kind: Kind) -> float | None:
    """The signed share that an amount or level stands for, as ``kind`` reads it; None if its unit does not fit.

    Percent are divided by 100, stops by the range of exposure, degrees by half a turn of hue. A number without a unit
    is percent if it is above 1 ("by 20"), a share if not ("by 0.2").
    """
    if concept.role is Role.LEVEL:
        return concept.entry.value
    token = concept.token
    if token is None or concept.role is not Role.AMOUNT:
        return None
    if token.unit == "%":
        return _clip(token.value / 100)
    if token.unit == "stops":
        return _clip(token.value / _STOPS) if kind is Kind.EXPOSURE else None
    if token.unit == "degrees":
        return token.value / _FULL_TURN if kind is Kind.HUE else None
    if token.unit in ("px", "levels") or abs(token.value) > 2 * _FULL_TURN:
        return None
    if kind is Kind.HUE and abs(token.value) > 1:
        return token.value / _FULL_TURN
    if abs(token.value) > _PLAIN_TOP:
        return None
    return token.value if abs(token.value) <= 1 and "." in token.text else token.value / 100


def percent(concept: Concept) -> float | None:
    """The amount as a share, where only percent make sense; None for other units."""
    token = concept.token
    if concept.role is Role.LEVEL:
        return concept.entry.value
    if token is None or token.unit not in ("%", ""):
        return None
    return share(concept, Kind.CROP)


def direction(verb: Concept | None, kind: Kind) -> int:
    """The direction of a verb for ``kind``: "deepen the blacks" is down, "deepen the contrast" is up."""
    if verb is None:
        return 1
    if verb.entry.word == "deepen":
        return -1 if kind in _DOWN_WHEN_DEEPENED else 1
    if verb.entry.word == "recover":
        return -1 if kind in (Kind.HIGHLIGHTS, Kind.WHITES) else 1
    return verb.entry.sign


def _clip(value: float) -> float:
    return max(-1.0, min(1.0, value))
