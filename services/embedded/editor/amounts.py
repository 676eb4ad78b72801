"""Amounts in a clause: "20%", "a bit", "half a stop", and the direction in which a verb turns them."""

from __future__ import annotations

from services.embedded.editor.clauses import Concept
from services.embedded.editor.plan import Kind
from services.embedded.editor.vocabulary import Role

_FULL_TURN = 180.0  # degrees of hue that count as 100 %
_PLAIN_TOP = 100.0  # above it a number without a unit is no amount: "1970"
_STOPS = 2.0  # photographic stops that count as 100 % of exposure
_DOWN_WHEN_DEEPENED = {Kind.BLACKS, Kind.SHADOWS, Kind.MIDTONES, Kind.EXPOSURE, Kind.HIGHLIGHTS, Kind.WHITES}


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
    """The sign that a verb gives to ``kind``: "deepen the blacks" is down, "deepen the contrast" is up."""
    if verb is None:
        return 1
    if verb.entry.word == "deepen":
        return -1 if kind in _DOWN_WHEN_DEEPENED else 1
    if verb.entry.word == "recover":
        return -1 if kind in (Kind.HIGHLIGHTS, Kind.WHITES) else 1
    return verb.entry.sign


def _clip(value: float) -> float:
    return max(-1.0, min(1.0, value))
