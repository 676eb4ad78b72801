"""Clauses with a grammar of their own: crop, flip, rotate, text, border, recolour and the background.

Each function returns the operation of a clause, or None when the clause is of another kind. It raises
``UnreadableError`` when the clause is of its kind but asks for something that the editor cannot do ("crop out the person").
"""

from __future__ import annotations

from services.embedded.editor.clause_regions import ClauseRegion
from services.embedded.editor.clauses import Clause, Concept
from services.embedded.editor.colour_names import Colour
from services.embedded.editor.plan import SPECS, Area, Kind, Operation, Term
from services.embedded.editor.sliders import percent
from services.embedded.editor.vocabulary import Role

_POSITIONS = (Area.TOP, Area.BOTTOM, Area.LEFT, Area.RIGHT, Area.CENTRE)
_TEXT_VERBS = ("saying", "says", "reads", "reading")
_WHITE = Colour("white", (255, 255, 255))
_MAX_RATIO = 20.0
_MAX_CROP = 0.9
_MAX_BORDER = 0.4
_MAX_TEXT = 0.5


class UnreadableError(ValueError):
    """The clause asks for a known operation in a form that the editor does not support."""


def read_crop(clause: Clause) -> Operation | None:
    """``crop to 16:9``, ``crop to a square``, ``crop by 10%``, ``crop the top by 10%``."""
    if not clause.has(Role.CROP):
        return None
    ratio = clause.first(Role.RATIO)
    if clause.has(Role.SQUARE):
        return Operation(Kind.CROP, 0.0, ratio=1.0, explicit=True)
    if ratio is not None and ratio.token is not None and 1 / _MAX_RATIO <= ratio.token.value <= _MAX_RATIO:
        return Operation(Kind.CROP, 0.0, ratio=ratio.token.value, explicit=True)
    amount = _percent(clause)
    if clause.has(Role.UNKNOWN) or (amount is None and clause.has(Role.AMOUNT)):
        raise UnreadableError
    size = min(_MAX_CROP, abs(amount if amount is not None else SPECS[Kind.CROP].default))
    return Operation(Kind.CROP, size, positions=_positions(clause), explicit=amount is not None)


def read_flip_or_rotate(clause: Clause) -> Operation | None:
    """``flip horizontally``, ``rotate by 90 degrees``, ``rotate counterclockwise by 2.5 degrees``."""
    if clause.has(Role.FLIP):
        return Operation(Kind.FLIP_VERTICAL if clause.has(Role.VERTICAL) else Kind.FLIP_HORIZONTAL, 1.0, explicit=True)
    angle = _degrees(clause)
    rotates = clause.has(Role.ROTATE) or (clause.has(Role.CHANGE) and angle is not None)
    hue = any(concept.entry.kind is Kind.HUE for concept in clause.concepts)
    if clause.has(Role.CHANGE) and clause.has(Role.VERTICAL) and not clause.has(Role.OPERATION):
        return Operation(Kind.ROTATE, 1.0, degrees=180.0, explicit=True)
    if not rotates or hue:
        return None
    if clause.has(Role.UNKNOWN) and angle is None:
        raise UnreadableError
    left = clause.has(Role.COUNTERCLOCKWISE) or Area.LEFT in _positions(clause)
    degrees = 90.0 if angle is None else angle
    return Operation(Kind.ROTATE, 1.0, degrees=-degrees if left else degrees, explicit=angle is not None)


def read_text(clause: Clause, prompt: str) -> Operation | None:
    """``add the text "SALE" at the bottom in white``; without quotation marks after "saying" or "that says"."""
    quote = clause.first(Role.QUOTE)
    added = clause.says(Role.MORE, "add")
    if not clause.has(Role.TEXT) and not (quote is not None and added):
        return None
    words = _unquoted_text(clause, prompt) if quote is None or quote.token is None else quote.token.text.strip()
    if not words:
        raise UnreadableError
    colours = clause.all(Role.COLOUR)
    size = _percent(clause) or _size_word(clause) or SPECS[Kind.TEXT].default
    return Operation(
        Kind.TEXT,
        min(_MAX_TEXT, abs(size)),
        colour=colours[-1].colour if colours else _WHITE,
        text=words,
        positions=_positions(clause),
        explicit=True,
    )


def _unquoted_text(clause: Clause, prompt: str) -> str:
    start = end = None
    for concept in clause.concepts:
        if start is None:
            if concept.role is Role.TEXT and concept.words[-1] in _TEXT_VERBS:
                start = concept.end
        elif concept.role in (Role.LINK, Role.TO):
            break
        else:
            end = concept.end
    return prompt[start:end].strip() if start is not None and end is not None else ""


def read_border(clause: Clause) -> Operation | None:
    """``add a white border of 5%``: the amount is the width in shares of the shorter side."""
    added = clause.says(Role.MORE, "add") or clause.has(Role.COLOUR) or clause.has(Role.AMOUNT)
    if not clause.has(Role.BORDER) or not added or clause.has(Role.OPERATION):
        return None
    colour = clause.first(Role.COLOUR)
    amount = _percent(clause)
    if amount is None:
        amount = _size_word(clause)
    width = SPECS[Kind.BORDER].default if amount is None else abs(amount)
    return Operation(
        Kind.BORDER,
        min(_MAX_BORDER, width),
        colour=colour.colour if colour else _WHITE,
        explicit=amount is not None,
    )


def read_background(clause: Clause) -> Operation | None:
    """``replace the background with white``, ``change the background to a gradient from navy to orange``."""
    about = [concept for concept in clause.all(Role.AREA) if concept.entry.area is Area.BACKGROUND]
    if not about or clause.has(Role.OPERATION, Role.TONAL, Role.COLOUR_NOUN, Role.EXCEPT, Role.ADJECTIVE):
        return None
    colours = [concept.colour for concept in clause.all(Role.COLOUR)]
    if clause.has(Role.REPLACE) and (not colours or clause.has(Role.UNKNOWN)):
        raise UnreadableError
    if not colours or clause.has(Role.UNKNOWN, Role.KEEP):
        return None
    second = colours[1] if len(colours) > 1 and clause.has(Role.GRADIENT) else None
    if second is None and clause.has(Role.GRADIENT):
        second = _WHITE
    first = colours[0] if clause.has(Role.GRADIENT) else colours[-1]
    amount = _percent(clause)
    return Operation(
        Kind.REPLACE_BACKGROUND,
        1.0 if amount is None else abs(amount),
        colour=first,
        second_colour=second,
        explicit=amount is not None,
    )


def read_recolour(clause: Clause, named: ClauseRegion) -> Operation | None:
    """``change the colour of the cup to blue``, ``make the reds blue``, ``turn the sky purple``."""
    if not clause.has(Role.CHANGE, Role.REPLACE) or clause.has(Role.OPERATION, Role.TONAL):
        return None
    colours = [(index, concept) for index, concept in enumerate(clause.concepts) if concept.role is Role.COLOUR]
    targets = [concept for index, concept in colours if index not in named.used_colours]
    if not targets:
        return None
    terms = list(named.terms)
    if not terms and len(colours) > 1:
        terms = [Term(Area.HUE, colours[0][1].colour)]
    if not terms:
        return None
    amount = _percent(clause)
    region = type(named.region)(tuple(dict.fromkeys(terms)), named.inverted)
    return Operation(
        Kind.RECOLOUR,
        1.0 if amount is None else abs(amount),
        region,
        colour=targets[-1].colour,
        explicit=amount is not None,
    )


def _percent(clause: Clause) -> float | None:
    values = [percent(concept) for concept in clause.all(Role.AMOUNT)]
    return next((value for value in values if value is not None), None)


def _degrees(clause: Clause) -> float | None:
    for concept in clause.all(Role.AMOUNT):
        token = concept.token
        if token is not None and (token.unit == "degrees" or (token.unit == "" and clause.has(Role.ROTATE))):
            return token.value
    return None


def _positions(clause: Clause) -> tuple[Area, ...]:
    named = {concept.entry.area for concept in clause.all(Role.AREA)}
    return tuple(area for area in _POSITIONS if area in named)


def _size_word(clause: Clause) -> float | None:
    sizes: list[Concept] = [concept for concept in clause.concepts if concept.entry.word == "size"]
    return sizes[0].entry.value if sizes else None
