"""The measurements that one critique is based on."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from services.embedded.thinker.checks import Finding, check
from services.embedded.thinker.intent import Intent
from services.embedded.thinker.measurements import Comparison, Tone, compare, tone_of
from services.embedded.thinker.operations import colour_lab
from services.embedded.thinker.pixels import Floats, Picture
from services.embedded.thinker.target_picture import Target, target_for

_REPAINTED = 12.0  # CIELAB distance from what one change of the whole picture explains
_NEAR = 16.0  # CIELAB distance within which the background counts as painted
_GREY = 4.0  # chroma
_LOCAL = frozenset({"background", "text", "border", "recolour", "selective", "light leak"})
"""Operations that repaint a part of the picture; that part is left out of the overall tone."""


@dataclass(frozen=True)
class Evidence:
    """A comparison of source and candidate, and how it relates to the intent of the instruction.

    `thumb` and `tone` are the candidate's, with repainted parts taken from the target, so that a white background does
    not count as a brighter picture.
    """

    intent: Intent
    comparison: Comparison
    target: Target
    findings: tuple[Finding, ...]
    thumb: Floats = field(repr=False)
    tone: Tone

    @property
    def grain_wanted(self) -> float:
        """The standard deviation of the noise that the look asks for, in L*."""
        return self.target.look.grain

    @property
    def grain_added(self) -> float:
        """The noise that the candidate has in addition to the source's, in L*."""
        if self.comparison.in_place:
            return self.comparison.noise
        return self.comparison.after.texture.grain - self.comparison.before.texture.grain

    @property
    def local(self) -> bool:
        """Whether the instruction asks for a part of the picture to be repainted."""
        return any(op.name in _LOCAL for op in self.intent.checks)


def gather(intent: Intent, source: Picture, candidate: Picture) -> Evidence:
    """Measure a candidate against its source and the intent of the instruction."""
    comparison = compare(source, candidate)
    target = target_for(intent, source, comparison.before.tone)
    findings = tuple(check(op, comparison) for op in intent.checks)
    thumb = _without_repainted(intent, comparison, target)
    tone = comparison.after.tone if thumb is candidate.thumb else tone_of(thumb)
    return Evidence(intent=intent, comparison=comparison, target=target, findings=findings, thumb=thumb, tone=tone)


def _without_repainted(intent: Intent, comparison: Comparison, target: Target) -> Floats:
    names = {op.name for op in intent.checks} & _LOCAL
    if not names or not comparison.in_place:
        return comparison.after_thumb if comparison.in_place else comparison.candidate.thumb
    repainted = comparison.local_change > _REPAINTED
    if "background" in names:
        ground = colour_lab(next(op.colour for op in intent.checks if op.name == "background") or "white")
        if ground is not None:
            repainted |= np.sqrt(((comparison.after_thumb - ground) ** 2).sum(axis=2)) < _NEAR
        # The edge of the background is a mixture of both.
        repainted = cv2.dilate(repainted.astype(np.uint8), np.ones((5, 5), dtype=np.uint8)) > 0
    if "selective" in names:
        repainted |= np.hypot(comparison.after_thumb[..., 1], comparison.after_thumb[..., 2]) < _GREY
    return np.where(repainted[..., None], target.thumb, comparison.after_thumb).astype(np.float32)
