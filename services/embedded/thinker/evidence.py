"""What one critique is based on: the source in the framing that was asked for, the picture that the instruction should give, and
how the candidate compares with both.

Geometry is measured by doing it to the source: a candidate that was cropped as asked is compared with the cropped source,
whatever its number of pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.embedded.cielab import F32, U8, f32
from services.embedded.geometry import NotTiltedError, reshape, tilt_of
from services.embedded.instructions.operations import DRAWN, GEOMETRY, Instruction, Kind, Operation, Region
from services.embedded.regions import Regions, UnclearRegionError
from services.embedded.thinker.forward import applied, mask_of
from services.embedded.thinker.looks import LOOKS, Look, fitted, in_look, joined, scaled
from services.embedded.thinker.measurements import Comparison, Tone, compare, gap, shared_structure, tone_of
from services.embedded.thinker.pictures import FRAME, MeasuredPicture, fit, flatten, reduce, reduce_picture

_WORK = 1024  # longer side of the copies that are measured
_RAW = 160  # longer side on which the framing before and after is compared
_SAME_ASPECT = 0.02
_LOCAL = 12.0  # CIELAB distance from what one change of the whole picture explains
_EFFECTS = {Kind.GRAIN: "grain", Kind.VIGNETTE: "vignette", Kind.HAZE: "haze", Kind.GLOW: "glow"}


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
        without: for each operation, the thumb that all others should give; beside a look, that of the operation alone.
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
    def after(self) -> F32:
        """The candidate's thumb, with what was drawn over it taken from the expected one; of its own framing if not in place."""
        if not self.comparison.in_place:
            return self.comparison.candidate.thumb
        return f32(np.where(self.drawn[..., None], self.expected, self.comparison.after_thumb))

    @property
    def grain_wanted(self) -> float:
        """The standard deviation of the noise that a look asks for, in L*."""
        return 0.0 if self.look is None or self.operations(Kind.GRAIN) else self.look.grain

    @property
    def grain_added(self) -> float:
        """The noise that the candidate has in addition to the source's, in L*."""
        comparison = self.comparison
        if comparison.in_place:
            return comparison.noise
        return comparison.after.texture.grain - comparison.before.texture.grain

    def operations(self, *kinds: Kind) -> list[Operation]:
        """The named operations of these kinds."""
        return [operation for operation in self.instruction.operations if operation.kind in kinds]

    @property
    def reach(self) -> float:
        """How far the expected tones are from the source's, in steps that a viewer just sees."""
        return gap(self.comparison.before.tone, self.expected_tone)

    @property
    def expected_tone(self) -> Tone:
        """The figures of the expected thumb."""
        return tone_of(self.expected)


def gather(instruction: Instruction, source: U8, candidate: U8) -> Evidence:
    """Measure a candidate against its source and what the instruction asks for."""
    before, after = _work_copy(source), _work_copy(candidate)
    unclear: dict[Region | Operation, str] = {}
    aligned = _aligned(before, after, instruction, unclear)
    comparison = compare(reduce_picture(aligned), reduce_picture(after))
    masks = _masks(aligned, comparison.source, instruction, unclear)
    look = _look(instruction, comparison.before.tone)
    thumb = comparison.source.thumb

    def expect(operations: Sequence[Operation]) -> F32:
        changed = applied(thumb, operations, masks)
        changed = changed if look is None else in_look(changed, look)
        for region in instruction.protected:
            mask = mask_of(region, thumb, masks)
            if mask is not None:
                changed = f32(changed + (thumb - changed) * mask[..., None])
        return changed

    operations = instruction.operations
    return Evidence(
        instruction=instruction,
        comparison=comparison,
        raw=_raw_structure(before, after),
        tilts=_tilts(before, after) if any(one.kind is Kind.STRAIGHTEN for one in operations) else (None, None),
        look=look,
        expected=expect(operations),
        without={
            one: expect([other for other in operations if other is not one]) if look is None else applied(thumb, [one], masks)
            for one in operations
        },
        masks=masks,
        unclear=unclear,
        unchanged=bool(before.shape == after.shape and np.array_equal(before, after)),
        drawn=_drawn(comparison, operations),
    )


def _work_copy(pixels: U8) -> U8:
    flat = flatten(pixels)
    width, height = fit(flat.shape[1], flat.shape[0], _WORK)
    if (height, width) == flat.shape[:2]:
        return flat
    return np.asarray(cv2.resize(flat, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8).reshape(height, width, 3)


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
    off = abs(np.log(aspect * image.height / image.width))
    if off > _SAME_ASPECT and not shapes:
        width = min(image.width, max(1, round(image.height * aspect)))
        height = min(image.height, max(1, round(image.width / aspect)))
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8))


def _masks(
    aligned: U8, source: MeasuredPicture, instruction: Instruction, unclear: dict[Region | Operation, str]
) -> dict[Region, F32]:
    """The masks of all named regions on the thumb; those that fail a check are noted in ``unclear``."""
    wanted = {operation.region for operation in instruction.operations} | set(instruction.protected)
    width, height = fit(aligned.shape[1], aligned.shape[0], FRAME)
    regions = Regions(np.asarray(cv2.resize(aligned, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8))
    found: dict[Region, F32] = {}
    for region in wanted:
        try:
            mask = regions.mask(region)
        except UnclearRegionError as exc:
            unclear[region] = str(exc)
            continue
        if mask is not None:
            found[region] = reduce(mask, source.thumb.shape[1], source.thumb.shape[0])
    return found


def _look(instruction: Instruction, start: Tone) -> Look | None:
    """The joined looks without the effects that the instruction rules out, fitted to the source."""
    if not instruction.looks:
        return None
    look = joined([scaled(LOOKS[named.name], named.strength) for named in instruction.looks])
    figures = {name: 0.0 for kind, name in _EFFECTS.items() if kind in instruction.forbidden}
    return fitted(Look(**{**look.__dict__, **figures}), start)


def _raw_structure(before: U8, after: U8) -> float:
    """Structure that the two pictures share when one is laid over the other as they are."""
    width, height = fit(before.shape[1], before.shape[0], _RAW)
    planes = [
        reduce_picture(np.asarray(cv2.resize(one, (width, height), interpolation=cv2.INTER_AREA))) for one in (before, after)
    ]
    first, second = (np.ascontiguousarray(plane.frame[..., 0]) for plane in planes)
    return shared_structure(first, second) / max(0.2, shared_structure(first, first))


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
            continue
        depth = int(np.ceil(operation.amount * min(height, width))) + 1
        inner = np.zeros_like(drawn)
        inner[depth:-depth, depth:-depth] = True
        drawn |= ~inner
    return drawn
