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
    licence="diffusers/sdxl-instructpix2pix-768 and SDXL: CreativeML Open RAIL++-M; CosXL: Stability AI non-commercial",
)
