# ruff: noqa: PLR2004 - shares and amounts (percent) at which phrases change
"""The refined instruction: the next instruction for the editor, applied to the SOURCE picture.

It is stateless: the amounts tried are parsed from the instruction that was used, the editor's response is measured on
the candidate. The caller's own explicit requests are kept word for word.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from services.embedded.thinker.evidence import Evidence
from services.embedded.thinker.instruction_parser import ParsedInstruction, parse_instruction
from services.embedded.thinker.looks import HueMove, Look
from services.embedded.thinker.named_regions import hue_range, region_mask
from services.embedded.thinker.operations import MONOCHROME, Key, Op, hue_name, phrase, variant_in, variants
from services.embedded.thinker.pixels import Floats
from services.embedded.thinker.slider_model import modelled
from services.embedded.thinker.solver import Amounts, GainEstimate, estimate_gains, shrink, solve
from services.embedded.thinker.target_picture import turn_hues

DEAD_ZONE = 2.0
"""Amounts (percent) below which neither a change nor an operation is included."""
_GRAIN_PER_PERCENT = 0.1
_CLOSE_ENOUGH = 9.4


def refine(evidence: Evidence, turn_instruction: str, semantic: float) -> str:
    """One complete instruction for the source, or the used one when nothing is left to do."""
    intent = evidence.intent
    if not intent.understood:
        return intent.text
    if semantic >= _CLOSE_ENOUGH:
        return turn_instruction
    used = parse_instruction(turn_instruction)
    phrases = _requested_phrases(evidence, used, turn_instruction)
    if intent.look is not None:
        phrases += _look_phrases(evidence, used, turn_instruction)
    phrases += [f"no {name}" for name in sorted(intent.parsed.forbidden)]
    phrases += [clause for clause in intent.unknown if not clause.startswith("the rest of")]
    phrases += [f"keep the {region} unchanged" for region in intent.parsed.protected if region != "all"]
    return _sentence(list(dict.fromkeys(phrases))) or intent.text


def _sentence(phrases: list[str]) -> str:
    """Phrases joined by commas and a final "and"."""
    if len(phrases) < 2:
        return "".join(phrases)
    return ", ".join(phrases[:-1]) + " and " + phrases[-1]


def amounts_of(parsed: ParsedInstruction) -> Amounts:
    """The modelled operations of an instruction and their amounts in percent."""
    out: Amounts = {}
    for op in parsed.ops:
        if modelled(op.key):
            out[op.key] = float(np.clip(out.get(op.key, 0.0) + op.percent, -100.0, 100.0))
    return out


def sliders_for(look: Look) -> list[Key]:
    """The sliders that can produce a look, without the operations that have no amount."""
    names = ["exposure", "midtones", "contrast", "blacks", "shadows", "highlights", "whites"]
    coloured = look.mono < 1.0
    if coloured:
        names += ["warmth", "tint", "saturation"]
    elif look.cast != (0.0, 0.0):
        names += ["saturation", "sepia"]
    names += [name for name in ("vignette", "haze", "glow") if getattr(look, name) > 0]
    sliders: list[Key] = [(name, "", "") for name in names]
    for zone, shift in (("tint shadows", look.shadows), ("tint highlights", look.highlights)):
        if coloured and np.hypot(*shift) >= 3.0:
            sliders.append((zone, "", hue_name(*shift)))
    if look.top:
        sliders.append(("exposure", "top", ""))
    return sliders


def _all_or_nothing(look: Look) -> Amounts:
    """The operations of a look that have no amount."""
    return {(MONOCHROME, "", ""): 100.0} if look.mono >= 1.0 and look.cast == (0.0, 0.0) else {}


def _look_phrases(evidence: Evidence, used: ParsedInstruction, turn_instruction: str) -> list[str]:
    """The phrases that move tone, colour and grain towards the look, with the amounts of the solver."""
    look, intent = evidence.target.look, evidence.intent
    used_amounts = amounts_of(used)
    fixed = _all_or_nothing(look) | intent.fixed
    sliders = [key for key in sliders_for(look) if key not in fixed]
    turned = _turned_hues(evidence)
    source, target = shrink(_with_hues(evidence.comparison.source.thumb, turned)), shrink(evidence.target.thumb)
    in_place = evidence.comparison.in_place
    estimate = _estimate(evidence, used, used_amounts) if used_amounts else GainEstimate()
    # Below half of the expected gain by two standard errors: the phrase was not understood, or taken in the other direction.
    unresponsive = {key for key, gain in estimate.gains.items() if gain + 2.0 * estimate.errors[key] < 0.45}
    damped = _damped(estimate, unresponsive)
    amounts = solve(source, target, sliders, fixed=fixed, start=used_amounts, estimate=damped, in_place=in_place)
    lowered = turn_instruction.lower()
    out: list[str] = []
    # Tints first: in "decrease the warmth, tint the shadows teal" an editor could apply "decrease" to the tint.
    ordered = sorted((_all_or_nothing(look) | amounts).items(), key=lambda item: not item[0][0].startswith("tint"))
    for key, percent in ordered:
        rounded = round(_with_dead_zone(percent, used_amounts.get(key)))
        if abs(rounded) > DEAD_ZONE:
            variant = variant_in(lowered, key) + (1 if key in unresponsive else 0) if key in used_amounts else 0
            out.append(phrase(key, rounded, variant=variant % variants(key)))
    out += [f"shift the hue of the {name} by {0.9 * move.turn:.0f} degrees" for name, move in turned.items()]
    return out + _textures(evidence, used)


def _turned_hues(evidence: Evidence) -> dict[str, HueMove]:
    """The ranges of hues that the look turns and the source contains, by name."""
    out: dict[str, HueMove] = {}
    for move in evidence.target.look.hues:
        name = hue_range(move.centre)
        mask = region_mask(name, evidence.comparison.source.thumb)
        if mask is not None and float(mask.mean()) > 0.06:
            out[name] = move
    return out


def _with_hues(thumb: Floats, turned: Mapping[str, HueMove]) -> Floats:
    """The thumb with these ranges of hues turned."""
    for move in turned.values():
        thumb = turn_hues(thumb, move)
    return thumb


def _estimate(evidence: Evidence, used: ParsedInstruction, used_amounts: Mapping[Key, float]) -> GainEstimate:
    """How strongly the editor responded to the amounts that were used."""
    turned = _turned_hues(evidence) if any(op.name == "hue" for op in used.ops) else {}
    source, candidate = shrink(_with_hues(evidence.comparison.source.thumb, turned)), shrink(evidence.thumb)
    return estimate_gains(source, candidate, used_amounts, in_place=evidence.comparison.in_place)


def _damped(estimate: GainEstimate, unresponsive: set[Key]) -> GainEstimate:
    """The gains to expect of the next attempt: 60 % of each deviation, as the editor's seed causes the rest.

    Phrases that will be replaced are expected to work, so their gain is 1.
    """
    gains = {key: 1.0 + 0.6 * (gain - 1.0) for key, gain in estimate.gains.items() if key not in unresponsive}
    return GainEstimate(gains, estimate.errors, estimate.residual * 0.6)


def _with_dead_zone(percent: float, before: float | None) -> float:
    """The new amount, or the used one where the correction is so small that it is noise."""
    if before is not None and abs(percent - before) <= DEAD_ZONE:
        return before
    return percent


def _textures(evidence: Evidence, used: ParsedInstruction) -> list[str]:
    """Phrases for grain and clarity, which the solver does not model."""
    out: list[str] = []
    look = evidence.target.look
    named = {op.name for op in evidence.intent.parsed.ops}
    if look.grain > 0.4 and "grain" not in named:
        before = next((op.percent for op in used.ops if op.name == "grain"), 0.0)
        percent = look.grain / _GRAIN_PER_PERCENT
        if before > 0:
            factor = np.clip(look.grain / max(0.15, evidence.grain_added), 0.5, 2.0)
            percent = _with_dead_zone(before * float(factor) ** 0.8, before)
        out.append(phrase(("grain", "", ""), round(min(percent, 90.0))))
    if look.clarity > 0 and "clarity" not in named:
        out.append(phrase(("clarity", "", ""), round(100 * look.clarity)))
    return out


def _requested_phrases(evidence: Evidence, used: ParsedInstruction, turn_instruction: str) -> list[str]:
    """The caller's own explicit requests, word for word as long as the editor carries them out."""
    out: list[str] = []
    intent = evidence.intent
    # A clause that also names a look is not repeated word for word, so that its look is not requested again.
    look_words = {named.words for named in intent.parsed.looks}
    explicit = len(intent.requested)

    def names_a_look(op: Op) -> bool:
        return any(words in op.clause.lower() for words in look_words)

    out += [_standard_phrase(op) if names_a_look(op) else op.clause for op in intent.stated]
    for index, finding in enumerate(evidence.findings):
        op = finding.op
        own = index < explicit and bool(op.clause) and not names_a_look(op)
        out.append(_repeated(op, finding.done, own=own, used=used, turn_instruction=turn_instruction))
    return out


def _repeated(op: Op, done: float, *, own: bool, used: ParsedInstruction, turn_instruction: str) -> str:
    """The phrase for one operation in the next turn: the same words if they worked, other words or amounts if not."""
    before = next((other for other in used.ops if other.name == op.name), None)
    if own and (done >= 0.5 or before is None):
        return op.clause
    graded = op.name in _GRADED
    if before is None:
        return _standard_phrase(op)
    if done < 0.15 and not (own and before.clause != op.clause and done > 0):
        # The caller's words had no effect: the first standard phrase, then the next one.
        tried = -1 if before.clause == op.clause and own and not _is_plain(op) else variant_in(turn_instruction.lower(), op.key)
        return _standard_phrase(op, variant=(tried + 1) % variants(op.key), percent=before.percent)
    if graded and done < 0.8:
        more = float(np.clip(abs(before.percent) * np.clip(0.9 / max(done, 0.2), 1.15, 2.0), 5.0, 95.0))
        return _standard_phrase(op, variant=variant_in(turn_instruction.lower(), op.key), percent=op.sign * more)
    return before.clause or _standard_phrase(op)


_GRADED = frozenset(
    {
        *("background blur", "blur", "sharpen", "clarity", "grain", "denoise", "haze", "light leak", "white vignette"),
        *("exposure", "contrast", "saturation", "warmth", "posterise", "pixelate", "emboss"),
    }
)
"""Operations that have an amount."""


def _is_plain(op: Op) -> bool:
    return _standard_phrase(op) in op.clause.lower()


def _standard_phrase(op: Op, *, variant: int = 0, percent: float | None = None) -> str:
    """The standard phrase for an operation."""
    detail = op.detail
    if op.name == "text":
        detail += (f" at the {op.region}" if op.region else "") + (f" in {op.colour}" if op.colour else "")
    region = op.region
    if op.name in {"recolour", "selective"} and region and not region.startswith("the "):
        region = f"the {region}"
    if op.name == "crop" and not detail:
        return f"crop by {abs(op.percent):.0f}%"
    if op.name == "crop" and detail == "square":
        detail = "a square"
    key = (op.name, "" if op.name == "text" else region, op.colour or ("white" if op.name in {"background", "border"} else ""))
    return phrase(key, round(op.percent if percent is None else percent), detail=detail, variant=variant)
