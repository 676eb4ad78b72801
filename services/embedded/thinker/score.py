# ruff: noqa: PLR2004 - the calibration of the scores, one number beside each figure it weighs
"""From figures to scores: semantic (was it done?) and quality (is the picture sound?)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from services.embedded.thinker.evidence import Evidence
from services.embedded.thinker.measurements import distance, oddness
from services.embedded.thinker.target_picture import gap

UNTOUCHED = 1.5
"""What a picture scores that does not show the wish at all."""
BEST = 9.8
PARTLY = 6.0
"""The most a candidate can score when a part of the wish cannot be judged."""
NOT_UNDERSTOOD = 1.0


_REDRAWS = frozenset(
    {
        *("blur", "background blur", "background", "pixelate", "posterise", "sketch", "emboss", "invert", "denoise"),
        *("rotate", "crop", "flip horizontal", "flip vertical", "selective", "text", "border"),
    }
)
"""Asks after which the source's detail is not expected in its place."""


@dataclass(frozen=True)
class Part:
    """One part of a wish: how far it is done (1 done, 0 not, below 0 worse than before)."""

    name: str
    done: float
    weight: float


Fault = Literal["clipping", "colour", "texture", "detail", "size", "rest"]
"""What a damage is about; `rest` is what changed although nobody asked."""


@dataclass(frozen=True)
class Damage:
    """Something that is wrong with a picture whatever was asked, and its cost in points."""

    fault: Fault
    points: float
    said: str


def remaining(evidence: Evidence) -> float:
    """What remains of the way to the imagined picture: 0 there, 1 where the source was."""
    aim = evidence.aim
    figures = gap(evidence.tone, aim.tone) / max(1.0, aim.reach)
    if not evidence.seen.in_place:
        return figures
    reach = distance(evidence.seen.source.thumb, aim.thumb)
    return 0.55 * figures + 0.45 * distance(evidence.thumb, aim.thumb) / max(2.5, reach)


def parts(evidence: Evidence) -> list[Part]:
    """The parts of the wish that were understood, each with how far it is done."""
    out: list[Part] = []
    wish = evidence.wish
    if wish.plain and (wish.look is not None or wish.stated):
        out.append(Part("adjustments", followed_share(evidence), 0.5 if evidence.local else 1.0))
    elif wish.look is not None and evidence.aim.reach > 0.05:
        left = remaining(evidence)
        # The last tenth cannot be seen.
        out.append(Part("look", 1.0 - max(0.0, left - 0.08) / 0.92, 0.5 if evidence.local or evidence.aim.look.poster else 1.0))
    if evidence.grain_wanted > 0:
        off = abs(evidence.grain_added - evidence.grain_wanted) / evidence.grain_wanted
        out.append(Part("grain", 1.0 - max(0.0, off - 0.35) / 0.65, 0.12))
    implied = len(wish.implied)
    for index, finding in enumerate(evidence.findings):
        spoken = index < len(evidence.findings) - implied
        out.append(Part(finding.op.name, finding.share, 0.7 if spoken else 0.6))
    return out


def followed_share(evidence: Evidence) -> float:
    """How far plain adjustments were followed, with a wide tolerance: sliders and tastes differ."""
    seen = evidence.seen
    if seen.in_place:
        wanted, got = evidence.aim.thumb - seen.source.thumb, evidence.thumb - seen.source.thumb
    else:
        start = evidence.aim.start.zones
        wanted, got = evidence.aim.tone.zones - start, evidence.tone.zones - start
    energy = float((wanted**2).sum())
    if energy < 1e-6:
        return 1.0
    ratio = float((wanted * got).sum()) / energy
    along = float(np.sqrt((got**2).sum() / energy))
    alike = ratio / max(along, 1e-6)
    followed = float(np.clip(ratio / 0.45, -1.0, 1.0)) if ratio < 1 else float(np.clip(1.0 - (ratio - 2.2) * 0.4, 0.2, 1.0))
    # A change that is mostly something else is not what was said.
    return followed * float(np.clip((alike - 0.1) / 0.5, 0.0, 1.0)) if followed > 0 else followed


def semantic(evidence: Evidence, wish_parts: list[Part]) -> float:
    """0..10: how far the wish is carried out."""
    if not wish_parts and not evidence.wish.understood:
        return NOT_UNDERSTOOD
    value = _done(wish_parts) if wish_parts else _already(evidence)
    # What cannot be judged does not count as done, also where all the rest is, or was before.
    if evidence.wish.unknown:
        value = min(value * 0.7, PARTLY)
    return float(np.clip(round(value, 1), 0.0, 10.0))


def _done(wish_parts: list[Part]) -> float:
    """How far the parts are done, on the scale of scores."""
    weights = np.array([part.weight for part in wish_parts])
    done = np.array([part.done for part in wish_parts])
    heavy = done[weights > 0.3]
    mean = float((done * weights).sum() / weights.sum())
    least = float(heavy.min()) if len(heavy) else mean
    total = 0.65 * mean + 0.35 * least
    return UNTOUCHED + ((BEST - UNTOUCHED) * total**1.15 if total >= 0 else UNTOUCHED * max(total, -1.0))


def _already(evidence: Evidence) -> float:
    """The source already was what is wanted: the less it changed the better."""
    value = BEST - 0.5 * max(0.0, evidence.seen.change - 2.0)
    return float(np.clip(round(value, 1), UNTOUCHED, BEST))


def quality(evidence: Evidence) -> tuple[float, list[Damage]]:
    """0..10 and the damage found. What was asked for is not damage."""
    found = [*_tone_damage(evidence), *_detail_damage(evidence), *_layout_damage(evidence)]
    found = [damage for damage in found if damage.points >= 0.2]
    value = 9.7 - sum(damage.points for damage in found)
    return float(np.clip(round(value, 1), 0.0, 10.0)), found


def _names(evidence: Evidence) -> set[str]:
    return {op.name for op in evidence.wish.checks}


def _tone_damage(evidence: Evidence) -> list[Damage]:
    """Clipping, garish colour and banding beyond what the wish brings with it."""
    seen, aim, names = evidence.seen, evidence.aim, _names(evidence)
    if names & {"background", "invert", "sketch", "emboss", "border", "recolour", "selective", "hue"}:
        return []
    light = aim.thumb[..., 0]
    bright = seen.candidate.bright - max(seen.source.bright, 1.5 * float((light > 98.5).mean()))
    dim = seen.candidate.dim - max(seen.source.dim, 1.5 * float((light < 1.5).mean()))
    garish = seen.after.tone.spread - 1.35 * max(aim.tone.spread, seen.before.tone.spread) - 2.0
    out = [
        Damage("clipping", min(4.0, 14.0 * (bright - 0.01)), f"{100 * bright:.1f}% more of the picture is blown out"),
        Damage("clipping", min(3.0, 10.0 * (dim - 0.015)), f"{100 * dim:.1f}% more of the picture is blocked up"),
        Damage("colour", min(3.0, 0.25 * garish), f"the colours are garish (spread {seen.after.tone.spread:.0f})"),
    ]
    if not names & {"posterise", "pixelate"} and evidence.aim.look.poster == 0:
        flatter = min(1.0, (seen.after.tone.contrast + 0.5) / (seen.before.tone.contrast + 0.5))
        levels = (seen.after.texture.levels + 4) / (seen.before.texture.levels * flatter + 4)
        if seen.after.texture.flat - seen.before.texture.flat > 0.1:
            out.append(Damage("texture", min(4.0, 6.0 * (0.75 - levels)), f"tones band: {seen.after.texture.levels} levels left"))
    return out


def _detail_damage(evidence: Evidence) -> list[Damage]:
    """Lost detail and unasked noise."""
    seen, names = evidence.seen, _names(evidence)
    out: list[Damage] = []
    asked = names & _REDRAWS
    noise = evidence.grain_added - evidence.grain_wanted
    if not asked:
        allowed = 0.1 + 0.3 * evidence.aim.look.haze + 0.3 * evidence.aim.look.glow + 0.04 * evidence.grain_wanted
        lost = 1.0 - seen.structure - allowed
        out.append(
            Damage("detail", min(5.0, 9.0 * lost), f"{100 * (1 - seen.structure):.0f}% of the source's detail is not found again")
        )
    if "grain" not in names and not asked and noise > 0:
        steeper = max(1.0, seen.after.tone.contrast / (seen.before.tone.contrast + 0.5))
        unasked = noise - 0.7 - seen.before.texture.grain * (steeper - 1.0)
        out.append(Damage("texture", min(4.0, 1.1 * unasked), f"{noise:.1f} L* of noise that was not asked for"))
    return out


def _layout_damage(evidence: Evidence) -> list[Damage]:
    """Another size or shape, and things that changed although nobody asked."""
    seen, names = evidence.seen, _names(evidence)
    out: list[Damage] = []
    if seen.reshaped:
        if not names & {"crop", "rotate"}:
            out.append(
                Damage(
                    "size",
                    3.0,
                    f"the shape changed from {seen.source.width} x {seen.source.height} to "
                    f"{seen.candidate.width} x {seen.candidate.height}",
                )
            )
        return out
    geometry = {"crop", "rotate", "flip horizontal", "flip vertical"}
    if (seen.source.width, seen.source.height) != (seen.candidate.width, seen.candidate.height) and not names & geometry:
        out.append(Damage("size", 0.4, f"the size changed to {seen.candidate.width} x {seen.candidate.height}"))
    free = geometry | {"invert", "sketch", "emboss", "pixelate", "posterise", "hue"}
    if not evidence.local and not names & free and evidence.wish.understood:
        expected = oddness(seen.source.thumb, evidence.aim.thumb)
        share = float((seen.odd > 16.0).mean()) - 1.3 * float((expected > 13.0).mean()) - 0.03
        out.append(
            Damage("rest", min(5.0, 14.0 * share), f"{100 * (share + 0.03):.0f}% of the picture changed in ways nobody asked for")
        )
    return out
