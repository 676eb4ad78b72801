# ruff: noqa: PLR2004 - shares and amounts at which phrases change
"""The refined instruction: the next instruction for the editor, applied to the SOURCE picture.

It is stateless: the amounts tried are parsed from the instruction that was used, the editor's response is measured on the
candidate. Every operation that the caller names stays in it, in the caller's words as long as the editor carries them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from services.embedded.cielab import colour_to_lab
from services.embedded.instructions import parse
from services.embedded.instructions.colour_names import COLOURS, Colour
from services.embedded.instructions.operations import SPECS, Area, Instruction, Kind, Operation, Region, Strength, Term
from services.embedded.instructions.writing import phrase, region_phrase, variant_in, variants
from services.embedded.thinker.evidence import EFFECTS, Evidence
from services.embedded.thinker.forward import MODELLED
from services.embedded.thinker.looks import Look
from services.embedded.thinker.parts import Part
from services.embedded.thinker.solver import GainEstimate, estimate_gains, shrink, solve

DEAD_ZONE = 0.02
"""Amounts below which neither a change nor an operation is included."""
_GRAIN_PER_SHARE = 10.0  # L* of noise at 100 %
_CLOSE_ENOUGH = 9.4
_TINTS = ("red", "orange", "gold", "yellow", "green", "teal", "skyblue", "blue", "purple", "magenta", "hotpink")
_OVERLAYS = (*_TINTS, "steelblue")  # the blue of cyanotypes; in shadows it is too pale for an evening


def refine(evidence: Evidence, parts: Sequence[Part], turn_instruction: str, semantic: float) -> str:
    """One complete instruction for the source, or the used one when nothing is left to do."""
    instruction = evidence.instruction
    if not instruction.understood:
        return instruction.text.strip()
    if semantic >= _CLOSE_ENOUGH:
        return turn_instruction
    used = parse(turn_instruction)
    phrases = [_requested(part, part.operation, used) for part in parts if part.operation is not None]
    if evidence.look is not None:
        phrases += _look_phrases(evidence, evidence.look, used)
    phrases += [f"no {kind.value}" for kind in sorted(EFFECTS) if kind in instruction.forbidden]
    phrases += [refusal.phrase for refusal in instruction.refusals]
    phrases += [f"keep {region_phrase(region)} unchanged" for region in instruction.protected]
    *most, last = dict.fromkeys(phrases) or [instruction.text]
    return f"{', '.join(most)} and {last}" if most else last


def _requested(part: Part, operation: Operation, used: Instruction) -> str:
    """The phrase for one named operation in the next turn: the same words if they worked, other words or amounts if not."""
    before = next((other for other in used.operations if other.key == operation.key), None)
    if before is None or (SPECS[operation.kind].strength is Strength.EXACT and part.done >= 0.1):
        return _alone(operation)
    if part.done >= 0.7 or not part.measured:
        kept = abs(before.amount - operation.amount) < 0.005
        return _alone(operation) if kept else phrase(replace(operation, amount=before.amount))
    tried = variant_in(used.text.lower(), operation)
    if part.done < 0.1:
        # The words had no effect: the first standard phrase, then the next one.
        own_words = before.clause == operation.clause and phrase(operation) not in before.clause
        return phrase(replace(operation, amount=before.amount), 0 if own_words else (tried + 1) % variants(operation))
    wanted = 1.0 / part.ratio if part.ratio is not None and part.ratio > 0 else 0.9 / max(part.done, 0.2)
    amount = float(np.clip(before.amount * np.clip(wanted, 0.4, 2.0), -0.95, 0.95))
    return phrase(replace(operation, amount=amount), tried)


def _alone(operation: Operation) -> str:
    """The caller's words where they name this operation and nothing else, or its standard phrase."""
    reading = parse(operation.clause)
    alone = len(reading.operations) == 1 and not (reading.looks or reading.refusals or reading.unjudged or reading.protected)
    return operation.clause if alone and reading.operations[0].key == operation.key else phrase(operation)


def _sliders_for(look: Look) -> list[Operation]:
    """The sliders that can produce a look, at zero."""
    kinds = [Kind.EXPOSURE, Kind.MIDTONES, Kind.CONTRAST, Kind.BLACKS, Kind.SHADOWS, Kind.HIGHLIGHTS, Kind.WHITES]
    coloured = look.chroma > 0
    if coloured:
        kinds += [Kind.WARMTH, Kind.TINT, Kind.SATURATION]
    kinds += [kind for kind in (Kind.VIGNETTE, Kind.HAZE, Kind.GLOW) if getattr(look, kind.value) > 0]
    sliders = [Operation(kind, 0.0, explicit=True) for kind in kinds]
    for area, shift in ((Area.SHADOWS, look.shadows), (Area.HIGHLIGHTS, look.highlights)):
        if coloured and np.hypot(*shift) >= 3.0:
            sliders.append(Operation(Kind.SPLIT_TONE, 0.0, Region((Term(area),)), _tint_colour(shift, _TINTS), explicit=True))
    if not coloured and look.cast != (0.0, 0.0):
        warm = look.cast[1] > 0
        sliders.append(
            Operation(Kind.SEPIA if warm else Kind.OVERLAY, 0.5, colour=None if warm else _tint_colour(look.cast, _OVERLAYS))
        )
    return sliders


def _tint_colour(shift: tuple[float, float], names: Sequence[str]) -> Colour:
    """The colour word of `names` whose hue lies nearest to (a*, b*)."""

    def nearness(name: str) -> float:
        shade = np.array(colour_to_lab(COLOURS[name])[1:])
        return float(shade @ shift / np.hypot(*shade))

    best = max(names, key=nearness)
    return Colour(best, COLOURS[best])


def _look_phrases(evidence: Evidence, look: Look, used: Instruction) -> list[str]:
    """The phrases that move tone, colour and grain towards the look, with the amounts of the solver."""
    named = {operation.key for operation in evidence.instruction.operations}
    tried = {one.key: one for one in used.operations if one.kind in MODELLED and not one.region.inverted}
    fixed = evidence.operations(*MODELLED)
    if look.chroma == 0 and look.cast == (0.0, 0.0) and not evidence.operations(Kind.MONOCHROME):
        fixed.append(Operation(Kind.MONOCHROME, 1.0))
    sliders = [slider for slider in _sliders_for(look) if slider.key not in named]
    start = [replace(slider, amount=tried[slider.key].amount) if slider.key in tried else slider for slider in sliders]
    in_place, source = evidence.comparison.in_place, shrink(evidence.start)
    shown = list(tried.values())
    estimate = estimate_gains(source, shrink(evidence.after), shown, in_place=in_place) if tried else GainEstimate()
    # Below half of the expected gain by two standard errors: the phrase was not understood, or taken in the other direction.
    deaf = {key for key, gain in estimate.gains.items() if gain + 2.0 * estimate.errors[key] < 0.45}
    solved = solve(source, shrink(evidence.expected), start, estimate.damped(deaf), fixed, in_place=in_place)
    phrases = [phrase(one) for one in fixed if one.kind is Kind.MONOCHROME and one.key not in named]
    # Tints first: in "decrease the warmth, tint the shadows teal" an editor could apply "decrease" to the tint.
    for slider in sorted(solved, key=lambda one: one.kind is not Kind.SPLIT_TONE):
        before = tried.get(slider.key)
        amount = before.amount if before is not None and abs(slider.amount - before.amount) <= DEAD_ZONE else slider.amount
        if abs(amount) > DEAD_ZONE:
            variant = 0 if before is None else variant_in(used.text.lower(), slider) + (slider.key in deaf)
            phrases.append(phrase(replace(slider, amount=round(amount, 2)), variant % variants(slider)))
    return phrases + _textures(evidence, look, used)


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
