"""What one critique is based on: the source in the framing that was asked for, the picture that the instruction should give, and
how the candidate compares with both.

Geometry is measured by doing it to the source: a candidate that was cropped as asked is compared with the cropped source,
of any number of pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.embedded.cielab import F32, U8, colourless, f32
from services.embedded.geometry import NotTiltedError, reshape, tilt_of
from services.embedded.instructions.operations import DRAWN, GEOMETRY, ORDER, Instruction, Kind, Operation, Region
from services.embedded.regions import Regions, UnclearRegionError
from services.embedded.thinker.forward import applied
from services.embedded.thinker.looks import Look, fitted, in_look, joined, look_of
from services.embedded.thinker.measurements import (
    FRAME,
    Comparison,
    MeasuredPicture,
    Tone,
    gap,
    reduce_picture,
    structure_of,
    tone_of,
)
from services.embedded.thinker.pictures import fit, flatten, reduce

_WORK = 1024  # longer side of the copies that are measured
_RAW = 160  # longer side on which the framing before and after is compared
_SAME_ASPECT = 0.02
_SOFT_FOCUS = 0.12  # the amount of its blur
_LOCAL = 12.0  # CIELAB distance from what one change of the whole picture explains
EFFECTS = (Kind.GRAIN, Kind.VIGNETTE, Kind.HAZE, Kind.GLOW)
"""Operations that are also figures of a look, of the same name."""


@dataclass(frozen=True)
class Evidence:
    """The measurements of one candidate.

    Attributes:
        instruction: its reading.
        comparison: the aligned source against the candidate.
        raw: structure that the candidate shares with the source as it was, before its framing was changed (-1..1).
        tilts: degrees by which the lines of source and candidate are off level, where that is to be changed.
        look: the joined looks, fitted to the source; None without one.
        expected: the thumb that the instruction should give.
        without: for each operation, the thumb that all others should give; with a look, that of the operation alone.
        masks: those of the regions that it names, on the thumb.
        unclear: why a region or a tilt is not measured, by region or operation.
        unchanged: whether the candidate is the source as it was.
        drawn: where a text or a border may stand, (h, w) of the thumb.
    """

    instruction: Instruction
    comparison: Comparison
    raw: float
    tilts: tuple[float | None, float | None]
    look: Look | None
    expected: F32 = field(repr=False)
    without: dict[Operation, F32] = field(repr=False)
    masks: dict[Region, F32] = field(repr=False)
    unclear: dict[Region | Operation, str]
    unchanged: bool
    drawn: NDArray[np.bool_] = field(repr=False)

    @property
    def start(self) -> F32:
        """The source's thumb."""
        return self.comparison.source.thumb

    @cached_property
    def after(self) -> F32:
        """The candidate's thumb, with what was drawn over it taken from the expected one; of its own framing if not in place."""
        if not self.comparison.in_place:
            return self.comparison.candidate.thumb
        return f32(np.where(self.drawn[..., None], self.expected, self.comparison.after_thumb))

    @cached_property
    def expected_tone(self) -> Tone:
        """Of the expected thumb."""
        return tone_of(self.expected)

    @property
    def reach(self) -> float:
        """How far the expected tones are from the source's, in steps that a viewer just sees."""
        return gap(self.comparison.source.tone, self.expected_tone)

    @property
    def grain_wanted(self) -> float:
        """The standard deviation of the noise that a look asks for, in L*."""
        return 0.0 if self.look is None or self.operations(Kind.GRAIN) else self.look.grain

    @property
    def grain_added(self) -> float:
        """The noise that the candidate has in addition to the source's, in L*."""
        pair = self.comparison
        return pair.noise if pair.in_place else pair.candidate.texture.grain - pair.source.texture.grain

    def operations(self, *kinds: Kind) -> list[Operation]:
        """The named operations of these kinds."""
        return [operation for operation in self.instruction.operations if operation.kind in kinds]

    def amount(self, *kinds: Kind) -> float:
        """How much of these kinds is asked for, in all."""
        return sum(abs(operation.amount) for operation in self.operations(*kinds))


def gather(instruction: Instruction, source: U8, candidate: U8) -> Evidence:
    """Measure a candidate against its source and what the instruction asks for."""
    before, after = (_at_most(flatten(picture), _WORK) for picture in (source, candidate))
    instruction = _in_full(instruction)
    operations, unclear = instruction.operations, dict[Region | Operation, str]()
    aligned = _aligned(before, after, instruction, unclear)
    comparison = Comparison(reduce_picture(aligned), reduce_picture(after))
    thumb = comparison.source.thumb
    masks = _masks(aligned, thumb, instruction, unclear)
    look = _look(instruction, comparison.source)

    def expect(operations: Sequence[Operation]) -> F32:
        changed = applied(thumb, operations, masks)
        changed = changed if look is None else in_look(changed, look)
        for region in instruction.protected:
            changed = f32(changed + (thumb - changed) * masks[region][..., None])
        return changed

    def without(one: Operation) -> F32:
        others = [other for other in operations if other is not one]
        return expect(others) if look is None else applied(thumb, [one], masks)

    return Evidence(
        instruction=instruction,
        comparison=comparison,
        raw=comparison.structure if aligned is before else structure_of(reduce_picture(before), comparison.candidate, _RAW),
        tilts=_tilts(before, after) if any(one.kind is Kind.STRAIGHTEN for one in operations) else (None, None),
        look=look,
        expected=expect(operations),
        without={one: without(one) for one in operations},
        masks=masks,
        unclear=unclear,
        unchanged=bool(before.shape == after.shape and np.array_equal(before, after)),
        drawn=_drawn(comparison, operations),
    )


def _in_full(instruction: Instruction) -> Instruction:
    """The instruction with the blur that "soft focus" asks for next to its glow."""
    words = (*(look.words for look in instruction.looks), *(operation.clause for operation in instruction.operations))
    if not any("soft focus" in one.lower().replace("-", " ") for one in words):
        return instruction
    blurred = {*instruction.operations, Operation(Kind.BLUR, _SOFT_FOCUS)}
    return replace(instruction, operations=tuple(sorted(blurred, key=lambda one: ORDER[one.kind])))


def _at_most(pixels: U8, side: int) -> U8:
    width, height = fit(pixels.shape[1], pixels.shape[0], side)
    if (height, width) == pixels.shape[:2]:
        return pixels
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8).reshape(height, width, 3)


def _aligned(before: U8, after: U8, instruction: Instruction, unclear: dict[Region | Operation, str]) -> U8:
    """The source in the framing that the instruction asks for, or else in the candidate's shape, cut about the centre."""
    image = Image.fromarray(before)
    shapes = [operation for operation in instruction.operations if operation.kind in GEOMETRY]
    for operation in shapes:
        try:
            image = reshape(image, [operation])
        except NotTiltedError as exc:
            unclear[operation] = str(exc)
    aspect = after.shape[1] / after.shape[0]
    if not shapes and abs(np.log(aspect * image.height / image.width)) <= _SAME_ASPECT:
        return before
    if not shapes:
        width = min(image.width, max(1, round(image.height * aspect)))
        height = min(image.height, max(1, round(image.width / aspect)))
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8))


def _masks(aligned: U8, thumb: F32, instruction: Instruction, unclear: dict[Region | Operation, str]) -> dict[Region, F32]:
    """The masks of all named regions on the thumb; those that fail a check are noted in ``unclear``."""
    regions = Regions(_at_most(aligned, FRAME))
    found: dict[Region, F32] = {}
    for region in {operation.region for operation in instruction.operations} | set(instruction.protected):
        try:
            mask = regions.mask(region)
        except UnclearRegionError as exc:
            unclear[region] = str(exc)
            continue
        if mask is not None:
            found[region] = reduce(mask, thumb.shape[1], thumb.shape[0])
    return found


def _look(instruction: Instruction, source: MeasuredPicture) -> Look | None:
    """The joined looks without the effects that the instruction rules out, fitted to the source."""
    if not instruction.looks:
        return None
    grey = colourless(source.thumb)
    look = joined((look_of(named, grey=grey), named.strength) for named in instruction.looks)
    ruled_out: dict[str, Any] = {kind.value: 0.0 for kind in EFFECTS if kind in instruction.forbidden}
    return fitted(replace(look, **ruled_out), source.tone)


def _tilts(before: U8, after: U8) -> tuple[float | None, float | None]:
    return tilt_of(Image.fromarray(before)), tilt_of(Image.fromarray(after))


def _drawn(comparison: Comparison, operations: Sequence[Operation]) -> NDArray[np.bool_]:
    """Where a requested text or border changed the thumb; its pixels say nothing about tone."""
    height, width = comparison.source.thumb.shape[:2]
    drawn = np.zeros((height, width), dtype=np.bool_)
    for operation in operations:
        if operation.kind not in DRAWN:
            continue
        if operation.kind is Kind.TEXT:
            drawn |= cv2.dilate((comparison.local_change > _LOCAL).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        else:
            depth = int(np.ceil(operation.amount * min(height, width))) + 1
            inner = np.zeros_like(drawn)
            inner[depth:-depth, depth:-depth] = True
            drawn |= ~inner
    return drawn
