"""The embedded editor as a pipeline: read the instruction, carry the plan out, say what was done."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from services.editor.pipelines.base import Capabilities, EditJob, EditResult
from services.embedded.editor.colorimetry import F32, f32
from services.embedded.editor.geometry import GEOMETRIC, reshape
from services.embedded.editor.lettering import draw_border, draw_text
from services.embedded.editor.masks import Masks
from services.embedded.editor.parse import parse
from services.embedded.editor.picture import Picture
from services.embedded.editor.plan import Kind, Operation, Plan
from services.embedded.editor.retouch import carry_out
from services.embedded.editor.strength import source_of, strength_of

_DRAWN = {Kind.TEXT: draw_text, Kind.BORDER: draw_border}


class ClassicalPipeline:
    """A photo editor without weights. Holds no state: any number of edits, any thread, the same answer."""

    @property
    def name(self) -> str:
        """The model name that the service announces."""
        return "classical"

    @property
    def capabilities(self) -> Capabilities:
        """A mask and another size, yes; steps, guidance and a negative prompt mean nothing to it."""
        return Capabilities(mask=True)

    @property
    def warm_up(self) -> EditJob:
        """Large enough to go through every path once, small enough to cost nothing."""
        return EditJob(Image.new("RGB", (64, 64), "grey"), "increase the contrast by 10%, blur the background by 10%")

    def edit(self, job: EditJob) -> EditResult:
        """Carry out what the prompt names. Raises ``ValueError`` for parameters that the capabilities do not declare."""
        if job.parameters or job.negative_prompt is not None:
            raise ValueError("the classical editor takes neither extra parameters nor a negative prompt")
        plan = parse(job.prompt)
        shapes = [operation for operation in plan.operations if operation.kind in GEOMETRIC]
        image = reshape(job.image, shapes)
        limit = None if job.mask is None else _limit(reshape(_fitted(job.mask, job.image.size), shapes))
        edited, done, missing = _retouch(image, plan, job.seed, limit)
        if job.size is not None and job.size != edited.size:
            edited = edited.resize(job.size, Image.Resampling.LANCZOS)
        applied = tuple(operation.describe() for operation in plan.operations if operation in done or operation in shapes)
        return EditResult(edited, applied, (*plan.not_understood, *missing))


def _fitted(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    return mask if mask.size == size else mask.resize(size, Image.Resampling.BILINEAR)


def _limit(mask: Image.Image) -> F32:
    """How far the edit may act (H, W): where the mask's alpha is 0, or where an opaque mask is white."""
    if "A" in mask.getbands():
        return f32(1 - np.asarray(mask.getchannel("A")) / 255)
    return f32(np.asarray(mask.convert("L")) / 255)


def _retouch(image: Image.Image, plan: Plan, seed: int, limit: F32 | None) -> tuple[Image.Image, list[Operation], list[str]]:
    """The edited picture, the operations done, and a remark for each whose region is not in the picture."""
    source = np.ascontiguousarray(np.asarray(image.convert("RGB")))
    masks = Masks(source)
    picture = Picture(source, _protect(limit, plan, masks))
    done, missing = [], []
    for operation in plan.operations:
        if operation.kind in GEOMETRIC or operation.kind in _DRAWN:
            continue
        random = source_of(seed, operation, "pattern")
        if carry_out(picture, operation, strength_of(seed, operation), masks, random):
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
    """Lay text and frames over the picture, inside the limit; where the picture was transparent they make it opaque."""
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
