"""Clauses with a grammar of their own: crop, flip, rotate, straighten, text and border."""

from __future__ import annotations

from dataclasses import replace

from services.embedded.instructions.clauses import Clause
from services.embedded.instructions.colour_names import Colour
from services.embedded.instructions.operations import SPECS, Area, Kind, Operation
from services.embedded.instructions.sliders import UnreadableError, share
from services.embedded.instructions.vocabulary import LINKS, Role

_POSITIONS = (Area.TOP, Area.BOTTOM, Area.LEFT, Area.RIGHT, Area.CENTRE)
_WHITE = Colour("white", (255, 255, 255))
_MAX_RATIO = 20.0
_MAX_CROP = 0.9
_MAX_BORDER = 0.4
_MAX_TEXT = 0.5
_LETTERS = 0.02  # of the height, by which letters are larger than a border of the same word is wide
_CROPS = (
    "a crop is to a shape (“crop to 16:9”, “to a square”) or by a share of the picture (“crop by 10%”, “crop the top by 10%”)"
)
_TURNS = "a rotation needs an angle (“rotate by 90 degrees”) or a direction (“rotate to the left”)"
_TEXTS = 'a text to add stands in quotes, upright at a side or in a corner (“add the text "SALE" at the bottom in white”)'
_BORDERS = "a border runs round the whole picture, in one colour, its width in percent (“add a white border of 5%”)"
_FLIPS = "the whole picture is flipped, horizontally or vertically"
_TURNED = {Role.ROTATE, Role.AMOUNT, Role.CLOCKWISE, Role.COUNTERCLOCKWISE, Role.AREA, Role.UPSIDE_DOWN, Role.OPERATION}
_FLIPPED = (_FLIPS, {Role.OPERATION, Role.HORIZONTAL, Role.VERTICAL, Role.UPSIDE_DOWN})
_READS = {
    Kind.CROP: (_CROPS, {Role.CROP, Role.SQUARE, Role.RATIO, Role.AMOUNT, Role.LEVEL, Role.AREA}),
    Kind.ROTATE: (_TURNS, _TURNED),
    Kind.STRAIGHTEN: (_TURNS, _TURNED),
    Kind.FLIP_HORIZONTAL: _FLIPPED,
    Kind.FLIP_VERTICAL: _FLIPPED,
    Kind.TEXT: (_TEXTS, {Role.TEXT, Role.QUOTE, Role.COLOUR, Role.AMOUNT, Role.SIZE, Role.AREA}),
    Kind.BORDER: (_BORDERS, {Role.BORDER, Role.COLOUR, Role.AMOUNT, Role.SIZE}),
}
"""What can be said of each operation, and the roles that say it: every other word is refused."""


def read(clause: Clause, text: str) -> Operation | None:
    """The operation of a clause, or None when it is of another kind.

    Raises:
        UnreadableError: it is of this kind, but not readable ("crop to the face").
    """
    found = _crop(clause, text) or _turn(clause, text) or _text(clause, text) or _border(clause, text)
    if found is not None:
        offered, read_as = _READS[found.kind]
        if any(concept.role not in LINKS and concept.role not in read_as for concept in clause.concepts):
            raise UnreadableError(offered)
    return found


def _crop(clause: Clause, text: str) -> Operation | None:
    """``crop to 16:9``, ``crop to a square``, ``crop by 10%``, ``crop the top by 10%``."""
    whole = clause.has(Role.TO, Role.PICTURE) or any(concept.words == ("it",) for concept in clause.concepts)
    cuts = whole and any(concept.entry.word == "less" for concept in clause.all(Role.VERB))  # "cut it to a square"
    named = clause.has(Role.CROP) or (clause.has(Role.SQUARE, Role.RATIO) and (cuts or clause.has(Role.CHANGE)))
    if not named or clause.has(Role.OPERATION, Role.TONAL):
        return None
    ratio, sides = clause.first(Role.RATIO), clause.has(Role.AREA)
    shaped = ratio is not None or clause.has(Role.SQUARE)
    if clause.has(Role.SQUARE) and ratio is not None:
        raise UnreadableError(_CROPS)
    if sides and (shaped or any(concept.words == ("to",) for concept in clause.concepts)):
        raise UnreadableError(_CROPS)
    if clause.has(Role.SQUARE):
        return Operation(Kind.CROP, 0.0, ratio=1.0, explicit=True, clause=text)
    if ratio is not None and ratio.token is not None and 1 / _MAX_RATIO <= ratio.token.value <= _MAX_RATIO:
        return Operation(Kind.CROP, 0.0, ratio=ratio.token.value, explicit=True, clause=text)
    amount = _share(clause, _MAX_CROP)
    if amount is None and any(concept.words == ("to",) for concept in clause.concepts):
        raise UnreadableError(_CROPS)
    size = SPECS[Kind.CROP].default if amount is None else amount
    return Operation(Kind.CROP, size, positions=_positions(clause), explicit=amount is not None, clause=text)


def _turn(clause: Clause, text: str) -> Operation | None:
    """``flip horizontally``, ``rotate by 90 degrees``, ``rotate counterclockwise by 2.5 degrees``, ``straighten``."""
    kinds = {concept.entry.kind for concept in clause.all(Role.OPERATION)}
    angle = _degrees(clause)
    if kinds & {Kind.FLIP_HORIZONTAL, Kind.FLIP_VERTICAL}:
        vertical = Kind.FLIP_VERTICAL in kinds or clause.has(Role.VERTICAL, Role.UPSIDE_DOWN)
        return Operation(Kind.FLIP_VERTICAL if vertical else Kind.FLIP_HORIZONTAL, 1.0, explicit=True, clause=text)
    if Kind.STRAIGHTEN in kinds and not clause.has(Role.AMOUNT):
        return Operation(Kind.STRAIGHTEN, 1.0, clause=text)
    if clause.has(Role.UPSIDE_DOWN) and not kinds:
        return Operation(Kind.ROTATE, 1.0, degrees=180.0, explicit=True, clause=text)
    named = clause.has(Role.ROTATE) or Kind.STRAIGHTEN in kinds or (clause.has(Role.CHANGE) and angle is not None)
    if not named or Kind.HUE in kinds or kinds - {Kind.STRAIGHTEN}:
        return None
    directed = clause.has(Role.CLOCKWISE, Role.COUNTERCLOCKWISE) or {Area.LEFT, Area.RIGHT} & set(_positions(clause))
    if angle is None and (clause.has(Role.AMOUNT) or not directed):
        raise UnreadableError(_TURNS)
    left = clause.has(Role.COUNTERCLOCKWISE) or Area.LEFT in _positions(clause)
    degrees = 90.0 if angle is None else angle
    return Operation(Kind.ROTATE, 1.0, degrees=-degrees if left else degrees, explicit=True, clause=text)


def _text(clause: Clause, text: str) -> Operation | None:
    """``add the text "SALE" at the bottom in white``, ``write "Hello" at the top left``."""
    quote = clause.first(Role.QUOTE)
    verb = clause.first(Role.VERB)
    if quote is None or quote.token is None or not quote.token.text.strip():
        if clause.has(Role.TEXT) and not clause.has(Role.OPERATION, Role.TONAL):
            raise UnreadableError(_TEXTS)
        return None
    if not clause.has(Role.TEXT) and (verb is None or verb.entry.word != "add"):
        raise UnreadableError(_TEXTS)
    if clause.has(Role.REPLACE, Role.CHANGE) or (verb is not None and verb.entry.sign < 0):
        raise UnreadableError("writing in the picture is not recognised, so it is not replaced; a quoted text can be added")
    drawn = _drawn(Kind.TEXT, clause, text, _MAX_TEXT)
    return replace(drawn, text=quote.token.text, positions=_place(clause), explicit=True)


def _border(clause: Clause, text: str) -> Operation | None:
    """``add a white border of 5%``: the amount is the width in shares of the shorter side."""
    if not clause.has(Role.BORDER) or clause.has(Role.OPERATION, Role.TONAL):
        return None
    verb = clause.first(Role.VERB)
    if verb is not None and verb.entry.sign < 0:
        raise UnreadableError("a border in the picture is not recognised; it can be cropped away (“crop by 5%”)")
    if verb is not None and verb.entry.word == "more" and verb.words != ("set",):
        raise UnreadableError(_BORDERS)  # "a stronger frame for the bike"
    return _drawn(Kind.BORDER, clause, text, _MAX_BORDER)


def _drawn(kind: Kind, clause: Clause, text: str, largest: float) -> Operation:
    colour, amount, size = clause.first(Role.COLOUR), _share(clause, largest), clause.first(Role.SIZE)
    default = size.entry.value if size else SPECS[kind].default
    default += _LETTERS if size and kind is Kind.TEXT else 0.0
    width = default if amount is None else amount
    return Operation(kind, width, colour=(colour and colour.colour) or _WHITE, explicit=amount is not None, clause=text)


def _share(clause: Clause, largest: float) -> float | None:
    given = clause.first(Role.AMOUNT, Role.LEVEL)
    value = None if given is None else abs(share(given, Kind.CROP))
    if value is not None and value > largest:
        raise UnreadableError(f"it takes at most {largest:.0%} of the picture")
    return value


def _place(clause: Clause) -> tuple[Area, ...]:
    """Where a text stands; a corner without sides is the one at the bottom right."""
    found = _positions(clause)
    edges = [concept for concept in clause.all(Role.AREA) if concept.entry.area is Area.EDGES]
    if any(concept.words != ("corner",) for concept in edges):
        raise UnreadableError(_TEXTS)
    if edges:
        found += () if {Area.TOP, Area.BOTTOM} & set(found) else (Area.BOTTOM,)
        found += () if {Area.LEFT, Area.RIGHT} & set(found) else (Area.RIGHT,)
    return found


def _degrees(clause: Clause) -> float | None:
    turns = clause.has(Role.ROTATE)
    for concept in clause.all(Role.AMOUNT):
        token = concept.token
        if token is not None and (token.unit == "degrees" or (token.unit == "" and turns)):
            return token.value
    return None


def _positions(clause: Clause) -> tuple[Area, ...]:
    named = {concept.entry.area for concept in clause.all(Role.AREA)}
    return tuple(area for area in _POSITIONS if area in named)
