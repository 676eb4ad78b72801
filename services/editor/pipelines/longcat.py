"""LongCat-Image-Edit (Meituan): `LongCatImageEditPipeline`.

Guidance is classifier-free: ``guidance_scale`` above 1 doubles the work, against an empty negative prompt if the caller
sends none. The pipeline takes no size: the edit has the source's aspect ratio at the working area, and another is refused.
Defaults: the pipeline's (50 steps, guidance 4.5).
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import LongCatImageEditPipeline
from diffusers.pipelines.longcat_image.pipeline_longcat_image_edit import split_quotation

from services.editor.pipelines.base import Capabilities, EditJob, Range
from services.editor.pipelines.diffusion.calls import Collation
from services.editor.pipelines.diffusion.family import Family
from services.editor.pipelines.diffusion.rescaling import calculated_size, rescale
from services.editor.pipelines.diffusion.sizes import Size
from services.editor.pipelines.diffusion.text_limit import Text, counted

_MAX_ASPECT = 100  # the text encoder's limit of 200, with a margin for rounding


def size(job: EditJob, pixels: int) -> Size:
    """The edit's size: the source's aspect ratio at the working area."""
    return calculated_size(LongCatImageEditPipeline, job.image.size, pixels)


def _in_quotations(tokenizer: Any, text: str) -> int:
    """The pipeline splits what is between quotation marks into letters."""
    pieces = [piece for part, quoted in split_quotation(text) for piece in (part if quoted else [part])]
    return sum(counted(tokenizer, piece, marks=False) for piece in pieces)


def _arguments(job: EditJob, pixels: int) -> dict[str, Any]:
    del pixels
    return {
        "image": job.image,
        "prompt": job.prompt,
        "negative_prompt": job.negative_prompt,
        "guidance_scale": job.parameters["guidance_scale"],
        "num_inference_steps": int(job.parameters["num_inference_steps"]),
    }


def _to_vae(pipe: Any, latents: torch.Tensor, size: Size) -> torch.Tensor:
    unpacked = pipe._unpack_latents(latents, size[1], size[0], pipe.vae_scale_factor)  # noqa: SLF001 - as its call does
    clean: torch.Tensor = unpacked / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor
    return clean


FAMILY = Family(
    name="longcat-image-edit",
    capabilities=Capabilities(
        negative_prompt=True,
        negative_prompt_needs="guidance_scale",
        resize=False,
        partial_images=3,
        parameters={
            "num_inference_steps": Range(1, 100, 50, whole=True),
            "guidance_scale": Range(1, 20, 4.5),
        },
    ),
    call=_arguments,
    collations={
        "hidden_states": Collation.CAT,
        "timestep": Collation.CAT,
        "encoder_hidden_states": Collation.CAT,
        "txt_ids": Collation.SAME,
        "img_ids": Collation.SAME,
    },
    size=size,
    reduces=size,
    aspect=lambda _: _MAX_ASPECT,
    guided_by="guidance_scale",
    to_vae=_to_vae,
    calls_a_step=lambda job: 2 if job.parameters["guidance_scale"] > 1 else 1,
    rescale=rescale,
    step_caches=frozenset({"taylorseer"}),
    text=Text(("tokenizer",), 512, _in_quotations),
    licence="Apache-2.0",
)
