# ruff: noqa: PLR2004 - the calibration of the scores: every number's unit is in the description next to it
"""How far each clause of an instruction is carried out, and the semantic score.

Every clause is a part: measured, with a share and the figure behind it, or not measured, with the reason. A picture satisfies
only if every part was measured.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

from services.embedded.cielab import F32, colour_to_lab, f32
from services.embedded.instructions.operations import GEOMETRY, Area, Kind, Operation
from services.embedded.regions import side
from services.embedded.thinker.evidence import Evidence
from services.embedded.thinker.forward import MODELLED
from services.embedded.thinker.measurements import MeasuredPicture, Tone, delta_e, gap, tone_of

UNTOUCHED = 1.5
"""The score of a candidate that shows nothing of what was asked for."""
BEST = 9.8
PARTLY = 6.0
"""The highest score when a part of the instruction was not measured, or nothing was left to do."""
NOT_UNDERSTOOD = 1.0
"""The score when nothing of the instruction can be judged."""
_ALL_OR_NOTHING = frozenset({Kind.MONOCHROME, Kind.INVERT})
_INVISIBLE = 0.25  # CIELAB of expected change below which an operation is not measured
_LEAST_LIT = 0.2  # of the thumb; of black on white only the rims of the shapes become brighter
_FAR_OFF = re.compile(
    r"\b(far|way|much|really|extremely)\s+too\b|\b(?:hardly|barely|can['\u2019]?t|cannot) see\b"
    r"|\b(?:under|over)[- ]?exposed\b|\bblown[- ]out\b|\bblinding\b",
    re.IGNORECASE,
)
_FAR, _HALF = 0.85, 0.5  # of the way to normal, behind "far too" and the others
_NORMAL = 44.0  # mean L* of a picture that is no longer called dark; 12 more is not yet called bright
_KEEPS = re.compile(r"\b(keep|preserve|protect|retain|maintain)(ing|s)?\b[^,.;!]*", re.IGNORECASE)
_KEPT_ANYWAY = re.compile(r"\b(everything|rest|else|details?|composition|framing|size|as (it|they) (is|are))\b", re.IGNORECASE)
_TOO_SMALL = "its effect on this picture is too small to be measured"


@dataclass(frozen=True)
class Part:
    """One clause and how far it is done (1 done, 0 not at all, below 0 worse than before).

    `operation` is None for a look, its grain, and what is not an operation. `measured` is False where nothing was: `description`
    then says why. `ratio` is the measured share of the expected change, where there is one.
    """

    name: str
    done: float
    weight: float
    description: str
    operation: Operation | None = None
    measured: bool = True
    ratio: float | None = None


def _unmeasured(name: str, why: str, operation: Operation | None = None) -> Part:
    return Part(name, 0.0, 0.0, why, operation, measured=False)


def parts_of(evidence: Evidence) -> list[Part]:
    """All clauses of the instruction."""
    instruction = evidence.instruction
    parts = [_operation(evidence, operation) for operation in instruction.operations]
    parts += _look(evidence) + _protected(evidence)
    parts += [_unmeasured(phrase, "I measure pictures and cannot judge this") for phrase in instruction.unjudged]
    return parts + [_unmeasured(refusal.phrase, refusal.reason) for refusal in instruction.refusals]


def semantic(parts: list[Part]) -> float:
    """0..10: how far the instruction is carried out."""
    measured = [part for part in parts if part.measured]
    if not measured:
        return NOT_UNDERSTOOD
    mean = float(np.average([part.done for part in measured], weights=[part.weight for part in measured]))
    least = min((part.done for part in measured if part.weight > 0.3), default=mean)
    total = 0.6 * mean + 0.4 * least
    value = UNTOUCHED + ((BEST - UNTOUCHED) * total**1.15 if total >= 0 else UNTOUCHED * max(total, -1.0))
    if len(measured) < len(parts):
        value *= PARTLY / BEST  # keeps the order of candidates
    return float(np.clip(round(value, 1), 0.0, 10.0))


def _operation(evidence: Evidence, operation: Operation) -> Part:
    name = operation.describe()
    why = evidence.unclear.get(operation) or evidence.unclear.get(operation.region)
    if why:
        return _unmeasured(name, why, operation)
    if operation.kind in MODELLED:
        in_a_look = evidence.look is not None and evidence.comparison.in_place
        part = _along_with_a_look(evidence, operation) if in_a_look else _modelled(evidence, operation)
        return _to_the_eye(evidence, part, operation) if part.measured and not operation.region.terms else part
    measures = dict.fromkeys(GEOMETRY, _geometry) | {Kind.TEXT: _text, Kind.BORDER: _border}
    done, description = measures.get(operation.kind, _texture)(evidence, operation)
    return Part(name, float(np.nan_to_num(done)), 0.7, description, operation)


def _modelled(evidence: Evidence, operation: Operation) -> Part:
    """The share of an operation's own expected change that the candidate shows, with a wide tolerance for its amount."""
    thumbs = [evidence.expected, evidence.after, evidence.without[operation]]
    in_place, mask = evidence.comparison.in_place, evidence.masks.get(operation.region)
    expected, after, without = thumbs if in_place else [tone_of(thumb).zones[None] for thumb in thumbs]
    own, got = expected - without, after - without
    sizes = delta_e(expected, without)
    if float(sizes.mean()) / (1.0 if mask is None else max(0.01, float(mask.mean()))) < _INVISIBLE:
        return _unmeasured(operation.describe(), _TOO_SMALL, operation)
    if operation.kind is Kind.EXPOSURE and mask is None and float((sizes > _INVISIBLE).mean()) < _LEAST_LIT:
        return _unmeasured(operation.describe(), _TOO_SMALL, operation)
    ratio = float((own * got).sum() / (own**2).sum())
    # What happens elsewhere belongs to other operations; where this one acts, its own change must be the larger part.
    acts = sizes > 0.25 * sizes.max()
    alike = ratio / max(float(np.sqrt((got[acts] ** 2).sum() / (own[acts] ** 2).sum())), 1e-6)
    description = f"{100 * ratio:.0f}% of the expected change"
    if operation.kind in _ALL_OR_NOTHING:
        done = float(np.clip((ratio - 0.5) / 0.4, -1.0, 1.0))
    else:
        done = float(np.clip(ratio / 0.5, -1.0, 1.0)) if ratio < 1 else float(np.clip(1.0 - (ratio - 2.0) * 0.4, 0.2, 1.0))
    if done > 0:
        done *= _ramp(alike, 0.1, 0.55)
    if mask is not None and in_place and (mask < 0.05).any():
        outside = float(delta_e(after, expected)[mask < 0.05].mean())
        done -= _ramp(outside, 1.5, 5.5)
        description += f", {outside:.1f} CIELAB off what was expected outside the region"
    return Part(operation.describe(), done, 0.8, description, operation, ratio=ratio)


def _to_the_eye(evidence: Evidence, part: Part, operation: Operation) -> Part:
    """The part, held to what is seen in the whole picture in the end: its contrast, and its lightness if it was far off."""
    start, after, up = evidence.comparison.source.tone, tone_of(evidence.after), operation.amount > 0
    if operation.kind is Kind.CONTRAST:
        rise = (after.contrast + 0.5) / (start.contrast + 0.5)
        seen = _ramp(rise if up else 1 / rise, 1.0, 1.0 + 0.15 * abs(operation.amount))
        if seen >= part.done:
            return part
        figure = f"{part.description}, and contrast is {rise:.2f} times the source's in the end"
        return replace(part, done=max(0.2, seen), ratio=None, description=figure)  # from 0.2 on, more of it is asked for
    words = _FAR_OFF.search(operation.clause)
    if operation.kind is not Kind.EXPOSURE or words is None:
        return part
    before, now = float(start.mean[0]), float(after.mean[0])
    normal = max(_NORMAL, before + 6) if up else min(_NORMAL + 12, before - 6)
    share = (now - before) / (normal - before)
    description = f"mean lightness L* is {now:.0f}, normal is {normal:.0f}"
    return replace(
        part,
        done=min(part.done, float(np.clip(share / (_FAR if words[1] else _HALF), -1, 1))),
        ratio=share,
        description=description,
    )


def _along_with_a_look(evidence: Evidence, operation: Operation) -> Part:
    """How near the whole change comes to the expected one, along the change that this operation makes alone."""
    own = evidence.without[operation] - evidence.start
    size = float((own**2).sum())
    if size < 1e-3:
        return _unmeasured(operation.describe(), _TOO_SMALL, operation)
    expected, got = (float(((one - evidence.start) * own).sum()) / size for one in (evidence.expected, evidence.after))
    off = max(0.0, abs(got - expected) - 0.5 - 0.25 * abs(expected)) / max(1.0, 0.7 * abs(expected))
    figures = f"along it {got:+.1f} times its own change, of {expected:+.1f} wanted with the look"
    return Part(operation.describe(), max(-0.5, 1.0 - off), 0.5, figures, operation)


def _look(evidence: Evidence) -> list[Part]:
    if evidence.look is None:
        return []
    names = " and ".join(dict.fromkeys(named.name for named in evidence.instruction.looks))
    left = remaining(evidence)
    if evidence.reach < 0.3:
        out = [Part(names, 0.45, 1.0, "the source already looks like that, so nothing was left to do")]
    else:
        # The last tenth of the distance is not visible.
        out = [Part(names, 1.0 - max(0.0, left - 0.08) / 0.92, 1.0, _look_figures(evidence, left))]
    if evidence.grain_wanted > 0:
        off = abs(evidence.grain_added - evidence.grain_wanted) / evidence.grain_wanted
        figure = f"grain {evidence.grain_added:+.1f} L* of {evidence.grain_wanted:+.1f} wanted"
        out.append(Part("its grain", 1.0 - max(0.0, off - 0.35) / 0.65, 0.12, figure))
    return out


def remaining(evidence: Evidence) -> float:
    """The share of the distance to the expected picture that remains: 0 there, 1 at the source."""
    figures = gap(tone_of(evidence.after), evidence.expected_tone) / max(1.0, evidence.reach)
    if not evidence.comparison.in_place:
        return figures
    reach, left = (float(delta_e(one, evidence.expected).mean()) for one in (evidence.start, evidence.after))
    return 0.55 * figures + 0.45 * left / max(2.5, reach)


def _figures(tone: Tone) -> dict[str, float]:
    return {
        "mean lightness L*": tone.mean[0],
        "warmth b*": tone.mean[2],
        "tint a*": tone.mean[1],
        "contrast": tone.contrast,
        "black point L*": tone.zones[0, 0],
        "white point L*": tone.zones[4, 0],
        "colourfulness": tone.spread,
        "corners L*": tone.corner,
    }


def _look_figures(evidence: Evidence, left: float) -> str:
    """The four figures furthest from the expected ones: measured change against wanted change."""
    start, now, target = map(_figures, (evidence.comparison.source.tone, tone_of(evidence.after), evidence.expected_tone))
    rows = [(name, now[name] - start[name], target[name] - start[name]) for name in start]
    rows.sort(key=lambda row: -abs(row[2] - row[1]) - 0.3 * abs(row[2]))
    figures = ", ".join(f"{name} {got:+.1f} of {wanted:+.1f} wanted" for name, got, wanted in rows[:4])
    return f"{100 * max(-1.0, 1.0 - left):.0f}% of the way from the source: {figures}"


def _protected(evidence: Evidence) -> list[Part]:
    reading = evidence.instruction
    kept = bool(reading.protected or reading.forbidden or reading.refusals)
    kept = kept or any(operation.region.inverted for operation in reading.operations)
    asked = [] if kept else [found.group().strip() for found in _KEEPS.finditer(reading.text)]
    out = [
        _unmeasured(words, "what this should keep was not told from the rest")
        for words in asked
        if not _KEPT_ANYWAY.search(words)
    ]
    for region in evidence.instruction.protected:
        name = f"keep {region}"
        if not evidence.comparison.in_place:
            out.append(_unmeasured(name, "it is not found again"))
            continue
        inside = evidence.masks[region] > 0.9
        moved = float(delta_e(evidence.after, evidence.start)[inside].mean()) if inside.any() else 0.0
        out.append(Part(name, 1.0 - 2.0 * _ramp(moved, 1.5, 5.0), 0.4, f"it changed by {moved:.1f} CIELAB"))
    return out


def _ramp(value: float, zero: float, one: float) -> float:
    """0 at `zero`, 1 at `one`, linear between and clipped outside."""
    return float(np.clip((value - zero) / (one - zero), 0.0, 1.0))


def _change(before: float, after: float) -> float:
    """By how much per cent a figure rose."""
    return 100.0 * ((after + 1e-3) / (before + 1e-3) - 1.0)


def _graded(operation: Operation, moved: float, full: float) -> float:
    """How far an operation is done by a change of `moved`, where 30 % should give `full`, in proportion to the amount."""
    sign = -1 if operation.amount < 0 else 1
    done = moved * sign / (full * max(0.15, abs(operation.amount) / 0.3)) / 0.5
    return float(np.clip(done, -0.5, 1.0)) - _ramp(done, 10.0, 25.0)


def _texture(evidence: Evidence, operation: Operation) -> tuple[float, str]:
    before, after = evidence.comparison.source, evidence.comparison.candidate
    if operation.kind is Kind.GRAIN:
        return _graded(operation, evidence.grain_added, 2.4), f"grain {evidence.grain_added:+.1f} L*"
    if operation.kind is Kind.DENOISE:
        change = _change(before.texture.grain, after.texture.grain)
        return _ramp(-change, 2.0, 20.0), f"noise {change:+.0f}%"
    if operation.kind is Kind.CLARITY:
        change = _change(*((one.texture.medium + one.texture.coarse) / (one.tone.contrast + 1e-3) for one in (before, after)))
        return _graded(operation, change, 4.0), f"local contrast {change:+.0f}%"
    if operation.kind is Kind.BLUR:
        softer = _change(_sharpness(after), _sharpness(before))
        return _graded(operation, min(softer, 200.0), 60.0), f"softness {softer:+.0f}%"
    sharper = _change(_sharpness(before), _sharpness(after))
    return _graded(operation, sharper, 15.0), f"sharpness {sharper:+.0f}%"


def _sharpness(picture: MeasuredPicture) -> float:
    return (picture.texture.fine + 1e-3) / (picture.texture.medium + 1e-3)


def _geometry(evidence: Evidence, operation: Operation) -> tuple[float, str]:
    comparison = evidence.comparison
    if comparison.reshaped:
        return 0.0, "the shape is another than this would give"
    if operation.kind is Kind.STRAIGHTEN:
        before, after = evidence.tilts
        if before is None or after is None:
            return 0.0, "the tilt of the candidate could not be measured"
        better = 1.0 - abs(after) / max(abs(before), 0.1)
        return _ramp(better, 0.2, 0.7), f"lines were {before:+.1f}° off level and are {after:+.1f}° now"
    found = f"{100 * comparison.structure:.0f}% of the detail is where this would put it, {100 * evidence.raw:.0f}% where it was"
    told = 1.0 if operation.kind is Kind.CROP else _ramp(comparison.structure - evidence.raw, 0.02, 0.15)
    return _ramp(comparison.structure, 0.35, 0.7) * told, found


def _lab_of(operation: Operation) -> F32:
    """The colour of what is drawn, white by default."""
    return f32(colour_to_lab(operation.colour.rgb) if operation.colour else (100, 0, 0))


def _text(evidence: Evidence, operation: Operation) -> tuple[float, str]:
    """New pixels of the text's colour at its place; the letters are not read."""
    source, after = evidence.comparison.source.frame, evidence.comparison.after_frame
    own = (delta_e(after, source) > 14.0) & (delta_e(after, _lab_of(operation)) < 30.0)
    where = np.ones(own.shape, dtype=np.bool_)
    for area in operation.positions or (Area.BOTTOM,):
        where &= side(own.shape[0], own.shape[1], area) > 0.1
    share, strayed = float((own & where).mean()), float((own & ~where).sum() / max(1, int(own.sum())))
    done = _ramp(share, 0.0005, 0.002) * (1.0 - _ramp(strayed, 0.2, 0.6))
    figure = f"{100 * share:.2f}% of the picture is new and {operation.colour} where it should stand"
    return done, f"{figure} (the letters are not read)"


def _border(evidence: Evidence, operation: Operation) -> tuple[float, str]:
    coloured = delta_e(evidence.comparison.candidate.frame, _lab_of(operation)) < 14.0
    depth = max(1, round(0.8 * operation.amount * min(coloured.shape)))
    least = min(float(edge.mean()) for edge in (coloured[:depth], coloured[-depth:], coloured[:, :depth], coloured[:, -depth:]))
    done = _ramp(least, 0.5, 0.9) * (1.0 - _ramp(float(coloured.mean()), 0.9, 0.98))
    return done, f"{100 * least:.0f}% of each edge is {operation.colour}"
