"""Everything one critique is based on, measured once."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from services.embedded.thinker.checks import Finding, check
from services.embedded.thinker.intent import Wish
from services.embedded.thinker.measurements import Comparison, Tone, compare, tone_of
from services.embedded.thinker.operations import colour_lab
from services.embedded.thinker.pixels import Floats, Picture
from services.embedded.thinker.target_picture import Aim, aim_of

_REPAINTED = 12.0  # CIELAB distance from what one change of the whole picture explains
_NEAR = 16.0  # CIELAB distance within which the ground counts as painted
_GREY = 4.0  # chroma
_LOCAL = frozenset({"background", "text", "border", "recolour", "selective", "light leak"})
"""Asks that repaint a part of the picture, which then says nothing about the overall tone."""


@dataclass(frozen=True)
class Evidence:
    """A comparison seen in the light of a wish.

    `thumb` and `tone` are the candidate's, with parts that were to be repainted taken from the
    target, so that a white background does not count as a brighter picture.
    """

    wish: Wish
    seen: Comparison
    aim: Aim
    findings: tuple[Finding, ...]
    thumb: Floats = field(repr=False)
    tone: Tone

    @property
    def grain_wanted(self) -> float:
        """The standard deviation of the noise the look wants, in L*."""
        return self.aim.look.grain

    @property
    def grain_added(self) -> float:
        """The noise the candidate has more than the source, in L*."""
        if self.seen.in_place:
            return self.seen.noise
        return self.seen.after.texture.grain - self.seen.before.texture.grain

    @property
    def local(self) -> bool:
        """Whether repainting a part of the picture was asked for."""
        return any(op.name in _LOCAL for op in self.wish.checks)


def gather(wish: Wish, source: Picture, candidate: Picture) -> Evidence:
    """Measure a candidate against a source and a wish."""
    seen = compare(source, candidate)
    aim = aim_of(wish, source, seen.before.tone)
    findings = tuple(check(op, seen) for op in wish.checks)
    thumb = _without_repainted(wish, seen, aim)
    tone = seen.after.tone if thumb is candidate.thumb else tone_of(thumb)
    return Evidence(wish=wish, seen=seen, aim=aim, findings=findings, thumb=thumb, tone=tone)


def _without_repainted(wish: Wish, seen: Comparison, aim: Aim) -> Floats:
    names = {op.name for op in wish.checks} & _LOCAL
    if not names or not seen.in_place:
        return seen.after_thumb if seen.in_place else seen.candidate.thumb
    repainted = seen.odd > _REPAINTED
    if "background" in names:
        ground = colour_lab(next(op.colour for op in wish.checks if op.name == "background") or "white")
        if ground is not None:
            repainted |= np.sqrt(((seen.after_thumb - ground) ** 2).sum(axis=2)) < _NEAR
        # Its rim is a mixture of both.
        repainted = cv2.dilate(repainted.astype(np.uint8), np.ones((5, 5), dtype=np.uint8)) > 0
    if "selective" in names:
        repainted |= np.hypot(seen.after_thumb[..., 1], seen.after_thumb[..., 2]) < _GREY
    return np.where(repainted[..., None], aim.thumb, seen.after_thumb).astype(np.float32)
