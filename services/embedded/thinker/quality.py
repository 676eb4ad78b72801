# ruff: noqa: PLR2004 - the calibration of the damages: every number's unit is in the description next to it
"""The quality score: damage that was not asked for, measured for every operation.

What the instruction asks for is in the expected picture, and what lies on the way from the source to it is no damage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from services.embedded.cielab import F32, f32
from services.embedded.instructions.operations import GEOMETRY, Kind
from services.embedded.thinker.evidence import Evidence
from services.embedded.thinker.measurements import local_change_map
from services.embedded.thinker.pictures import reduce

UNDAMAGED = 9.7
_BEYOND = 1.35  # how far past the expected picture a change still lies on its way
_SOFTENS = (Kind.BLUR, Kind.DENOISE, Kind.GLOW, Kind.HAZE, Kind.INVERT)

Fault = Literal["clipping", "colour", "texture", "detail", "size", "rest"]
"""What a damage is about; `rest` is a change that was not requested."""


@dataclass(frozen=True)
class Damage:
    """A defect that was not requested, its cost in points, and a description with the figure."""

    fault: Fault
    points: float
    description: str


def quality(evidence: Evidence) -> tuple[float, list[Damage]]:
    """0..10, and the damage found, worst first."""
    found = [*_clipping(evidence), *_texture(evidence), *_detail(evidence), *_layout(evidence)]
    if evidence.comparison.in_place:
        found += [*_colour(evidence), *_halos(evidence), *_strayed(evidence)]
    found = sorted((damage for damage in found if damage.points >= 0.1), key=lambda damage: -damage.points)
    value = UNDAMAGED - sum(damage.points for damage in found)
    return float(np.clip(round(value, 1), 0.0, 10.0)), found


def _clipping(evidence: Evidence) -> list[Damage]:
    """Pixels at the ends of the scale that are not there in the source, nor expected."""
    source, candidate = evidence.comparison.source, evidence.comparison.candidate
    light = evidence.expected[..., 0]
    inverted = bool(evidence.operations(Kind.INVERT))
    bright_before, dim_before = (source.dim, source.bright) if inverted else (source.bright, source.dim)
    drawn = float(evidence.drawn.mean())
    bright = candidate.bright - max(bright_before, 1.5 * float((light > 98.0).mean())) - drawn
    dim = candidate.dim - max(dim_before, 1.5 * float((light < 2.0).mean())) - drawn
    garish = _spread(evidence.after) - 1.3 * max(_spread(evidence.expected), evidence.comparison.before.tone.spread)
    return [
        Damage("clipping", min(4.5, 12.0 * (bright - 0.02)), f"{100 * bright:.1f}% more of the light is blown out"),
        Damage("clipping", min(3.5, 9.0 * (dim - 0.03)), f"{100 * dim:.1f}% more of the light is blocked up"),
        Damage(
            "colour", min(3.0, 0.25 * (garish - 2.0)), f"the colours are garish, {garish:.0f} units beyond what was asked for"
        ),
    ]


def _spread(thumb: F32) -> float:
    off = thumb[..., 1:] - thumb[..., 1:].mean(axis=(0, 1))
    return float(np.sqrt((off**2).sum(axis=2)).mean())


def _astray(evidence: Evidence) -> F32:
    """(h, w, 3): how far each spot of the candidate is from the straight way between the source and the expected picture."""
    start, way = evidence.comparison.source.thumb, evidence.expected - evidence.comparison.source.thumb
    got = evidence.after - start
    length = np.maximum((way**2).sum(axis=2), 1e-3)
    share = np.clip((got * way).sum(axis=2) / length, 0.0, _BEYOND)
    return f32(got - share[..., None] * way)


def _colour(evidence: Evidence) -> list[Damage]:
    """Hue shifts of skin, and casts on greys, that nothing asked for."""
    thumb = evidence.comparison.source.thumb
    chroma = np.hypot(thumb[..., 1], thumb[..., 2])
    hue = np.degrees(np.arctan2(thumb[..., 2], thumb[..., 1]))
    skin = (hue > 25) & (hue < 80) & (chroma > 10) & (chroma < 45) & (thumb[..., 0] > 30) & (thumb[..., 0] < 90)
    grey = (chroma < 7) & (thumb[..., 0] > 15) & (thumb[..., 0] < 97)
    off = _astray(evidence)
    shift = np.hypot(off[..., 1], off[..., 2])
    out: list[Damage] = []
    for name, where, free, rate in (("skin tones", skin, 6.0, 0.22), ("greys", grey, 5.0, 0.18)):
        if where.mean() > 0.01:
            moved = float(np.percentile(shift[where], 75))
            weight = min(1.0, 0.4 + 4.0 * float(where.mean()))
            out.append(
                Damage("colour", min(5.0, rate * weight * (moved - free)), f"{name} shifted by {moved:.0f} units of a*, b*")
            )
    return out


def _texture(evidence: Evidence) -> list[Damage]:
    """Banding, and noise that was not requested."""
    comparison = evidence.comparison
    before, after = comparison.before, comparison.after
    out: list[Damage] = []
    flatter = min(1.0, (after.tone.contrast + 0.5) / (before.tone.contrast + 0.5))
    levels = (after.texture.levels + 4) / (before.texture.levels * flatter + 4)
    flat = after.texture.flat - before.texture.flat - float(evidence.drawn.mean())
    if flat > 0.06:
        out.append(Damage("texture", min(4.5, 6.0 * (0.85 - levels)), f"tones band: {after.texture.levels} levels left"))
    if comparison.in_place:
        steps = _steps(evidence)
        out.append(Damage("texture", min(4.5, 14.0 * (steps - 0.04)), f"{100 * steps:.0f}% of the smooth areas are posterised"))
    named = evidence.operations(Kind.GRAIN)
    wanted = evidence.grain_wanted or sum(8.0 * operation.amount for operation in named)
    steeper = max(1.0, after.tone.contrast / (before.tone.contrast + 0.5))
    sharper = 1.0 + 1.5 * sum(operation.amount for operation in evidence.operations(Kind.SHARPEN, Kind.CLARITY))
    noise = evidence.grain_added - 2.2 * wanted - 0.7 - before.texture.grain * (steeper * sharper - 1.0)
    if not evidence.drawn.any():
        out.append(Damage("texture", min(4.0, 1.1 * noise), f"{evidence.grain_added:.1f} L* of noise that was not asked for"))
    return out


def _steps(evidence: Evidence) -> float:
    """The share of the source's smooth slopes where the candidate is flat and steps instead, on the frames."""
    before = np.ascontiguousarray(evidence.comparison.source.frame[..., 0])
    after = reduce(evidence.comparison.candidate.frame, before.shape[1], before.shape[0])
    if min(before.shape) < 24:
        return 0.0
    flat_before = cv2.blur((_gradient(before) < 0.06).astype(np.float32), (9, 9))
    gradient = _gradient(np.ascontiguousarray(after[..., 0]))
    flat_after = cv2.blur((gradient < 0.06).astype(np.float32), (9, 9))
    steepest = cv2.dilate(gradient, np.ones((15, 15), np.uint8))
    inside = (before > 4) & (before < 97)
    stepped = (flat_after > flat_before + 0.45) & (steepest > 1.5) & (steepest < 25) & inside
    return float(stepped.mean())


def _gradient(light: F32) -> F32:
    across = cv2.Sobel(light, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    down = cv2.Sobel(light, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    return f32(np.hypot(across, down))


def _halos(evidence: Evidence) -> list[Damage]:
    """Bright or dark rims along strong edges: what a tone curve does not explain, near edges against elsewhere."""
    before = np.ascontiguousarray(evidence.comparison.source.frame[..., 0])
    if min(before.shape) < 48:
        return []
    after = np.ascontiguousarray(reduce(evidence.comparison.candidate.frame, before.shape[1], before.shape[0])[..., 0])
    index = np.clip(before, 0, 99.9).astype(np.int64)
    counts = np.bincount(index.ravel(), minlength=100)
    curve = np.bincount(index.ravel(), weights=after.ravel(), minlength=100) / np.maximum(counts, 1)
    rest = f32(after - curve[index])
    rest -= cv2.GaussianBlur(rest, (0, 0), 16)
    middle = cv2.GaussianBlur(rest, (0, 0), 2.5)
    edges = cv2.dilate((_gradient(before) > 6.0).astype(np.uint8), np.ones((13, 13), np.uint8)) > 0
    if not 0.01 < edges.mean() < 0.8:
        return []
    near, far = (float(np.sqrt((middle[where] ** 2).mean())) for where in (edges, ~edges))
    halo = near - 1.5 * far
    allowed = 2.2 + 4.0 * sum(
        abs(one.amount) for one in evidence.operations(Kind.CLARITY, Kind.SHADOWS, Kind.HIGHLIGHTS, Kind.GLOW)
    )
    blurred = bool(evidence.operations(Kind.BLUR, Kind.DENOISE, Kind.RECOLOUR, Kind.TEXT, Kind.BORDER, Kind.INVERT))
    return [] if blurred else [Damage("texture", min(4.0, 0.9 * (halo - allowed)), f"halos of {halo:.1f} L* along edges")]


def _detail(evidence: Evidence) -> list[Damage]:
    """The source's detail that is not found again."""
    found = abs(evidence.comparison.structure) if evidence.operations(Kind.INVERT) else evidence.comparison.structure
    look = evidence.look
    allowed = 0.1 + 0.04 * evidence.grain_wanted + (0.3 * look.haze + 0.3 * look.glow if look else 0.0)
    allowed += sum(1.6 * abs(operation.amount) for operation in evidence.operations(*_SOFTENS))
    allowed += sum(0.35 * operation.amount for operation in evidence.operations(Kind.GRAIN))
    allowed += 0.25 if evidence.operations(*GEOMETRY) else 0.0
    allowed += float(evidence.drawn.mean())
    lost = 1.0 - found
    comparison = evidence.comparison
    before, after = (one.texture.fine / (one.texture.medium + 0.3) for one in (comparison.before, comparison.after))
    softer = 1.0 - (after + 0.02) / (before + 0.02)
    smaller = comparison.candidate.width < 0.95 * comparison.source.width  # fewer pixels hold less detail
    excused = smaller or bool(evidence.operations(*_SOFTENS, *GEOMETRY)) or evidence.drawn.any()
    soft = softer - 0.22 - (0.5 * look.haze + 1.2 * look.glow if look else 0.0)
    sharpness = [] if excused else [Damage("detail", min(4.0, 6.0 * soft), f"{100 * softer:.0f}% of the sharpness is lost")]
    return [
        *sharpness,
        Damage("detail", min(5.0, 9.0 * (lost - allowed)), f"{100 * lost:.0f}% of the source's detail is not found again"),
    ]


def _layout(evidence: Evidence) -> list[Damage]:
    """A shape that no crop about the centre explains."""
    comparison = evidence.comparison
    if comparison.reshaped:
        source, candidate = comparison.source, comparison.candidate
        change = f"from {source.width} x {source.height} to {candidate.width} x {candidate.height}"
        return [Damage("size", 3.0, f"the shape changed {change}")]
    return []


def _strayed(evidence: Evidence) -> list[Damage]:
    """Spots that changed in ways that neither the instruction nor one change of the whole picture explains."""
    comparison = evidence.comparison
    expected = local_change_map(comparison.source.thumb, evidence.expected)
    local = np.where(evidence.drawn, 0.0, comparison.local_change - expected)
    astray = np.sqrt((_astray(evidence) ** 2).sum(axis=2))
    share = float(((local > 13.0) & (astray > 10.0)).mean())
    out = [Damage("rest", min(5.0, 14.0 * (share - 0.02)), f"{100 * share:.0f}% of the picture changed in ways nobody asked for")]
    masks = [mask for region, mask in evidence.masks.items() if region.terms]
    if (
        masks
        and evidence.look is None
        and all(one.region.terms for one in evidence.operations(*Kind) if one.kind not in GEOMETRY)
    ):
        outside = np.maximum.reduce(masks) < 0.05
        if outside.any():
            moved = float(astray[outside].mean())
            out.append(Damage("rest", min(5.0, 0.7 * (moved - 1.5)), f"outside the region {moved:.1f} CIELAB changed"))
    return out
