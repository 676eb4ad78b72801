"""The embedded editor as a pipeline: parse the instruction, apply the plan, report what was done."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from services.editor.pipelines.base import Capabilities, EditJob, EditResult
from services.embedded.editor import colour, effects, tone
from services.embedded.editor.colour_names import Colour
from services.embedded.editor.colour_spaces import F32, f32
from services.embedded.editor.drawing import draw_border, draw_text
from services.embedded.editor.geometry import GEOMETRIC, reshape
from services.embedded.editor.masks import Masks
from services.embedded.editor.parser import parse
from services.embedded.editor.picture import Picture
from services.embedded.editor.plan import SPECS, Area, Kind, Operation, Plan, Region, Strength, Term
from services.imaging.shapes import framed, scaled

_BACKGROUND = Region((Term(Area.BACKGROUND),))
_SPREAD = 0.18  # standard deviation of the log of the strength
_FURTHEST = 1.5  # standard deviations at which a draw is clipped

# The functions that carry out each kind of operation, by the arguments they take.
_PLAIN: dict[Kind, Callable[[Picture, float, F32 | None], None]] = {
    Kind.EXPOSURE: tone.expose,
    Kind.CONTRAST: tone.contrast,
    Kind.HIGHLIGHTS: tone.highlights,
    Kind.SHADOWS: tone.shadows,
    Kind.WHITES: tone.whites,
    Kind.BLACKS: tone.blacks,
    Kind.MIDTONES: tone.midtones,
    Kind.MATTE: tone.matte,
    Kind.WARMTH: colour.warmth,
    Kind.TINT: colour.tint,
    Kind.SATURATION: colour.saturation,
    Kind.VIBRANCE: colour.vibrance,
    Kind.HUE: colour.hue,
    Kind.MONOCHROME: colour.monochrome,
    Kind.SEPIA: colour.sepia,
    Kind.INVERT: colour.invert,
    Kind.DENOISE: effects.denoise,
    Kind.CLARITY: effects.clarity,
    Kind.SHARPEN: effects.sharpen,
    Kind.BLUR: effects.blur,
    Kind.HAZE: effects.haze,
    Kind.GLOW: effects.glow,
    Kind.VIGNETTE: effects.vignette,
    Kind.WHITE_VIGNETTE: effects.white_vignette,
    Kind.SKETCH: effects.sketch,
    Kind.EMBOSS: effects.emboss,
}
_COLOURED: dict[Kind, Callable[[Picture, float, F32 | None, Colour], None]] = {
    Kind.OVERLAY: colour.overlay,
    Kind.SPLIT_TONE: colour.split_tone,
}
_RANDOM: dict[Kind, Callable[[Picture, float, F32 | None, np.random.Generator], None]] = {
    Kind.GRAIN: effects.grain,
    Kind.LIGHT_LEAK: effects.light_leak,
}
_COUNTED: dict[Kind, Callable[[Picture, float, F32 | None, int | None], None]] = {
    Kind.POSTERIZE: effects.posterize,
    Kind.PIXELATE: effects.pixelate,
}
_DRAWN: dict[Kind, Callable[[Image.Image, Operation], None]] = {Kind.TEXT: draw_text, Kind.BORDER: draw_border}


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
        return EditJob(Image.new("RGB", (64, 64), "grey"), "increase the contrast by 10%, blur the background by 10%")

    def edit(self, job: EditJob) -> EditResult:
        """Apply the instruction. Raises ``ValueError`` for parameters that the capabilities do not declare."""
        if job.parameters or job.negative_prompt is not None:
            raise ValueError("the classical editor takes neither extra parameters nor a negative prompt")
        plan = parse(job.prompt)
        shapes = [operation for operation in plan.operations if operation.kind in GEOMETRIC]
        image = reshape(job.image, shapes)
        mask = None if job.mask is None else reshape(_fitted(job.mask, job.image.size), shapes)
        if job.size is not None:
            # Cropped first, so that nothing is stretched, and what is drawn is within the result.
            image = framed(image, job.size, "cover")
            mask = mask and framed(mask, job.size, "cover", is_mask=True)
        limit = None if mask is None else _limit(mask)
        edited, done, missing = _apply_plan(image, plan, job.seed, limit)
        if job.size is not None and job.size != edited.size:
            edited = scaled(edited, job.size)
        applied = tuple(operation.describe() for operation in plan.operations if operation in done or operation in shapes)
        return EditResult(edited, applied, (*plan.not_understood, *missing))


def _fitted(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    return mask if mask.size == size else mask.resize(size, Image.Resampling.BILINEAR)


def _limit(mask: Image.Image) -> F32:
    """How far the edit may act (H, W): where the mask's alpha is 0, or where an opaque mask is white."""
    if "A" in mask.getbands():
        return f32(1 - np.asarray(mask.getchannel("A")) / 255)
    return f32(np.asarray(mask.convert("L")) / 255)


def _apply_plan(image: Image.Image, plan: Plan, seed: int, limit: F32 | None) -> tuple[Image.Image, list[Operation], list[str]]:
    """The edited picture, the operations done, and a remark for each whose region is not in the picture."""
    source = np.ascontiguousarray(np.asarray(image.convert("RGB")))
    masks = Masks(source)
    picture = Picture(source, _protect(limit, plan, masks))
    done, missing = [], []
    for operation in plan.operations:
        if operation.kind in GEOMETRIC or operation.kind in _DRAWN:
            continue
        random = generator_for(seed, operation, "pattern")
        if _apply(picture, operation, strength_for(seed, operation), masks, random):
            done.append(operation)
        else:
            missing.append(f"{operation.kind.value}: no {operation.region} found in the picture")
    edited = _with_alpha(Image.fromarray(picture.render()), image)
    drawn = [operation for operation in plan.operations if operation.kind in _DRAWN]
    return _draw(edited, drawn, limit), done + drawn, missing


def _protect(limit: F32 | None, plan: Plan, masks: Masks) -> F32 | None:
    for region in plan.protected:
        mask = masks.region(region)
        if mask is not None:
            limit = 1 - mask if limit is None else limit * (1 - mask)
    return limit


def _with_alpha(edited: Image.Image, original: Image.Image) -> Image.Image:
    if "A" in original.getbands():
        edited.putalpha(original.getchannel("A"))
    return edited


def _draw(image: Image.Image, operations: Sequence[Operation], limit: F32 | None) -> Image.Image:
    """Draw text and borders over the picture, inside the limit; they are opaque where the picture is transparent."""
    if not operations:
        return image
    layer = Image.new("RGBA", image.size, (0, 0, 0, 0))
    for operation in operations:
        _DRAWN[operation.kind](layer, operation)
    if limit is not None:
        alpha = np.asarray(layer.getchannel("A"), dtype=np.float32) * limit
        layer.putalpha(Image.fromarray(np.rint(alpha).astype(np.uint8)))
    composed = Image.alpha_composite(image.convert("RGBA"), layer)
    return composed if "A" in image.getbands() else composed.convert("RGB")


def _apply(picture: Picture, operation: Operation, amount: float, masks: Masks, random: np.random.Generator) -> bool:
    """Apply one operation at ``amount``; False, with the picture unchanged, when its region is not in the picture."""
    if operation.region.terms and masks.is_empty(operation.region):
        return False
    mask = masks.region(operation.region)
    kind, target = operation.kind, operation.colour
    if kind in _PLAIN:
        _PLAIN[kind](picture, amount, mask)
    elif kind in _COLOURED and target is not None:
        _COLOURED[kind](picture, amount, mask, target)
    elif kind in _RANDOM:
        _RANDOM[kind](picture, amount, mask, random)
    elif kind in _COUNTED:
        _COUNTED[kind](picture, amount, mask, operation.count)
    elif kind is Kind.SELECTIVE_COLOUR:
        colour.monochrome(picture, amount, None if mask is None else 1 - mask)
    elif kind is Kind.RECOLOUR and target is not None and mask is not None:
        colour.recolour(picture, amount, mask, target)
    elif kind is Kind.REPLACE_BACKGROUND and target is not None:
        background = masks.region(_BACKGROUND)
        if background is None:
            return False
        colour.replace_background(picture, amount, background, target, operation.second_colour)
    else:
        return False
    return True


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
