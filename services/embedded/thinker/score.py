# ruff: noqa: PLR2004 - the calibration of the scores: a weight next to each figure
"""Scores from measurements: semantic (is the instruction carried out?) and quality (is the picture free of damage?)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from services.embedded.thinker.evidence import Evidence
from services.embedded.thinker.measurements import distance, local_change_map
from services.embedded.thinker.target_picture import gap

UNTOUCHED = 1.5
"""The score of a candidate that shows nothing of what was asked for."""
BEST = 9.8
PARTLY = 6.0
"""The highest score when a part of the instruction cannot be judged."""
NOT_UNDERSTOOD = 1.0
"""The score when nothing of the instruction can be judged."""
_REDRAWS = frozenset(
    {
        *("blur", "background blur", "background", "pixelate", "posterise", "sketch", "emboss", "invert", "denoise"),
        *("rotate", "crop", "flip horizontal", "flip vertical", "selective", "text", "border"),
    }
)
"""Operations after which the source's detail is not expected in its place."""


@dataclass(frozen=True)
class Part:
    """One part of an instruction and how far it is done (1 done, 0 not at all, below 0 worse than before)."""

    name: str
    done: float
    weight: float


Fault = Literal["clipping", "colour", "texture", "detail", "size", "rest"]
"""What a damage is about; `rest` is a change that was not requested."""


@dataclass(frozen=True)
class Damage:
    """A defect that was not requested, its cost in points, and a description with the figure."""

    fault: Fault
    points: float
    description: str


def remaining(evidence: Evidence) -> float:
    """The share of the distance to the target picture that remains: 0 at the target, 1 at the source."""
    target = evidence.target
    figures = gap(evidence.tone, target.tone) / max(1.0, target.reach)
    if not evidence.comparison.in_place:
        return figures
    reach = distance(evidence.comparison.source.thumb, target.thumb)
    return 0.55 * figures + 0.45 * distance(evidence.thumb, target.thumb) / max(2.5, reach)


def measured_parts(evidence: Evidence) -> list[Part]:
    """The parts of the instruction that were understood, each with how far it is done."""
    out: list[Part] = []
    intent = evidence.intent
    if intent.plain and (intent.look is not None or intent.stated):
        out.append(Part("adjustments", followed_share(evidence), 0.5 if evidence.local else 1.0))
    elif intent.look is not None and evidence.target.reach > 0.05:
        left = remaining(evidence)
        # The last tenth of the distance is not visible.
        out.append(
            Part("look", 1.0 - max(0.0, left - 0.08) / 0.92, 0.5 if evidence.local or evidence.target.look.poster else 1.0)
        )
    if evidence.grain_wanted > 0:
        off = abs(evidence.grain_added - evidence.grain_wanted) / evidence.grain_wanted
        out.append(Part("grain", 1.0 - max(0.0, off - 0.35) / 0.65, 0.12))
    implied = len(intent.implied)
    for index, finding in enumerate(evidence.findings):
        spoken = index < len(evidence.findings) - implied
        out.append(Part(finding.op.name, finding.share, 0.7 if spoken else 0.6))
    return out


def followed_share(evidence: Evidence) -> float:
    """How far plain adjustments were followed, with a wide tolerance, since editors scale their sliders differently."""
    comparison = evidence.comparison
    if comparison.in_place:
        wanted, got = evidence.target.thumb - comparison.source.thumb, evidence.thumb - comparison.source.thumb
    else:
        start = evidence.target.start.zones
        wanted, got = evidence.target.tone.zones - start, evidence.tone.zones - start
    energy = float((wanted**2).sum())
    if energy < 1e-6:
        return 1.0
    ratio = float((wanted * got).sum()) / energy
    along = float(np.sqrt((got**2).sum() / energy))
    alike = ratio / max(along, 1e-6)
    followed = float(np.clip(ratio / 0.45, -1.0, 1.0)) if ratio < 1 else float(np.clip(1.0 - (ratio - 2.2) * 0.4, 0.2, 1.0))
    # A change that is mostly in another direction does not follow the instruction.
    return followed * float(np.clip((alike - 0.1) / 0.5, 0.0, 1.0)) if followed > 0 else followed


def semantic(evidence: Evidence, parts: list[Part]) -> float:
    """0..10: how far the instruction is carried out."""
    if not parts and not evidence.intent.understood:
        return NOT_UNDERSTOOD
    value = _done(parts) if parts else _already(evidence)
    # What cannot be judged does not count as done, even when everything else is.
    if evidence.intent.unknown:
        value = min(value * 0.7, PARTLY)
    return float(np.clip(round(value, 1), 0.0, 10.0))


def _done(parts: list[Part]) -> float:
    """How far the parts are done, on the scale of scores."""
    weights = np.array([part.weight for part in parts])
    done = np.array([part.done for part in parts])
    heavy = done[weights > 0.3]
    mean = float((done * weights).sum() / weights.sum())
    least = float(heavy.min()) if len(heavy) else mean
    total = 0.65 * mean + 0.35 * least
    return UNTOUCHED + ((BEST - UNTOUCHED) * total**1.15 if total >= 0 else UNTOUCHED * max(total, -1.0))


def _already(evidence: Evidence) -> float:
    """The score when the source already met the instruction: the less it changed the better."""
    value = BEST - 0.5 * max(0.0, evidence.comparison.change - 2.0)
    return float(np.clip(round(value, 1), UNTOUCHED, BEST))


def quality(evidence: Evidence) -> tuple[float, list[Damage]]:
    """0..10 and the damage found; requested effects are not damage."""
    found = [*_tone_damage(evidence), *_detail_damage(evidence), *_layout_damage(evidence)]
    found = [damage for damage in found if damage.points >= 0.2]
    value = 9.7 - sum(damage.points for damage in found)
    return float(np.clip(round(value, 1), 0.0, 10.0)), found


def _names(evidence: Evidence) -> set[str]:
    return {op.name for op in evidence.intent.checks}


def _tone_damage(evidence: Evidence) -> list[Damage]:
    """Clipping, garish colour and banding beyond what the instruction implies."""
    comparison, target, names = evidence.comparison, evidence.target, _names(evidence)
    before, after = comparison.before, comparison.after
    if names & {"background", "invert", "sketch", "emboss", "border", "recolour", "selective", "hue"}:
        return []
    light = target.thumb[..., 0]
    bright = comparison.candidate.bright - max(comparison.source.bright, 1.5 * float((light > 98.5).mean()))
    dim = comparison.candidate.dim - max(comparison.source.dim, 1.5 * float((light < 1.5).mean()))
    garish = after.tone.spread - 1.35 * max(target.tone.spread, before.tone.spread) - 2.0
    out = [
        Damage("clipping", min(4.0, 14.0 * (bright - 0.01)), f"{100 * bright:.1f}% more of the picture is blown out"),
        Damage("clipping", min(3.0, 10.0 * (dim - 0.015)), f"{100 * dim:.1f}% more of the picture is blocked up"),
        Damage("colour", min(3.0, 0.25 * garish), f"the colours are garish (spread {after.tone.spread:.0f})"),
    ]
    if not names & {"posterise", "pixelate"} and target.look.poster == 0:
        flatter = min(1.0, (after.tone.contrast + 0.5) / (before.tone.contrast + 0.5))
        levels = (after.texture.levels + 4) / (before.texture.levels * flatter + 4)
        if after.texture.flat - before.texture.flat > 0.1:
            out.append(Damage("texture", min(4.0, 6.0 * (0.75 - levels)), f"tones band: {after.texture.levels} levels left"))
    return out


def _detail_damage(evidence: Evidence) -> list[Damage]:
    """Lost detail and noise that were not requested."""
    comparison, names = evidence.comparison, _names(evidence)
    out: list[Damage] = []
    redrawn = names & _REDRAWS
    found_again = comparison.structure
    noise = evidence.grain_added - evidence.grain_wanted
    if not redrawn:
        allowed = 0.1 + 0.3 * evidence.target.look.haze + 0.3 * evidence.target.look.glow + 0.04 * evidence.grain_wanted
        lost = 1.0 - found_again - allowed
        out.append(
            Damage("detail", min(5.0, 9.0 * lost), f"{100 * (1 - found_again):.0f}% of the source's detail is not found again")
        )
    if "grain" not in names and not redrawn and noise > 0:
        steeper = max(1.0, comparison.after.tone.contrast / (comparison.before.tone.contrast + 0.5))
        unasked = noise - 0.7 - comparison.before.texture.grain * (steeper - 1.0)
        out.append(Damage("texture", min(4.0, 1.1 * unasked), f"{noise:.1f} L* of noise that was not asked for"))
    return out


def _layout_damage(evidence: Evidence) -> list[Damage]:
    """Another size or shape, and local changes that were not requested."""
    comparison, names = evidence.comparison, _names(evidence)
    source, candidate = comparison.source, comparison.candidate
    out: list[Damage] = []
    if comparison.reshaped:
        if not names & {"crop", "rotate"}:
            change = f"from {source.width} x {source.height} to {candidate.width} x {candidate.height}"
            out.append(Damage("size", 3.0, f"the shape changed {change}"))
        return out
    geometry = {"crop", "rotate", "flip horizontal", "flip vertical"}
    if (source.width, source.height) != (candidate.width, candidate.height) and not names & geometry:
        out.append(Damage("size", 0.4, f"the size changed to {candidate.width} x {candidate.height}"))
    free = geometry | {"invert", "sketch", "emboss", "pixelate", "posterise", "hue"}
    if not evidence.local and not names & free and evidence.intent.understood:
        expected = local_change_map(source.thumb, evidence.target.thumb)
        share = float((comparison.local_change > 16.0).mean()) - 1.3 * float((expected > 13.0).mean()) - 0.03
        out.append(
            Damage("rest", min(5.0, 14.0 * share), f"{100 * (share + 0.03):.0f}% of the picture changed in ways nobody asked for")
        )
    return out
