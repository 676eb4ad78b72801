"""FLUX.1 Kontext (Black Forest Labs): `FluxKontextPipeline`.

Guidance is distilled into the model (``guidance_scale``); ``true_cfg_scale`` above 1 adds classifier-free guidance, which
doubles the work. diffusers skips that without a negative prompt, so an empty one is passed if the caller sends none.
Sources are scaled to one of the sizes of its training, which is the edit's size too; the service scales the result back to the
source's size. With a mask `FluxKontextInpaintPipeline` edits.
Defaults: the pipeline's (28 steps, guidance 3.5; the model card uses 2.5).
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FluxKontextInpaintPipeline
from diffusers.pipelines.flux.pipeline_flux_kontext import PREFERRED_KONTEXT_RESOLUTIONS
from PIL import Image

from services.editor.pipelines.base import Capabilities, EditJob, Range
from services.editor.pipelines.diffusion.calls import Collation
from services.editor.pipelines.diffusion.family import NATIVE_PIXELS, Family
from services.editor.pipelines.diffusion.inpainting import Inpainting, in_shape, pictures
from services.editor.pipelines.diffusion.sizes import Size, closest_shape, filling_size, working_size
from services.editor.pipelines.diffusion.text_limit import Text

_MULTIPLE = 16  # the VAE's factor 8, and patches of 2 x 2


def reduced(job: EditJob, pixels: int) -> Size:
    """The size to which the source is scaled."""
    if pixels == NATIVE_PIXELS:
        return closest_shape(job.image.size, tuple(PREFERRED_KONTEXT_RESOLUTIONS))
    return filling_size(job.image.size, pixels, _MULTIPLE)


def size(job: EditJob, pixels: int) -> Size:
    """The edit's size: the requested aspect ratio, never above the working area."""
    return reduced(job, pixels) if job.size is None else working_size(job.size, pixels, _MULTIPLE)


def _arguments(job: EditJob, pixels: int) -> dict[str, Any]:
    width, height = size(job, pixels)
    guided = job.parameters["true_cfg_scale"] > 1
    return {
        # At the edit's shape. The pipeline would choose one for the source by its sides rounded down to multiples of 16, which
        # is another one for 12 % of all sizes.
        "image": job.image.resize(reduced(job, pixels), Image.Resampling.LANCZOS),
        "prompt": job.prompt,
        "negative_prompt": (job.negative_prompt or "") if guided else None,
        "true_cfg_scale": job.parameters["true_cfg_scale"],
        "guidance_scale": job.parameters["guidance_scale"],
        "num_inference_steps": int(job.parameters["num_inference_steps"]),
        "height": height,
        "width": width,
        "max_area": width * height,
        "_auto_resize": False,
    }


def _inpainted_size(job: EditJob, pixels: int) -> Size:
    """With a mask the edit has the source's size: the requested aspect ratio, scaled as a source of it would be."""
    return reduced(in_shape(job), pixels)


def _inpaint_arguments(job: EditJob, pixels: int) -> dict[str, Any]:
    size = _inpainted_size(job, pixels)
    own = {name: value for name, value in _arguments(job, pixels).items() if name not in {"height", "width", "max_area"}}
    # All of the opening is made from noise.
    return {**own, **pictures(job, size), "strength": 1.0, "_auto_resize": False}


def _to_vae(pipe: Any, latents: torch.Tensor, size: Size) -> torch.Tensor:
    unpacked = pipe._unpack_latents(latents, size[1], size[0], pipe.vae_scale_factor)  # noqa: SLF001 - as its call does
    clean: torch.Tensor = unpacked / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor
    return clean


FAMILY = Family(
    name="kontext",
    capabilities=Capabilities(
        mask=True,
        negative_prompt=True,
        negative_prompt_needs="true_cfg_scale",
        partial_images=3,
        parameters={
            "num_inference_steps": Range(1, 100, 28, whole=True),
            "guidance_scale": Range(0, 20, 3.5),
            "true_cfg_scale": Range(1, 20, 1),
        },
    ),
    call=_arguments,
    collations={
        "hidden_states": Collation.CAT,
        "timestep": Collation.CAT,
        "guidance": Collation.CAT,
        "pooled_projections": Collation.CAT,
        "encoder_hidden_states": Collation.CAT,
        "txt_ids": Collation.SAME,
        "img_ids": Collation.SAME,
    },
    size=size,
    reduces=reduced,
    guided_by="true_cfg_scale",
    to_vae=_to_vae,
    calls_a_step=lambda job: 2 if job.parameters["true_cfg_scale"] > 1 else 1,
    inpainting=Inpainting(FluxKontextInpaintPipeline, _inpaint_arguments, _inpainted_size),
    # As FLUX.1 [dev], which has the same architecture: huggingface.co/diffusers/FLUX.1-dev-torchao-fp8.
    fp8=True,
    # CLIP, which reads 77 tokens, gives the pooled embedding only.
    text=Text(("tokenizer_2",), 512),
    licence="FLUX.1 [dev] Non-Commercial License; FLUX.1 Kontext [pro] is an API, not weights",
)
