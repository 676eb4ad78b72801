"""InstructPix2Pix on Stable Diffusion XL, and CosXL Edit: `StableDiffusionXLInstructPix2PixPipeline`.

Guidance has two scales, one for the text and one for the source; at a ``guidance_scale`` of 1 both are off, and so is the
negative prompt. The source is brought to the size of the edit: in the wished shape, at most the working area, never scaled up,
in multiples of 8. Defaults: the pipeline's own.
"""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

from services.editor.pipelines.base import Capabilities, EditJob, Range
from services.editor.pipelines.diffusion.calls import How
from services.editor.pipelines.diffusion.family import Family, Working
from services.editor.pipelines.diffusion.sizes import Size
from services.editor.pipelines.instruct_pix2pix import size


def _arguments(job: EditJob, working: Working) -> dict[str, Any]:
    width, height = size(job, working)
    return {
        "image": job.image.resize((width, height), Image.Resampling.LANCZOS),
        "prompt": job.prompt,
        "negative_prompt": job.negative_prompt,
        "guidance_scale": FAMILY.value(job, "guidance_scale"),
        "image_guidance_scale": FAMILY.value(job, "image_guidance_scale"),
        "num_inference_steps": FAMILY.steps(job),
        "height": height,
        "width": width,
    }


def _to_vae(pipe: Any, latents: torch.Tensor, size: Size) -> torch.Tensor:
    del size
    config = pipe.vae.config
    clean: torch.Tensor = latents / config.scaling_factor
    mean, deviation = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is None or deviation is None:
        return clean
    return clean * clean.new_tensor(deviation).view(1, -1, 1, 1) + clean.new_tensor(mean).view(1, -1, 1, 1)


def _in_a_safe_dtype(pipe: Any) -> Family:
    """The pipeline casts such a VAE to float32 and back around each use: an edit that fails in between would spoil the next."""
    if pipe.vae.dtype == torch.float16 and pipe.vae.config.force_upcast:
        raise ValueError("this model's VAE overflows in float16; choose bfloat16 or float32 as dtype")
    return FAMILY


FAMILY = Family(
    name="instruct-pix2pix-xl",
    capabilities=Capabilities(
        negative_prompt=True,
        negative_prompt_needs="guidance_scale",
        partial_images=3,
        parameters={
            "num_inference_steps": Range(1, 200, 100, whole=True),
            "guidance_scale": Range(1, 30, 5),
            "image_guidance_scale": Range(1, 10, 1.5),
        },
    ),
    arguments=_arguments,
    # Text, source and neither are three samples of one call.
    hows={
        "sample": How.CAT,
        "timestep": How.SPREAD,
        "encoder_hidden_states": How.CAT,
        "added_cond_kwargs": How.NAMED,
    },
    size=size,
    reduced=size,
    pixels=768 * 768,
    denoiser="unet",
    remembers=("encode_prompt", "prepare_image_latents"),
    to_vae=_to_vae,
    on_load=_in_a_safe_dtype,
    caches=frozenset(),
    licence="diffusers/sdxl-instructpix2pix-768 and SDXL: CreativeML Open RAIL++-M; CosXL: Stability AI non-commercial",
)
