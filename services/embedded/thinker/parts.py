# ruff: noqa: PLR2004 - the calibration of the scores: every number's unit is in the description next to it
"""How far each clause of an instruction is carried out, and the semantic score.

Every clause is a part: measured, with a share and the figure behind it, or not measured, with the reason. A picture satisfies
only if every part was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.embedded.cielab import F32, colour_to_lab, f32
from services.embedded.instructions.operations import GEOMETRY, Area, Kind, Operation
from services.embedded.regions import side
from services.embedded.thinker.evidence import Evidence
from services.embedded.thinker.forward import MODELLED
from services.embedded.thinker.measurements import Texture, distance, gap, tone_of, tone_vector
from services.embedded.thinker.pictures import reduce

UNTOUCHED = 1.5
"""The score of a candidate that shows nothing of what was asked for."""
BEST = 9.8
PARTLY = 6.0
"""The highest score when a part of the instruction was not measured, or nothing was left to do."""
NOT_UNDERSTOOD = 1.0
"""The score when nothing of the instruction can be judged."""
_ALL_OR_NOTHING = frozenset({Kind.MONOCHROME, Kind.INVERT})
_INVISIBLE = 0.25  # CIELAB of expected change below which an operation is not measured


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


def parts_of(evidence: Evidence) -> list[Part]:
    """All clauses of the instruction."""
    parts = [_operation(evidence, operation) for operation in evidence.instruction.operations]
    parts += _look(evidence)
    parts += _protected(evidence)
    unmeasured = [(phrase, "I measure pictures and cannot judge this") for phrase in evidence.instruction.unjudged]
    unmeasured += [(refusal.phrase, refusal.reason) for refusal in evidence.instruction.refusals]
    return parts + [Part(phrase, 0.0, 0.0, reason, measured=False) for phrase, reason in unmeasured]


def semantic(parts: list[Part]) -> float:
    """0..10: how far the instruction is carried out."""
    measured = [part for part in parts if part.measured]
    if not measured:
        return NOT_UNDERSTOOD
    weights = np.array([part.weight for part in measured])
    done = np.array([part.done for part in measured])
    heavy = done[weights > 0.3]
    mean = float((done * weights).sum() / weights.sum())
    least = float(heavy.min()) if len(heavy) else mean
    total = 0.6 * mean + 0.4 * least
    value = UNTOUCHED + ((BEST - UNTOUCHED) * total**1.15 if total >= 0 else UNTOUCHED * max(total, -1.0))
    if len(measured) < len(parts):
        value *= PARTLY / BEST  # keeps the order of candidates
    return float(np.clip(round(value, 1), 0.0, 10.0))


def _operation(evidence: Evidence, operation: Operation) -> Part:
    name = operation.describe()
    why = evidence.unclear.get(operation) or evidence.unclear.get(operation.region)
    if why:
        return Part(name, 0.0, 0.0, why, operation, measured=False)
    if operation.kind in GEOMETRY:
        done, description = _geometry(evidence, operation)
    elif operation.kind in MODELLED:
        return _modelled(evidence, operation)
    elif operation.kind is Kind.TEXT:
        done, description = _text(evidence, operation)
    elif operation.kind is Kind.BORDER:
        done, description = _border(evidence, operation)
    else:
        done, description = _texture(evidence, operation)
    return Part(name, float(np.nan_to_num(done)), 0.7, description, operation)


def _modelled(evidence: Evidence, operation: Operation) -> Part:
    """The share of an operation's own expected change that the candidate shows, with a wide tolerance for its amount."""
    if evidence.look is not None and evidence.comparison.in_place:
        return _beside_a_look(evidence, operation)
    name, without, expected = operation.describe(), evidence.without[operation], evidence.expected
    if evidence.comparison.in_place:
        own, got = expected - without, evidence.after - without
    else:
        figures = [tone_vector(thumb)[:15].reshape(1, 5, 3) for thumb in (expected, without, evidence.after)]
        own, got = figures[0] - figures[1], figures[2] - figures[1]
    visible = float(np.sqrt((own**2).sum(axis=2)).mean())
    mask = evidence.masks.get(operation.region)
    share_of_picture = 1.0 if mask is None else max(0.01, float(mask.mean()))
    if visible / share_of_picture < _INVISIBLE:
        return Part(name, 0.0, 0.0, "its effect on this picture is too small to be measured", operation, measured=False)
    ratio = float((own * got).sum() / (own**2).sum())
    # What happens elsewhere belongs to other operations; where this one acts, its own change must be the larger part.
    acts = np.sqrt((own**2).sum(axis=2)) > 0.25 * float(np.sqrt((own**2).sum(axis=2)).max())
    along = float(np.sqrt((got[acts] ** 2).sum() / (own[acts] ** 2).sum()))
    alike = ratio / max(along, 1e-6)
    description = f"{100 * ratio:.0f}% of the expected change"
    if operation.kind in _ALL_OR_NOTHING:
        done = float(np.clip((ratio - 0.5) / 0.4, -1.0, 1.0))
    elif ratio < 1:
        done = float(np.clip(ratio / 0.5, -1.0, 1.0))
    else:
        done = float(np.clip(1.0 - (ratio - 2.0) * 0.4, 0.2, 1.0))
    if done > 0:
        done *= float(np.clip((alike - 0.1) / 0.45, 0.0, 1.0))
    if mask is not None and evidence.comparison.in_place:
        outside = _outside(evidence, mask)
        done -= max(0.0, min(1.0, (outside - 1.5) / 4.0))
        description += f", {outside:.1f} CIELAB beside what was expected outside the region"
    return Part(name, done, 0.8, description, operation, ratio=ratio)


def _beside_a_look(evidence: Evidence, operation: Operation) -> Part:
    """How near the whole change comes to the expected one, along the change that this operation makes alone."""
    thumb = evidence.comparison.source.thumb
    own = evidence.without[operation] - thumb
    size = float((own**2).sum())
    if size < 1e-3:
        why = "its effect on this picture is too small to be measured"
        return Part(operation.describe(), 0.0, 0.0, why, operation, measured=False)
    expected, got = (float(((one - thumb) * own).sum()) / size for one in (evidence.expected, evidence.after))
    off = max(0.0, abs(got - expected) - 0.5 - 0.25 * abs(expected)) / max(1.0, 0.7 * abs(expected))
    figures = f"along it {got:+.1f} times its own change, of {expected:+.1f} wanted with the look"
    return Part(operation.describe(), max(-0.5, 1.0 - off), 0.5, figures, operation)


def _outside(evidence: Evidence, mask: F32) -> float:
    """Mean CIELAB distance from the expected picture where a region is not."""
    outside = mask < 0.05
    if not outside.any():
        return 0.0
    return float(np.sqrt(((evidence.after - evidence.expected)[outside] ** 2).sum(axis=1)).mean())


def _look(evidence: Evidence) -> list[Part]:
    look = evidence.look
    if look is None:
        return []
    names = " and ".join(dict.fromkeys(named.name for named in evidence.instruction.looks))
    out: list[Part] = []
    left = remaining(evidence)
    if evidence.reach < 0.3:
        out.append(Part(names, 0.45, 1.0, "the source already looks like that, so nothing was left to do"))
    else:
        # The last tenth of the distance is not visible.
        out.append(Part(names, 1.0 - max(0.0, left - 0.08) / 0.92, 1.0, _look_figures(evidence, left)))
    if evidence.grain_wanted > 0:
        off = abs(evidence.grain_added - evidence.grain_wanted) / evidence.grain_wanted
        figure = f"grain {evidence.grain_added:+.1f} L* of {evidence.grain_wanted:+.1f} wanted"
        out.append(Part("its grain", 1.0 - max(0.0, off - 0.35) / 0.65, 0.12, figure))
    return out


def remaining(evidence: Evidence) -> float:
    """The share of the distance to the expected picture that remains: 0 there, 1 at the source."""
    comparison, after = evidence.comparison, evidence.after
    figures = gap(tone_of(after), evidence.expected_tone) / max(1.0, evidence.reach)
    if not comparison.in_place:
        return figures
    reach = distance(comparison.source.thumb, evidence.expected)
    return 0.55 * figures + 0.45 * distance(after, evidence.expected) / max(2.5, reach)


def _look_figures(evidence: Evidence, left: float) -> str:
    """The four figures furthest from the expected ones: measured change against wanted change."""
    start, target, now = evidence.comparison.before.tone, evidence.expected_tone, tone_of(evidence.after)
    rows = [
        ("mean lightness L*", now.mean[0] - start.mean[0], target.mean[0] - start.mean[0]),
        ("warmth b*", now.mean[2] - start.mean[2], target.mean[2] - start.mean[2]),
        ("tint a*", now.mean[1] - start.mean[1], target.mean[1] - start.mean[1]),
        ("contrast", now.contrast - start.contrast, target.contrast - start.contrast),
        ("black point L*", now.zones[0, 0] - start.zones[0, 0], target.zones[0, 0] - start.zones[0, 0]),
        ("white point L*", now.zones[4, 0] - start.zones[4, 0], target.zones[4, 0] - start.zones[4, 0]),
        ("colourfulness", now.spread - start.spread, target.spread - start.spread),
        ("corners L*", now.corner - start.corner, target.corner - start.corner),
    ]
    rows.sort(key=lambda row: -abs(row[2] - row[1]) - 0.3 * abs(row[2]))
    figures = ", ".join(f"{name} {got:+.1f} of {wanted:+.1f} wanted" for name, got, wanted in rows[:4])
    return f"{100 * max(-1.0, 1.0 - left):.0f}% of the way from the source: {figures}"


def _protected(evidence: Evidence) -> list[Part]:
    out: list[Part] = []
    for region in evidence.instruction.protected:
        why, mask = evidence.unclear.get(region), evidence.masks.get(region)
        if why or mask is None or not evidence.comparison.in_place:
            out.append(Part(f"keep {region}", 0.0, 0.0, why or "it is not found again", measured=False))
            continue
        inside = mask > 0.9
        change = evidence.after - evidence.comparison.source.thumb
        moved = float(np.sqrt((change[inside] ** 2).sum(axis=1)).mean()) if inside.any() else 0.0
        out.append(Part(f"keep {region}", 1.0 - 2.0 * _ramp(moved, 1.5, 5.0), 0.4, f"it changed by {moved:.1f} CIELAB"))
    return out


def _ramp(value: float, zero: float, one: float) -> float:
    """0 at `zero`, 1 at `one`, linear between and clipped outside."""
    return float(np.clip((value - zero) / (one - zero), 0.0, 1.0))


def _ratio(after: float, before: float) -> float:
    return (after + 1e-3) / (before + 1e-3)


def _graded(operation: Operation, moved: float, full: float) -> float:
    """How far an operation is done by a change of `moved`, where 30 % should give `full`, in proportion to the amount."""
    sign = -1 if operation.amount < 0 else 1
    done = moved * sign / (full * max(0.15, abs(operation.amount) / 0.3)) / 0.5
    return float(np.clip(done, -0.5, 1.0) - _ramp(done, 10.0, 25.0))


def _sharpness(texture: Texture) -> float:
    return _ratio(texture.fine, texture.medium)


def _texture(evidence: Evidence, operation: Operation) -> tuple[float, str]:
    before, after = evidence.comparison.before, evidence.comparison.after
    if operation.kind is Kind.GRAIN:
        return _graded(operation, evidence.grain_added, 2.4), f"grain {evidence.grain_added:+.1f} L*"
    if operation.kind is Kind.DENOISE:
        share = 100.0 * (1.0 - _ratio(after.texture.grain, before.texture.grain))
        return _ramp(share, 2.0, 20.0), f"noise {-share:+.0f}%"
    if operation.kind is Kind.CLARITY:
        first, second = (_ratio(one.texture.medium + one.texture.coarse, one.tone.contrast) for one in (before, after))
        return _graded(
            operation, 100.0 * (_ratio(second, first) - 1.0), 4.0
        ), f"local contrast {100 * (second / first - 1):+.0f}%"
    first, second = _sharpness(before.texture), _sharpness(after.texture)
    if operation.kind is Kind.BLUR:
        softer = 100.0 * (_ratio(first, second) - 1.0)
        return min(1.0, _graded(operation, min(softer, 200.0), 60.0)), f"softness {softer:+.0f}%"
    sharper = 100.0 * (_ratio(second, first) - 1.0)
    return _graded(operation, sharper, 15.0), f"sharpness {sharper:+.0f}%"


def _geometry(evidence: Evidence, operation: Operation) -> tuple[float, str]:
    comparison = evidence.comparison
    found = f"{100 * comparison.structure:.0f}% of the detail is where this would put it, {100 * evidence.raw:.0f}% where it was"
    if comparison.reshaped:
        return 0.0, "the shape is another than this would give"
    if operation.kind is Kind.STRAIGHTEN:
        before, after = evidence.tilts
        if before is None or after is None:
            return 0.0, "the tilt of the candidate could not be measured"
        better = 1.0 - abs(after) / max(abs(before), 0.1)
        return _ramp(better, 0.2, 0.7), f"lines were {before:+.1f}° off level and are {after:+.1f}° now"
    told = 1.0 if operation.kind is Kind.CROP else _ramp(comparison.structure - evidence.raw, 0.02, 0.15)
    return _ramp(comparison.structure, 0.35, 0.7) * told, found


def _text(evidence: Evidence, operation: Operation) -> tuple[float, str]:
    """New pixels of the text's colour at its place; the letters are not read."""
    comparison = evidence.comparison
    source = comparison.source.frame
    after = reduce(comparison.candidate.frame, source.shape[1], source.shape[0])
    changed = np.sqrt(((after - source) ** 2).sum(axis=2)) > 14.0
    colour = f32(colour_to_lab(operation.colour.rgb)) if operation.colour else f32([100, 0, 0])
    own = changed & (np.sqrt(((after - colour) ** 2).sum(axis=2)) < 30.0)
    where = np.ones(changed.shape, dtype=np.bool_)
    for area in operation.positions or (Area.BOTTOM,):
        where &= side(changed.shape[0], changed.shape[1], area) > 0.1
    share, strayed = float((own & where).mean()), float((own & ~where).sum() / max(1, int(own.sum())))
    done = _ramp(share, 0.0006, 0.003) * (1.0 - _ramp(strayed, 0.2, 0.6))
    return (
        done,
        f"{100 * share:.2f}% of the picture is new and {operation.colour} where it should stand (the letters are not read)",
    )


def _border(evidence: Evidence, operation: Operation) -> tuple[float, str]:
    frame = evidence.comparison.candidate.frame
    depth = max(1, round(0.8 * operation.amount * min(frame.shape[:2])))
    edges = [frame[:depth], frame[-depth:], frame[:, :depth], frame[:, -depth:]]
    colour = f32(colour_to_lab(operation.colour.rgb)) if operation.colour else f32([100, 0, 0])
    shares = [float((np.sqrt(((edge.reshape(-1, 3) - colour) ** 2).sum(axis=1)) < 14.0).mean()) for edge in edges]
    whole = float((np.sqrt(((frame - colour) ** 2).sum(axis=2)) < 14.0).mean())
    done = _ramp(min(shares), 0.5, 0.9) * (1.0 - _ramp(whole, 0.9, 0.98))
    return done, f"{100 * min(shares):.0f}% of each edge is {operation.colour}"
