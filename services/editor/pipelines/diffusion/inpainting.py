"""Masks on diffusion editors: diffusers' inpaint pipelines, and the source put back where the mask is closed.

An inpaint pipeline blends the noised source in after every step, so that what it makes continues what is around it. Its result
still went through the VAE everywhere, and through the model's working size. So the service puts the source's own pixels back
outside the mask: there the picture is the source, bit by bit.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageChops, ImageFilter

from services.editor.pipelines.diffusion.sizes import Size
from services.imaging import masks
from services.imaging.shapes import frame, framed, nearly

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.editor.pipelines.base import EditJob

_ANY = [0] + [255] * 255
_FEATHER = 4  # pixels inside the opening's edge over which the edit fades in


@dataclass(frozen=True, slots=True)
class Inpainting:
    """How a family edits with a mask.

    Attributes:
        pipeline: its inpaint class in diffusers, which has the same components.
        call: as `Family.call`, for a job with a mask.
        size: as `Family.size`, for a job with a mask.
        cached_methods: as `Family.cached_methods`, of the inpaint class.
    """

    pipeline: type
    call: Callable[[EditJob, int], dict[str, Any]]
    size: Callable[[EditJob, int], Size]
    cached_methods: tuple[str, ...] = ("encode_prompt", "_encode_vae_image")


def of_components(pipeline: type, pipe: Any) -> Any:
    """The inpaint pipeline with the components and configuration of a loaded one."""
    taken = inspect.signature(pipeline.__init__).parameters  # type: ignore[misc]
    values = {**pipe.config, **pipe.components}
    made = pipeline(**{name: values[name] for name in taken if name in values})
    made.set_progress_bar_config(disable=True)
    return made


def with_original(job: EditJob) -> EditJob:
    """The job with an opening in mode L, and source and opening in the requested shape; the source is kept as it is."""
    image, opening = job.image, job.mask if job.mask is None or job.mask.mode == "L" else masks.opening(job.mask)
    if job.size is not None and not nearly(image.size, job.size):
        image = framed(image, job.size, "cover")
        opening = opening and framed(opening, job.size, "cover", is_mask=True)
    return replace(job, image=image, mask=opening, original=image, source_size=job.source_size or job.image.size)


def in_shape(job: EditJob) -> EditJob:
    """The job with a blank picture of the source's size in the requested shape, to compute sizes from."""
    if job.size is None or nearly(job.image.size, job.size):
        return job
    left, top, right, bottom = frame(job.image.size, job.size, "cover")
    return replace(job, image=Image.new("1", (right - left, bottom - top), None))


def pictures(job: EditJob, size: Size) -> dict[str, Any]:
    """The arguments ``image`` and ``mask_image`` (white where the edit may act) at the edit's size."""
    job = with_original(job)
    assert job.mask is not None
    return {"image": job.image.resize(size, Image.Resampling.LANCZOS), "mask_image": _scaled(job.mask, size)}


def composed(job: EditJob, edited: Image.Image) -> Image.Image:
    """The edited picture in the opening, and the source elsewhere; at the edited picture's size.

    Args:
        job: from `with_original`.
        edited: the result at its final size.
    """
    assert job.mask is not None
    assert job.original is not None
    source = job.original
    if source.size != edited.size:
        source = source.resize(edited.size, Image.Resampling.LANCZOS)
    opening = _scaled(job.mask, edited.size)
    soft = ImageChops.darker(opening, opening.filter(ImageFilter.BoxBlur(_FEATHER)))
    return Image.composite(edited, source, soft)


def _scaled(opening: Image.Image, size: Size) -> Image.Image:
    """The opening in another size: everything that touches it belongs to it."""
    return opening if opening.size == size else opening.resize(size, Image.Resampling.BOX).point(_ANY)
