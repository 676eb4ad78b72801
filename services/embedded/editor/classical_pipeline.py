"""The embedded editor as a pipeline: read the instruction, refuse what cannot be done, apply the rest, report what was done."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from services.editor.pipelines.base import Capabilities, EditJob, EditResult
from services.embedded.cielab import F32, f32
from services.embedded.editor.drawing import draw_border, draw_text
from services.embedded.geometry import NotTiltedError, reshape
from services.embedded.instructions import parse
from services.embedded.instructions.operations import DRAWN, GEOMETRY, SPECS, Instruction, Kind, Operation, Region, Strength
from services.embedded.regions import FEWEST, Regions, UnclearRegionError
from services.embedded.retouching.colour import cast_of
from services.embedded.retouching.picture import Picture
from services.embedded.retouching.retouch import retouch
from services.errors import ApiError
from services.imaging.shapes import framed, scaled

_SPREAD = 0.18  # standard deviation of the log of the strength
_FURTHEST = 1.5  # standard deviations at which a draw is clipped
_NEED_COLOUR = (Kind.SATURATION, Kind.VIBRANCE, Kind.HUE)
_GREY = 8  # code values by which the channels of a grey pixel differ at most, after JPEG


class ClassicalPipeline:
    """A photo editor without weights. It holds no state, so it is thread-safe and deterministic."""

    @property
    def name(self) -> str:
        """The model name that the service announces."""
        return "classical"

    @property
    def capabilities(self) -> Capabilities:
        """Masks and other output sizes; it has no steps, guidance or negative prompt."""
        return Capabilities(mask=True, deterministic=True, trained=False)

    @property
    def warm_up(self) -> EditJob:
        """A small job that runs through the parser, a slider and a mask once."""
        return EditJob(Image.new("RGB", (64, 64), "grey"), "increase the contrast by 10%, darken the top by 10%")

    def edit(self, job: EditJob) -> EditResult:
        """Apply the instruction.

        Raises:
            ValueError: for parameters that the capabilities do not declare.
            ApiError: ``edit_failed``, naming the prompt, for an instruction that is not carried out; the message says what would
                be possible.
        """
        if job.parameters or job.negative_prompt is not None:
            raise ValueError("the classical editor takes neither extra parameters nor a negative prompt")
        instruction = parse(job.prompt)
        if instruction.refusals:
            raise _refused(*(str(refusal) for refusal in instruction.refusals[:2]))
        shapes = [operation for operation in instruction.operations if operation.kind in GEOMETRY]
        try:
            edited = self._edited(job, instruction, shapes)
        except (UnclearRegionError, NotTiltedError) as exc:
            raise _refused(f"{exc}.") from exc
        if job.size is not None and job.size != edited.size:
            edited = scaled(edited, job.size)
        implied = tuple(f"{look.words} (a look; name its adjustments)" for look in instruction.looks)
        applied = tuple(operation.describe() for operation in instruction.operations)
        return EditResult(edited, applied, (*implied, *instruction.unjudged))

    @staticmethod
    def _edited(job: EditJob, instruction: Instruction, shapes: Sequence[Operation]) -> Image.Image:
        image = reshape(job.image, shapes)
        mask = None if job.mask is None else reshape(_fitted(job.mask, job.image.size), shapes)
        if job.size is not None:
            # Cropped first, so that nothing is stretched, and what is drawn is within the result.
            image = framed(image, job.size, "cover")
            mask = mask and framed(mask, job.size, "cover", is_mask=True)
        return _apply(image, instruction, job.seed, None if mask is None else _limit(mask))


def _refused(*sentences: str) -> ApiError:
    return ApiError("edit_failed", f"the embedded editor does not do this: {' '.join(sentences)}", param="prompt")


def _fitted(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    return mask if mask.size == size else mask.resize(size, Image.Resampling.BILINEAR)


def _limit(mask: Image.Image) -> F32:
    """How far the edit may act (H, W): where the mask's alpha is 0, or where an opaque mask is white."""
    if "A" in mask.getbands():
        return f32(1 - np.asarray(mask.getchannel("A")) / 255)
    return f32(np.asarray(mask.convert("L")) / 255)


def _apply(image: Image.Image, instruction: Instruction, seed: int, limit: F32 | None) -> Image.Image:
    """The edited picture."""
    source = np.ascontiguousarray(np.asarray(image.convert("RGB")))
    regions = Regions(source)
    for region in instruction.protected:
        unprotected = regions.mask(Region(region.terms, inverted=True))
        if unprotected is not None:
            limit = unprotected if limit is None else limit * unprotected
    picture = Picture(source, limit)
    vivid = [operation.kind in _NEED_COLOUR and operation.amount > 0 for operation in instruction.operations]
    if vivid and all(vivid) and float(np.mean(np.ptp(source, axis=2) > _GREY)) < FEWEST:
        raise UnclearRegionError("nothing in the picture has a colour; it can be tinted (“add an orange tint”)")
    for operation in instruction.operations:
        if operation.kind not in GEOMETRY and operation.kind not in DRAWN:
            if operation.kind is Kind.WHITE_BALANCE and cast_of(picture.lab) is None:
                raise UnclearRegionError("no colour cast was measured with certainty; say what to change (“make it cooler”)")
            amount, random = strength_for(seed, operation), generator_for(seed, operation, "pattern")
            retouch(picture, operation, amount, regions.mask(operation.region), random)
    edited = Image.fromarray(picture.render())
    if "A" in image.getbands():
        edited.putalpha(image.getchannel("A"))
    return _draw(edited, [operation for operation in instruction.operations if operation.kind in DRAWN], limit)


def _draw(image: Image.Image, operations: Sequence[Operation], limit: F32 | None) -> Image.Image:
    """Draw text and borders over the picture, inside the limit; they are opaque where the picture is transparent."""
    if not operations:
        return image
    layer = Image.new("RGBA", image.size, (0, 0, 0, 0))
    for operation in operations:
        (draw_text if operation.kind is Kind.TEXT else draw_border)(layer, operation)
    if limit is not None:
        alpha = np.asarray(layer.getchannel("A"), dtype=np.float32) * limit
        layer.putalpha(Image.fromarray(np.rint(alpha).astype(np.uint8)))
    composed = Image.alpha_composite(image.convert("RGBA"), layer)
    return composed if "A" in image.getbands() else composed.convert("RGB")


def generator_for(seed: int, operation: Operation, purpose: str) -> np.random.Generator:
    """A random generator for one operation, independent of the other operations and of the amount."""
    key = f"{seed}|{purpose}|{operation.kind}|{operation.region}|{operation.colour}"
    digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))


def strength_for(seed: int, operation: Operation) -> float:
    """The amount of an operation under this seed: the requested amount times a factor between 0.76 and 1.31.

    Covering operations vary near 0 and reach exactly 1 at 1. Crops, rotations, text and borders never vary.
    """
    how = SPECS[operation.kind].strength
    if how is Strength.EXACT:
        return operation.amount
    draw = float(generator_for(seed, operation, "strength").standard_normal())
    factor = math.exp(_SPREAD * max(-_FURTHEST, min(_FURTHEST, draw)))
    if how is Strength.SLIDER:
        return operation.amount * factor
    return operation.amount * factor / (1 + operation.amount * (factor - 1))
