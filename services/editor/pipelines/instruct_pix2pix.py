"""InstructPix2Pix (UC Berkeley), built on Stable Diffusion 1.5: `StableDiffusionInstructPix2PixPipeline`.

Guidance has two scales, one for the text and one for the source; at a ``guidance_scale`` of 1 both are off, and so is the
negative prompt. Text, source and neither are three samples of one call. An edit has its source's size, so the source is first
scaled to the size of the edit: the requested aspect ratio, at most the working area, never scaled up, in multiples of 8.
Defaults: the pipeline's.
"""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

from services.editor.pipelines.base import Capabilities, EditJob, Range
from services.editor.pipelines.diffusion.calls import Collation
from services.editor.pipelines.diffusion.family import Family
from services.editor.pipelines.diffusion.sizes import Size, working_size
from services.editor.pipelines.diffusion.text_limit import Text
from services.imaging.shapes import scaled

_MULTIPLE = 8  # the VAE's factor; the U-Net takes any latents


def size(job: EditJob, pixels: int) -> Size:
    """The edit's size: the requested or the source's aspect ratio, at most the working area, never scaled up."""
    return working_size(job.size or job.image.size, pixels, _MULTIPLE)


def arguments(job: EditJob, pixels: int) -> dict[str, Any]:
    """The arguments of the pipeline's call; the size is the source's."""
    target = size(job, pixels)
    return {
        # One of another shape than was asked for is cropped, and not stretched.
        "image": scaled(job.image, target) if job.size else job.image.resize(target, Image.Resampling.LANCZOS),
        "prompt": job.prompt,
        "negative_prompt": job.negative_prompt,
        "guidance_scale": job.parameters["guidance_scale"],
        "image_guidance_scale": job.parameters["image_guidance_scale"],
        "num_inference_steps": int(job.parameters["num_inference_steps"]),
    }


def _to_vae(pipe: Any, latents: torch.Tensor, size: Size) -> torch.Tensor:
    del size
    clean: torch.Tensor = latents / pipe.vae.config.scaling_factor
    return clean


def with_guidance(scale: float) -> Capabilities:
    """The capabilities with this default of ``guidance_scale``."""
    return Capabilities(
        negative_prompt=True,
        negative_prompt_needs="guidance_scale",
        partial_images=3,
        parameters={
            "num_inference_steps": Range(1, 200, 100, whole=True),
            "guidance_scale": Range(1, 30, scale),
            "image_guidance_scale": Range(1, 10, 1.5),
        },
    )


FAMILY = Family(
    name="instruct-pix2pix",
    capabilities=with_guidance(7.5),
    call=arguments,
    collations={"sample": Collation.CAT, "timestep": Collation.EXPAND, "encoder_hidden_states": Collation.CAT},
    size=size,
    reduces=size,
    guided_by="guidance_scale",
    guided=frozenset({"image_guidance_scale"}),
    pixels=512 * 512,
    draft_area=1.0,  # Stable Diffusion 1.5 was trained at this area, and no lower one
    denoiser="unet",
    cached_methods=("_encode_prompt", "prepare_image_latents"),
    to_vae=_to_vae,
    step_caches=frozenset(),
    text=Text(("tokenizer", "tokenizer_2")),
    licence="timbrooks/instruct-pix2pix: MIT, with Stable Diffusion 1.5's CreativeML OpenRAIL-M",
)
