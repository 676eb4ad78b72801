"""InstructPix2Pix on Stable Diffusion XL, and CosXL Edit: `StableDiffusionXLInstructPix2PixPipeline`.

As `services.editor.pipelines.instruct_pix2pix`, but the pipeline takes the size, has pooled text embeddings too, and may
normalise its latents. Defaults: the pipeline's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from services.editor.pipelines import instruct_pix2pix as base
from services.editor.pipelines.base import EditJob
from services.editor.pipelines.diffusion.calls import Collation
from services.editor.pipelines.diffusion.family import Family
from services.editor.pipelines.diffusion.sizes import Size


def _arguments(job: EditJob, pixels: int) -> dict[str, Any]:
    width, height = base.size(job, pixels)
    return {**base.arguments(job, pixels), "height": height, "width": width}


def _to_vae(pipe: Any, latents: torch.Tensor, size: Size) -> torch.Tensor:
    del size
    config = pipe.vae.config
    clean: torch.Tensor = latents / config.scaling_factor
    mean, deviation = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is None or deviation is None:
        return clean
    return clean * clean.new_tensor(deviation).view(1, -1, 1, 1) + clean.new_tensor(mean).view(1, -1, 1, 1)


def _in_a_safe_dtype(pipe: Any) -> Family:
    """Refuse a VAE that the pipeline casts to float32 and back around each use: an edit that fails in between leaves it cast."""
    if pipe.vae.dtype == torch.float16 and pipe.vae.config.force_upcast:
        raise ValueError("this model's VAE overflows in float16; choose bfloat16 or float32 as dtype")
    return FAMILY


FAMILY = replace(
    base.FAMILY,
    name="instruct-pix2pix-xl",
    capabilities=base.with_guidance(5),
    call=_arguments,
    collations={**base.FAMILY.collations, "added_cond_kwargs": Collation.DICT},
    pixels=768 * 768,
    draft_area=4 / 9,  # 512 x 512
    cached_methods=("encode_prompt", "prepare_image_latents"),
    to_vae=_to_vae,
    on_load=_in_a_safe_dtype,
    licence="diffusers/sdxl-instructpix2pix-768 and SDXL: CreativeML Open RAIL++-M; CosXL: Stability AI non-commercial",
)
