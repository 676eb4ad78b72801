# ruff: noqa: PLR2004 - shares and amounts (percent) at which words change
"""The refined instruction: what to say to the editor next, for the SOURCE picture.

Everything is stateless: the amounts tried are read from the text of the instruction used,
the response from the candidate. The caller's own explicit requests are kept word for word.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from services.embedded.thinker.evidence import Evidence
from services.embedded.thinker.instruction_parser import Instruction, read_instruction
from services.embedded.thinker.looks import HueMove, Look, Pair
from services.embedded.thinker.named_regions import hue_range, region_mask
from services.embedded.thinker.operations import MONOCHROME, Key, Op, hue_name, phrase, variant_in, variants
from services.embedded.thinker.pixels import Floats
from services.embedded.thinker.slider_model import modelled
from services.embedded.thinker.solver import Amounts, Learned, learn, shrink, solve
from services.embedded.thinker.target_picture import turn_hues

DEAD_ZONE = 2.0
"""Amounts (percent) below which neither a change nor an operation is worth saying."""
_GRAIN_PER_PERCENT = 0.1
_CLOSE_ENOUGH = 9.4


def refine(evidence: Evidence, used_text: str, semantic: float) -> str:
    """One complete instruction for the source, or the used one when nothing is left to do."""
    wish = evidence.wish
    if not wish.understood:
        return wish.text
    if semantic >= _CLOSE_ENOUGH:
        return used_text
    used = read_instruction(used_text)
    said = [*_asked(evidence, used, used_text)]
    if wish.look is not None:
        said += _controlled(evidence, used, used_text)
    said += [f"no {name}" for name in sorted(wish.instruction.banned)]
    said += [clause for clause in wish.unknown if not clause.startswith("the rest of")]
    said += [f"keep the {place} unchanged" for place in wish.instruction.kept if place != "all"]
    return _sentence(list(dict.fromkeys(said))) or wish.text


def _sentence(said: list[str]) -> str:
    """Join phrases as a person would."""
    if len(said) < 2:
        return "".join(said)
    return ", ".join(said[:-1]) + " and " + said[-1]


def amounts_of(instruction: Instruction) -> Amounts:
    """The modelled operations of an instruction and their amounts in percent."""
    out: Amounts = {}
    for op in instruction.ops:
        if modelled(op.key):
            out[op.key] = float(np.clip(out.get(op.key, 0.0) + op.percent, -100.0, 100.0))
    return out


def knobs_of(look: Look) -> list[Key]:
    """The operations that can make a look, without those that are done or not done."""
    names = ["exposure", "midtones", "contrast", "blacks", "shadows", "highlights", "whites"]
    coloured = look.mono < 1.0
    if coloured:
        names += ["warmth", "tint", "saturation"]
    elif look.cast != (0.0, 0.0):
        names += ["saturation", "sepia"]
    names += [name for name in ("vignette", "haze", "glow") if getattr(look, name) > 0]
    knobs: list[Key] = [(name, "", "") for name in names]
    for zone, shift in (("tint shadows", look.shadows), ("tint highlights", look.highlights)):
        if coloured and np.hypot(*shift) >= 3.0:
            knobs.append((zone, "", _hue(shift)))
    if look.top:
        knobs.append(("exposure", "top", ""))
    return knobs


def _hue(shift: Pair) -> str:
    return hue_name(*shift)


def _whole(look: Look) -> Amounts:
    """What a look needs that is done or not done."""
    return {(MONOCHROME, "", ""): 100.0} if look.mono >= 1.0 and look.cast == (0.0, 0.0) else {}


def _controlled(evidence: Evidence, used: Instruction, used_text: str) -> list[str]:
    """The phrases that steer tone, colour and grain towards the look."""
    look, wish = evidence.aim.look, evidence.wish
    spent = amounts_of(used)
    fixed = _whole(look) | wish.fixed
    knobs = [key for key in knobs_of(look) if key not in fixed]
    turned = _turned_hues(evidence)
    source, goal = shrink(_with_hues(evidence.seen.source.thumb, turned)), shrink(evidence.aim.thumb)
    in_place = evidence.seen.in_place
    learned = _lesson(evidence, used, spent) if spent else Learned()
    # Surely below half of what was expected: the phrase was not understood, or the other way round.
    deaf = {key for key, gain in learned.gains.items() if gain + 2.0 * learned.errors[key] < 0.45}
    trusted = _trusted(learned, deaf)
    amounts = solve(source, goal, knobs, fixed=fixed, start=spent, learned=trusted, in_place=in_place)
    lowered = used_text.lower()
    out: list[str] = []
    # Tints first: "decrease the warmth, tint the shadows teal" could pass its verb on.
    spoken = sorted((_whole(look) | amounts).items(), key=lambda item: not item[0][0].startswith("tint"))
    for key, percent in spoken:
        rounded = round(_settled(percent, spent.get(key)))
        if abs(rounded) > DEAD_ZONE:
            variant = variant_in(lowered, key) + (1 if key in deaf else 0) if key in spent else 0
            out.append(phrase(key, rounded, variant=variant % variants(key)))
    out += [f"shift the hue of the {name} by {0.9 * move.turn:.0f} degrees" for name, move in turned.items()]
    return out + _textures(evidence, used)


def _turned_hues(evidence: Evidence) -> dict[str, HueMove]:
    """The ranges of hues the look turns and the source has, by name."""
    out: dict[str, HueMove] = {}
    for move in evidence.aim.look.hues:
        name = hue_range(move.centre)
        mask = region_mask(name, evidence.seen.source.thumb)
        if mask is not None and float(mask.mean()) > 0.06:
            out[name] = move
    return out


def _with_hues(thumb: Floats, turned: Mapping[str, HueMove]) -> Floats:
    """The thumb after these ranges of hues were turned."""
    for move in turned.values():
        thumb = turn_hues(thumb, move)
    return thumb


def _lesson(evidence: Evidence, used: Instruction, spent: Mapping[Key, float]) -> Learned:
    turned = _turned_hues(evidence) if any(op.name == "hue" for op in used.ops) else {}
    source, candidate = shrink(_with_hues(evidence.seen.source.thumb, turned)), shrink(evidence.thumb)
    return learn(source, candidate, spent, in_place=evidence.seen.in_place)


def _trusted(learned: Learned, deaf: set[Key]) -> Learned:
    """What to expect of the next attempt: an editor's seed makes some of every deviation, so most of it, not all.

    Phrases that will be said otherwise are expected to work.
    """
    gains = {key: 1.0 + 0.6 * (gain - 1.0) for key, gain in learned.gains.items() if key not in deaf}
    return Learned(gains, learned.errors, learned.rest * 0.6)


def _settled(percent: float, before: float | None) -> float:
    """Small corrections are noise: keep the amount that was used."""
    if before is not None and abs(percent - before) <= DEAD_ZONE:
        return before
    return percent


def _textures(evidence: Evidence, used: Instruction) -> list[str]:
    """Grain and clarity, each controlled alone."""
    out: list[str] = []
    look = evidence.aim.look
    said = {op.name: op for op in evidence.wish.instruction.ops}
    if look.grain > 0.4 and "grain" not in said:
        before = next((op.percent for op in used.ops if op.name == "grain"), 0.0)
        percent = look.grain / _GRAIN_PER_PERCENT
        if before > 0:
            factor = np.clip(look.grain / max(0.15, evidence.grain_added), 0.5, 2.0)
            percent = _settled(before * float(factor) ** 0.8, before)
        out.append(phrase(("grain", "", ""), round(min(percent, 90.0))))
    if look.clarity > 0 and "clarity" not in said:
        out.append(phrase(("clarity", "", ""), round(100 * look.clarity)))
    return out


def _asked(evidence: Evidence, used: Instruction, used_text: str) -> list[str]:
    """The caller's own explicit requests, word for word while they work."""
    out: list[str] = []
    wish = evidence.wish
    mixed = {said.said for said in wish.instruction.looks}
    spoken = len(wish.asks)
    out += [op.said if not any(look in op.said.lower() for look in mixed) else _canonical(op) for op in wish.stated]
    for index, finding in enumerate(evidence.findings):
        op = finding.op
        own = index < spoken and bool(op.said) and not any(look in op.said.lower() for look in mixed)
        out.append(_again(op, finding.done, own=own, used=used, used_text=used_text))
    return out


def _again(op: Op, done: float, *, own: bool, used: Instruction, used_text: str) -> str:
    """How to ask once more: the same words if they work, other words or amounts if not."""
    before = next((other for other in used.ops if other.name == op.name), None)
    if own and (done >= 0.5 or before is None):
        return op.said
    graded = op.name in _GRADED
    if before is None:
        return _canonical(op)
    if done < 0.15 and not (own and before.said != op.said and done > 0):
        # Their own words had no effect: first the plain phrase, then the next one.
        tried = -1 if before.said == op.said and own and not _is_plain(op) else variant_in(used_text.lower(), op.key)
        return _canonical(op, variant=(tried + 1) % variants(op.key), percent=before.percent)
    if graded and done < 0.8:
        more = float(np.clip(abs(before.percent) * np.clip(0.9 / max(done, 0.2), 1.15, 2.0), 5.0, 95.0))
        return _canonical(op, variant=variant_in(used_text.lower(), op.key), percent=op.sign * more)
    return before.said or _canonical(op)


_GRADED = frozenset(
    {
        *("background blur", "blur", "sharpen", "clarity", "grain", "denoise", "haze", "light leak", "white vignette"),
        *("exposure", "contrast", "saturation", "warmth", "posterise", "pixelate", "emboss"),
    }
)
"""Asks that can be done more or less."""


def _is_plain(op: Op) -> bool:
    return _canonical(op) in op.said.lower()


def _canonical(op: Op, *, variant: int = 0, percent: float | None = None) -> str:
    """The editor's own phrase for an operation."""
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
