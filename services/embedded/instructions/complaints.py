"""Clauses that describe the picture as it is: a complaint ("it looks flat") asks for the opposite, a statement for nothing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from services.embedded.instructions.clauses import Clause, Concept
from services.embedded.instructions.operations import Kind
from services.embedded.instructions.vocabulary import VOCABULARY, Entry, Role

_LOOK = "a look that a picture has is not taken off it; say what should change (“warmer”, “more contrast”)"
_STATEMENT = "this describes something; say what should change in the whole picture (“warmer”, “more contrast”)"
_REMEDY = 0.4
_LESS_SHARP = 0.1  # more is a blurred picture
_LITTLE = 0.15  # "a bit dark" is a complaint, "very dark" a request
_QUALITIES = ("adjective", "mild", "complaint")
_NAMES = (Role.OPERATION, Role.TONAL)
_ASKS = (Role.CHANGE, Role.REPLACE, Role.REQUEST)
_SUBJECTS = (Role.LOOK, Role.COLOUR, Role.BORDER, Role.CROP, Role.UNKNOWN, Role.REFUSED)
# Behind these, "it is" and "it looks" tell how the picture should be.
_SUBORDINATE = frozenset({"that", "so", "if", "though", "like", "until", "when", "where", "what", "how"})
_MEASURES = frozenset({("low",), ("high",)})  # of a slider: the verbs that are adjectives too


class NoRequestError(ValueError):
    """The clause describes something that nothing can be done about; the message says so."""


@dataclass(slots=True)
class _State:
    """What the words so far say about the next quality."""

    present: bool  # it describes the picture as it is
    asked: bool = False
    subject: bool = False  # an operation is what is described: "the grain is nice"
    too: Concept | None = None
    verb: Concept | None = None
    complains: bool = False
    out: list[Concept] = field(default_factory=list)


def settle(clause: Clause, *, complains: bool) -> tuple[Clause, bool]:
    """The clause with each complaint turned into the operation against it, and whether there was one.

    Args:
        clause: a request.
        complains: whether the clause before it was a complaint, which "and dull" continues.

    Raises:
        NoRequestError: it complains of a look, or is a statement about something else than the picture.
    """
    if clause.has(Role.ENOUGH):  # "not bright enough"
        return clause, False
    little = any(concept.role is Role.LEVEL and concept.entry.value <= _LITTLE for concept in clause.concepts)
    state = _State(present=(complains if clause.joined else little) and _continues(clause))
    for index, concept in enumerate(clause.concepts):
        if concept.role in _ASKS:
            state.present, state.asked = False, True
            _forget(state)
        elif concept.role is Role.STATE or (concept.role is Role.LIKE and concept.words[0] in ("looks", "feels")):
            _describe(state, clause.concepts[:index])
        elif concept.role is Role.TOO:
            state.too = concept
        elif concept.words == ("light",) and state.too is not None:
            concept = replace(concept, role=Role.OPERATION, entry=VOCABULARY["bright",])  # noqa: PLW2901 - it has two meanings
        meant = _meant(state, concept)  # first, as it may take a "too" back
        state.out.append(meant)
    if state.present and state.subject and not state.complains and not clause.has(Role.VERB):
        raise NoRequestError(_STATEMENT)
    return replace(clause, concepts=state.out), state.complains


def _meant(state: _State, concept: Concept) -> Concept:
    """The concept as it is meant behind the words so far."""
    if concept.role is Role.COLOUR and state.present and state.too is None:
        raise NoRequestError(_STATEMENT)  # "there is a green tinge"
    if concept.role is Role.VERB:
        return _verb(state, concept)
    if concept.role is Role.LOOK:
        return _look(state, concept)
    return _name(state, concept) if concept.role in _NAMES else concept


def _continues(clause: Clause) -> bool:
    """Whether the clause is nothing but qualities: "and dull", "a bit cold"."""
    return all(
        concept.role in (Role.LOOK, Role.LEVEL, Role.TOO) or concept.entry.form in _QUALITIES for concept in clause.concepts
    )


def _describe(state: _State, before: list[Concept]) -> None:
    """From "it looks" on, qualities are of the picture as it is."""
    if any(other.words[-1] in _SUBORDINATE for other in before[-2:]) or any(other.role is Role.LIKE for other in before):
        _forget(state)
        return
    if before and before[-1].role in _SUBJECTS:
        raise NoRequestError(_STATEMENT)
    state.present, state.asked = True, False
    state.subject = any(other.role in _NAMES for other in before)


def _forget(state: _State) -> None:
    """Take a "too" or "so" back that belongs to no quality."""
    state.out = [other for other in state.out if other is not state.too]
    state.too = None


def _turned(entry: Entry) -> Entry:
    return replace(entry, sign=-entry.sign)


def _against(state: _State, entry: Entry) -> Entry:
    """The remedy for a quality of the picture as it is."""
    state.complains = True
    _forget(state)
    if entry.form == "complaint":
        return entry
    return replace(_turned(entry), value=_LESS_SHARP if entry.kind is Kind.SHARPEN else _REMEDY)


def _verb(state: _State, concept: Concept) -> Concept:
    if concept.words in _MEASURES and (state.present or state.too is not None):
        state.complains = True
        _forget(state)
        concept = replace(concept, entry=_turned(concept.entry))
    elif concept.entry.word == "add":
        state.present, state.asked = False, True
    state.verb = concept
    return concept


def _look(state: _State, concept: Concept) -> Concept:
    entry, verb = concept.entry, state.verb
    present = state.present or state.too is not None
    less = verb is not None and verb.entry.sign < 0
    if not present and not less:
        return concept
    if entry.kind is None:
        raise NoRequestError(_LOOK)
    operation = replace(entry, role=Role.OPERATION, word="")
    if present:
        operation = _against(state, operation)
    elif entry.form == "complaint":
        operation = _turned(operation)  # "less faded"
    return replace(concept, role=Role.OPERATION, entry=operation)


def _name(state: _State, concept: Concept) -> Concept:
    entry = concept.entry
    verb, state.verb = state.verb, None
    if entry.sign == 0:
        return concept
    if state.too is not None or (state.present and verb is None and entry.form in _QUALITIES):
        return replace(concept, entry=_against(state, entry))
    if entry.form == "complaint" and (state.asked or verb is not None):
        return replace(concept, entry=_turned(entry))  # "make it flat", "less dull"
    return concept
