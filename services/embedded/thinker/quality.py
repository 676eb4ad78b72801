# ruff: noqa: PLR2004 - the calibration of the damages: every number's unit is in the description next to it
"""The quality score: damage that was not asked for, measured for every operation.

What the instruction asks for is in the expected picture, and what lies on the way from the source to it is no damage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from services.embedded.cielab import F32, colourless, f32
from services.embedded.instructions.operations import COLOUR_KINDS, GEOMETRY, Kind
from services.embedded.thinker.evidence import Evidence
from services.embedded.thinker.measurements import explained, local_change_map, spread_of
from services.embedded.thinker.pictures import fit, reduce

UNDAMAGED = 9.7
_BEYOND = 1.35  # how far past the expected picture a change still lies on its way
_SOFTENS = (Kind.BLUR, Kind.DENOISE, Kind.GLOW, Kind.HAZE, Kind.INVERT)
_RIMS = (Kind.CLARITY, Kind.SHADOWS, Kind.HIGHLIGHTS, Kind.GLOW)
_MOVES_HUES = COLOUR_KINDS - {Kind.SATURATION, Kind.VIBRANCE} | {Kind.MONOCHROME, Kind.SEPIA, Kind.INVERT}
_SMEARS = 128  # longer side of the copy on which they are looked for
_REMAKES_EDGES = (Kind.BLUR, Kind.DENOISE, Kind.TEXT, Kind.BORDER, Kind.INVERT)

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
    found = [*_clipping(evidence), *_texture(evidence), *_detail(evidence), *_strain(evidence)]
    if evidence.comparison.in_place:
        found += [*_colour(evidence), *_posterised(evidence), *_halos(evidence), *_strayed(evidence), *_smears(evidence)]
    if evidence.comparison.reshaped:
        source, candidate = evidence.comparison.source, evidence.comparison.candidate
        change = f"from {source.width} x {source.height} to {candidate.width} x {candidate.height}"
        found.append(Damage("size", 3.0, f"the shape changed {change}"))
    found = sorted((damage for damage in found if damage.points >= 0.1), key=lambda damage: -damage.points)
    value = UNDAMAGED - sum(damage.points for damage in found)
    return float(np.clip(round(value, 1), 0.0, 10.0)), found


def _clipping(evidence: Evidence) -> list[Damage]:
    """Pixels at the ends of the scale that are not there in the source, nor expected; colours beyond what was asked for."""
    source, candidate = evidence.comparison.source, evidence.comparison.candidate
    light, drawn = evidence.expected[..., 0], float(evidence.drawn.mean())
    ends = (source.dim, source.bright) if evidence.operations(Kind.INVERT) else (source.bright, source.dim)
    bright = candidate.bright - max(ends[0], 1.5 * float((light > 98.0).mean())) - drawn
    dim = candidate.dim - max(ends[1], 1.5 * float((light < 2.0).mean())) - drawn
    garish = float(spread_of(evidence.after)) - 1.3 * max(evidence.expected_tone.spread, source.tone.spread)
    burnt = candidate.burnt - source.burnt - drawn
    burnt = 0.0 if evidence.operations(Kind.INVERT) else burnt
    more = f"the colours are garish, {garish:.0f} units beyond what was asked for"
    return [
        Damage("clipping", min(4.5, 12.0 * (bright - 0.02)), f"{100 * bright:.1f}% more of the light is blown out"),
        Damage("clipping", min(3.5, 9.0 * (dim - 0.03)), f"{100 * dim:.1f}% more of the light is blocked up"),
        Damage("clipping", min(4.0, 16.0 * (burnt - 0.15)), f"{100 * burnt:.0f}% more of the picture is burnt out or black"),
        Damage("colour", min(3.0, 0.25 * (garish - 2.0)), more),
    ]


def _astray(evidence: Evidence) -> F32:
    """(h, w, 3): how far each spot of the candidate is from the straight way between the source and the expected picture."""
    way, got = evidence.expected - evidence.start, evidence.after - evidence.start
    share = np.clip((got * way).sum(axis=2) / np.maximum((way**2).sum(axis=2), 1e-3), 0.0, _BEYOND)
    return f32(got - share[..., None] * way)


def _colour(evidence: Evidence) -> list[Damage]:
    """Hue shifts of skin, and casts on greys, that nothing asked for."""
    light, a, b = np.moveaxis(evidence.start, 2, 0)
    chroma, hue = np.hypot(a, b), np.degrees(np.arctan2(b, a))
    skin = (hue > 25) & (hue < 80) & (chroma > 10) & (chroma < 45) & (light > 30) & (light < 90)
    grey = (chroma < 7) & (light > 15) & (light < 97)
    off = _astray(evidence)
    shift = np.hypot(off[..., 1], off[..., 2])
    out: list[Damage] = []
    greys = (1.5, 0.9) if colourless(evidence.start) else (5.0, 0.18)  # any colour is seen in a black-and-white picture
    for name, where, free, rate in (("skin tones", skin, 6.0, 0.22), ("greys", grey, *greys)):
        share = float(where.mean())
        if share > 0.01:
            moved = float(np.percentile(shift[where], 75))
            points = rate * min(1.0, 0.4 + 4.0 * share) * (moved - free)
            out.append(Damage("colour", min(5.0, points), f"{name} shifted by {moved:.0f} units of a*, b*"))
    return out + _hues(evidence)


def _hues(evidence: Evidence) -> list[Damage]:
    """Vivid colours that turned into others, where none but their strength was to change."""
    if evidence.look is not None or evidence.operations(*_MOVES_HUES):
        return []
    before, after = (np.moveaxis(one[..., 1:], 2, 0) for one in (evidence.start, evidence.after))
    vivid = (np.hypot(*before) > 20) & (np.hypot(*after) > 15)
    if vivid.mean() < 0.02:
        return []
    off = np.degrees(np.arctan2(after[1], after[0]) - np.arctan2(before[1], before[0]))[vivid]
    turned = float(np.percentile(np.abs((off + 180) % 360 - 180), 80))
    return [Damage("colour", min(4.0, 0.3 * (turned - 7.0)), f"the hues of vivid colours turned by {turned:.0f} degrees")]


def _texture(evidence: Evidence) -> list[Damage]:
    """Banding, and noise that was not requested."""
    source, candidate = evidence.comparison.source, evidence.comparison.candidate
    before, after = source.texture, candidate.texture
    out: list[Damage] = []
    flatter = min(1.0, (candidate.tone.contrast + 0.5) / (source.tone.contrast + 0.5))
    levels = (after.levels + 4) / (before.levels * flatter + 4)
    if after.flat - before.flat - float(evidence.drawn.mean()) > 0.06:
        out.append(Damage("texture", min(4.5, 6.0 * (0.85 - levels)), f"tones band: {after.levels} levels left"))
    if not evidence.drawn.any():
        wanted = evidence.grain_wanted or 8.0 * evidence.amount(Kind.GRAIN)
        steeper = max(1.0, candidate.tone.contrast / (source.tone.contrast + 0.5))
        sharper = 1.0 + 1.5 * evidence.amount(Kind.SHARPEN, Kind.CLARITY)
        noise = evidence.grain_added - 2.2 * wanted - 0.7 - before.grain * (steeper * sharper - 1.0)
        out.append(Damage("texture", min(4.0, 1.1 * noise), f"{evidence.grain_added:.1f} L* of noise that was not asked for"))
    return out


def _posterised(evidence: Evidence) -> list[Damage]:
    """The source's smooth slopes where the candidate is flat and steps instead, on the frames."""
    before = evidence.comparison.source.light
    if min(before.shape) < 24:
        return []
    gradient = _gradient(evidence.comparison.after_frame[..., 0])
    flat_before, flat_after = (cv2.blur((one < 0.06).astype(np.float32), (9, 9)) for one in (_gradient(before), gradient))
    steepest = cv2.dilate(gradient, np.ones((15, 15), np.uint8))
    stepped = (flat_after > flat_before + 0.45) & (steepest > 1.5) & (steepest < 25) & (before > 4) & (before < 97)
    share = float(stepped.mean())
    return [Damage("texture", min(4.5, 14.0 * (share - 0.04)), f"{100 * share:.0f}% of the smooth areas are posterised")]


def _gradient(light: F32) -> F32:
    across, down = (cv2.Sobel(light, cv2.CV_32F, *axes, ksize=3, scale=0.125) for axes in ((1, 0), (0, 1)))
    return f32(np.hypot(across, down))


def _halos(evidence: Evidence) -> list[Damage]:
    """Bright or dark rims along strong edges: what a tone curve does not explain, near edges against elsewhere."""
    before, after = evidence.comparison.source.light, evidence.comparison.after_frame[..., 0]
    edges = cv2.dilate((_gradient(before) > 6.0).astype(np.uint8), np.ones((13, 13), np.uint8)) > 0
    if min(before.shape) < 48 or not 0.01 < edges.mean() < 0.8 or evidence.operations(*_REMAKES_EDGES):
        return []
    index = np.clip(before, 0, 99.9).astype(np.int64)
    counts = np.bincount(index.ravel(), minlength=100)
    curve = np.bincount(index.ravel(), weights=after.ravel(), minlength=100) / np.maximum(counts, 1)
    rest = f32(after - curve[index])
    rest -= cv2.GaussianBlur(rest, (0, 0), 16)
    middle = cv2.GaussianBlur(rest, (0, 0), 2.5)
    near, far = (float(np.sqrt((middle[where] ** 2).mean())) for where in (edges, ~edges))
    halo = near - 1.5 * far
    points = 0.9 * (halo - 2.2 - 4.0 * evidence.amount(*_RIMS))
    return [Damage("texture", min(4.0, points), f"halos of {halo:.1f} L* along edges")]


def _detail(evidence: Evidence) -> list[Damage]:
    """The source's detail that is not found again, and lost sharpness."""
    pair, look, drawn = evidence.comparison, evidence.look, float(evidence.drawn.mean())
    lost = 1.0 - (abs(pair.structure) if evidence.operations(Kind.INVERT) else pair.structure)
    allowed = 0.1 + 0.04 * evidence.grain_wanted + (0.3 * look.haze + 0.3 * look.glow if look else 0.0) + drawn
    allowed += 1.6 * evidence.amount(*_SOFTENS) + 0.35 * evidence.amount(Kind.GRAIN)
    allowed += 0.25 if evidence.operations(*GEOMETRY) else 0.0
    out = [Damage("detail", min(5.0, 9.0 * (lost - allowed)), f"{100 * lost:.0f}% of the source's detail is not found again")]
    smaller = pair.candidate.width < 0.95 * pair.source.width  # fewer pixels hold less detail
    if not smaller and not evidence.operations(*_SOFTENS, *GEOMETRY) and not drawn:
        before, after = (one.texture.fine / (one.texture.medium + 0.3) + 0.02 for one in (pair.source, pair.candidate))
        softer = 1.0 - after / before
        soft = softer - 0.22 - (0.5 * look.haze + 1.2 * look.glow if look else 0.0)
        out.append(Damage("detail", min(4.0, 6.0 * soft), f"{100 * softer:.0f}% of the sharpness is lost"))
    return out


def _smears(evidence: Evidence) -> list[Damage]:
    """Edges of the change, after what was asked for and one change of the whole picture, where the source has none."""
    pair = evidence.comparison
    size = fit(pair.source.frame.shape[1], pair.source.frame.shape[0], _SMEARS)
    if min(size) < 48:
        return []
    before, after = reduce(pair.source.frame, *size), reduce(pair.after_frame, *size)
    drawn = cv2.dilate(reduce(f32(evidence.drawn), *size), np.ones((7, 7), np.uint8)) > 0
    asked = reduce(f32(evidence.expected - evidence.start), *size)
    after = np.where(drawn[..., None], before + asked, after)
    rest = after - explained(before, after, asked)
    own, given = (sum(_gradient(plane) ** 2 for plane in _calm(one, ~drawn)) ** 0.5 for one in (rest, before))
    seen = (own > 0.33 + 0.5 * cv2.dilate(f32(given), np.ones((7, 7), np.uint8))) & ~drawn
    share = float(seen.mean())
    return [Damage("rest", min(6.0, 500.0 * (share - 0.005)), "the change has an edge or a patch where the source has none")]


def _calm(lab: F32, where: NDArray[np.bool_]) -> list[F32]:
    """The planes of (h, w, 3) CIELAB, smoothed over `where`."""
    weight = f32(where)
    total = np.maximum(cv2.GaussianBlur(weight, (0, 0), 3), 0.05)
    return [f32(cv2.GaussianBlur(np.ascontiguousarray(plane) * weight, (0, 0), 3) / total) for plane in np.moveaxis(lab, 2, 0)]


def _strain(evidence: Evidence) -> list[Damage]:
    """What an edit costs in picture quality even where it is what was asked for; at most a point and a half in all."""
    pair, before, after = evidence.comparison, evidence.comparison.source, evidence.comparison.candidate
    noisy = bool(evidence.grain_wanted or evidence.operations(Kind.GRAIN))
    figures = {
        "burnt": (6.0 * max(0.0, after.burnt - before.burnt - float(evidence.drawn.mean())), 0.8),
        "detail": (2.5 * (1.0 - abs(pair.structure)), 0.7),
        "noise": (0.04 * evidence.grain_added, 0.4),
        "flat": (1.0 * (0.85 - (after.tone.contrast + 1) / (before.tone.contrast + 1)), 0.4),
        "cast": (0.012 * float(np.hypot(*(after.tone.mean - before.tone.mean)[1:])), 0.6),
        "harsh": (0.0 if noisy else 2.0 * (after.texture.fine / (before.texture.fine + 0.1) - 1.1), 0.6),
    }
    points = {name: min(most, value) for name, (value, most) in figures.items() if value > 0.05}
    worst = ", ".join(sorted(points, key=lambda name: -points[name])[:2])
    return [Damage("texture", min(1.5, sum(points.values())), f"the strain of the edit itself ({worst})")]


def _strayed(evidence: Evidence) -> list[Damage]:
    """Spots that changed in ways that neither the instruction nor one change of the whole picture explains."""
    expected = local_change_map(evidence.start, evidence.expected)
    local = np.where(evidence.drawn, 0.0, evidence.comparison.local_change - expected)
    astray = np.sqrt((_astray(evidence) ** 2).sum(axis=2))
    share = float(((local > 13.0) & (astray > 10.0)).mean())
    out = [Damage("rest", min(5.0, 14.0 * (share - 0.02)), f"{100 * share:.0f}% of the picture changed in ways nobody asked for")]
    masks = [mask for region, mask in evidence.masks.items() if region.terms]
    regional = all(one.region.terms for one in evidence.instruction.operations if one.kind not in GEOMETRY)
    if masks and regional and evidence.look is None:
        outside = np.maximum.reduce(masks) < 0.05
        if outside.any():
            moved = float(astray[outside].mean())
            out.append(Damage("rest", min(5.0, 0.7 * (moved - 1.5)), f"outside the region {moved:.1f} CIELAB changed"))
    return out
