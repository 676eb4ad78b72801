# ruff: noqa: PLR2004 - shares and amounts at which phrases change
"""The refined instruction: the next instruction for the editor, applied to the SOURCE picture.

It is stateless: the amounts tried are parsed from the instruction that was used, the editor's response is measured on the
candidate. Every operation that the caller names stays in it, in the caller's words as long as the editor carries them out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from services.embedded.cielab import F32, colour_to_lab
from services.embedded.instructions import parse
from services.embedded.instructions.colour_names import COLOURS, Colour
from services.embedded.instructions.operations import SPECS, WHOLE, Area, Instruction, Kind, Operation, Region, Strength, Term
from services.embedded.instructions.writing import phrase, region_phrase, variant_in, variants
from services.embedded.regions import hue_range
from services.embedded.thinker.evidence import Evidence
from services.embedded.thinker.forward import MODELLED, Key, mask_of
from services.embedded.thinker.looks import HueMove, Look, turn_hues
from services.embedded.thinker.parts import Part
from services.embedded.thinker.solver import GainEstimate, estimate_gains, shrink, solve

DEAD_ZONE = 0.02
"""Amounts below which neither a change nor an operation is included."""
_GRAIN_PER_SHARE = 10.0  # L* of noise at 100 %
_CLOSE_ENOUGH = 9.4
_TINTS = ("red", "orange", "gold", "yellow", "green", "teal", "skyblue", "blue", "purple", "magenta", "hotpink")


def refine(evidence: Evidence, parts: Sequence[Part], turn_instruction: str, semantic: float) -> str:
    """One complete instruction for the source, or the used one when nothing is left to do."""
    instruction = evidence.instruction
    if not instruction.understood:
        return instruction.text.strip()
    if semantic >= _CLOSE_ENOUGH:
        return turn_instruction
    used = parse(turn_instruction)
    phrases = [_requested(part, used, turn_instruction) for part in parts if part.operation is not None]
    if evidence.look is not None:
        phrases += _look_phrases(evidence, evidence.look, used, turn_instruction)
    phrases += [f"no {kind.value}" for kind in sorted(instruction.forbidden & {Kind.GRAIN, Kind.VIGNETTE, Kind.HAZE, Kind.GLOW})]
    phrases += [refusal.phrase for refusal in instruction.refusals]
    phrases += [f"keep {region_phrase(region)} unchanged" for region in instruction.protected]
    return _sentence(list(dict.fromkeys(phrases))) or instruction.text


def _sentence(phrases: list[str]) -> str:
    """Phrases joined by commas and a final "and"."""
    if len(phrases) < 2:
        return "".join(phrases)
    return ", ".join(phrases[:-1]) + " and " + phrases[-1]


def _requested(part: Part, used: Instruction, turn_instruction: str) -> str:
    """The phrase for one named operation in the next turn: the same words if they worked, other words or amounts if not."""
    operation = part.operation
    assert operation is not None
    before = next((other for other in used.operations if other.key == operation.key), None)
    own = _alone(operation)
    if before is None or part.done >= 0.7 or not part.measured:
        return own if before is None else _again(before, own, operation)
    if part.done < 0.1:
        # The words had no effect: the first standard phrase, then the next one.
        tried = (
            -1
            if before.clause == operation.clause and phrase(operation) not in before.clause
            else variant_in(turn_instruction.lower(), operation)
        )
        return phrase(replace(operation, amount=before.amount), (tried + 1) % variants(operation))
    if SPECS[operation.kind].strength is Strength.EXACT:
        return own
    wanted = 1.0 / part.ratio if part.ratio is not None and part.ratio > 0 else 0.9 / max(part.done, 0.2)
    factor = float(np.clip(wanted, 0.4, 2.0))
    amount = float(np.clip(before.amount * factor, -0.95, 0.95))
    return phrase(replace(operation, amount=amount), variant_in(turn_instruction.lower(), operation))


def _alone(operation: Operation) -> str:
    """The caller's words where they name this operation and nothing else, or its standard phrase."""
    reading = parse(operation.clause)
    alone = len(reading.operations) == 1 and not (reading.looks or reading.refusals or reading.unjudged or reading.protected)
    return operation.clause if alone and reading.operations[0].key == operation.key else phrase(operation)


def _again(before: Operation, own: str, operation: Operation) -> str:
    """What worked: the caller's words, or the amount that was used."""
    return own if abs(before.amount - operation.amount) < 0.005 else phrase(replace(operation, amount=before.amount))


def _sliders_for(look: Look) -> list[Operation]:
    """The sliders that can produce a look, at zero."""
    kinds = [Kind.EXPOSURE, Kind.MIDTONES, Kind.CONTRAST, Kind.BLACKS, Kind.SHADOWS, Kind.HIGHLIGHTS, Kind.WHITES]
    coloured = look.mono < 1.0
    if coloured:
        kinds += [Kind.WARMTH, Kind.TINT, Kind.SATURATION]
    kinds += [kind for kind in (Kind.VIGNETTE, Kind.HAZE, Kind.GLOW) if getattr(look, kind.value) > 0]
    sliders = [Operation(kind, 0.0, explicit=True) for kind in kinds]
    for area, shift in ((Area.SHADOWS, look.shadows), (Area.HIGHLIGHTS, look.highlights)):
        if coloured and np.hypot(*shift) >= 3.0:
            sliders.append(Operation(Kind.SPLIT_TONE, 0.0, Region((Term(area),)), _tint_colour(*shift), explicit=True))
    if not coloured and look.cast != (0.0, 0.0):
        warm = look.cast[1] > 0
        sliders.append(Operation(Kind.SEPIA if warm else Kind.OVERLAY, 0.5, colour=None if warm else _tint_colour(*look.cast)))
    if look.top:
        sliders.append(Operation(Kind.EXPOSURE, 0.0, Region((Term(Area.TOP),)), explicit=True))
    return sliders


def _tint_colour(a: float, b: float) -> Colour:
    """The colour word whose hue lies nearest to (a*, b*), of those that work as a tint."""
    wanted = np.array([a, b]) / max(1e-6, float(np.hypot(a, b)))

    def nearness(name: str) -> float:
        shade = np.array(colour_to_lab(COLOURS[name])[1:])
        return float(shade @ wanted / np.hypot(*shade))

    best = max(_TINTS, key=nearness)
    return Colour(best, COLOURS[best])


def _look_phrases(evidence: Evidence, look: Look, used: Instruction, turn_instruction: str) -> list[str]:
    """The phrases that move tone, colour and grain towards the look, with the amounts of the solver."""
    named = {operation.key for operation in evidence.instruction.operations}
    tried = {
        operation.key: operation for operation in used.operations if operation.kind in MODELLED and not operation.region.inverted
    }
    fixed = [one for one in evidence.instruction.operations if one.kind in MODELLED]
    if look.mono >= 1.0 and look.cast == (0.0, 0.0) and not evidence.operations(Kind.MONOCHROME):
        fixed.append(Operation(Kind.MONOCHROME, 1.0))
    sliders = [slider for slider in _sliders_for(look) if slider.key not in named]
    start = [replace(slider, amount=tried[slider.key].amount) if slider.key in tried else slider for slider in sliders]
    moves = _turned_hues(evidence, look)
    thumb = _with_hues(evidence.comparison.source.thumb, moves)
    in_place = evidence.comparison.in_place
    estimate = _estimate(evidence, used, list(tried.values()), moves) if tried else GainEstimate()
    # Below half of the expected gain by two standard errors: the phrase was not understood, or taken in the other direction.
    deaf = {key for key, gain in estimate.gains.items() if gain + 2.0 * estimate.errors[key] < 0.45}
    solved = solve(shrink(thumb), shrink(evidence.expected), start, _damped(estimate, deaf), fixed, in_place=in_place)
    phrases = [phrase(one) for one in fixed if one.kind is Kind.MONOCHROME and one.key not in named]
    # Tints first: in "decrease the warmth, tint the shadows teal" an editor could apply "decrease" to the tint.
    for slider in sorted(solved, key=lambda one: one.kind is not Kind.SPLIT_TONE):
        before = tried.get(slider.key)
        amount = before.amount if before is not None and abs(slider.amount - before.amount) <= DEAD_ZONE else slider.amount
        if abs(amount) > DEAD_ZONE:
            variant = 0 if before is None else variant_in(turn_instruction.lower(), slider) + (slider.key in deaf)
            phrases.append(phrase(replace(slider, amount=round(amount, 2)), variant % variants(slider)))
    phrases += [phrase(Operation(Kind.HUE, 0.9 * move.turn / 180.0, region)) for region, move in moves.items()]
    return phrases + _textures(evidence, look, used)


def _turned_hues(evidence: Evidence, look: Look) -> dict[Region, HueMove]:
    """The ranges of hues that the look turns and the source contains, by region."""
    out: dict[Region, HueMove] = {}
    for move in look.hues:
        angle = np.radians(move.centre)
        colour = _tint_colour(float(np.cos(angle)), float(np.sin(angle)))
        if float(hue_range(evidence.comparison.source.thumb, colour).mean()) > 0.06:
            out[Region((Term(Area.HUE, colour),))] = move
    return out


def _with_hues(thumb: F32, moves: Mapping[Region, HueMove]) -> F32:
    for move in moves.values():
        thumb = turn_hues(thumb, move)
    return thumb


def _estimate(evidence: Evidence, used: Instruction, tried: list[Operation], moves: Mapping[Region, HueMove]) -> GainEstimate:
    """How strongly the editor responded to the amounts that were used."""
    turned = moves if any(operation.kind is Kind.HUE for operation in used.operations) else {}
    source = shrink(_with_hues(evidence.comparison.source.thumb, turned))
    shown = [one for one in tried if one.region == WHOLE or mask_of(one.region, source, {}) is not None]
    return estimate_gains(source, shrink(evidence.after), shown, in_place=evidence.comparison.in_place)


def _damped(estimate: GainEstimate, deaf: set[Key]) -> GainEstimate:
    """The gains to expect of the next attempt: 60 % of each deviation, as the editor's seed causes the rest.

    Phrases that will be replaced are expected to work, so their gain is 1.
    """
    gains = {key: 1.0 + 0.6 * (gain - 1.0) for key, gain in estimate.gains.items() if key not in deaf}
    return GainEstimate(gains, estimate.errors, estimate.residual * 0.6)


def _textures(evidence: Evidence, look: Look, used: Instruction) -> list[str]:
    """Phrases for grain and clarity, which the solver does not model."""
    out: list[str] = []
    if evidence.grain_wanted > 0.4:
        before = next((one.amount for one in used.operations if one.kind is Kind.GRAIN), 0.0)
        amount = evidence.grain_wanted / _GRAIN_PER_SHARE
        if before > 0:
            amount = before * float(np.clip(evidence.grain_wanted / max(0.15, evidence.grain_added), 0.5, 2.0)) ** 0.8
        out.append(phrase(Operation(Kind.GRAIN, round(min(amount, 0.9), 2))))
    if look.clarity > 0 and not evidence.operations(Kind.CLARITY):
        out.append(phrase(Operation(Kind.CLARITY, round(look.clarity, 2))))
    return out
