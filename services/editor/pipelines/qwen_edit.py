"""Qwen-Image-Edit (Alibaba): `QwenImageEditPipeline`.

Guidance is classifier-free: ``true_cfg_scale`` above 1 doubles the work. diffusers skips it without a negative prompt, so a
single space stands in where the caller sends none, as on the model card. Sources are brought to about the working area, and
without a wish the edit has that size too. Defaults: the model card's (50 steps, true CFG 4).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from diffusers import QwenImageEditPipeline

from services.editor.pipelines.base import Capabilities, EditJob, Range
from services.editor.pipelines.diffusion.calls import Collation
from services.editor.pipelines.diffusion.family import NATIVE_PIXELS, Family
from services.editor.pipelines.diffusion.rescaling import calculated_size, rescale, rescaled
from services.editor.pipelines.diffusion.sizes import Size, working_size

_MULTIPLE = 16  # the VAE's factor 8, and patches of 2 x 2
_MOST_ASPECT = 100
"""The text encoder takes no picture beyond 200:1, after rounding to multiples of 32."""
_LEAST_SIDE = 20
"""Before that rounding: 16 and less would be rounded to nothing."""


def to_vae(pipe: Any, latents: torch.Tensor, size: Size) -> torch.Tensor:
    """The pipeline's packed latents (1, tokens, channels) as its VAE decodes them: (1, channels, 1 frame, height, width)."""
    unpacked = pipe._unpack_latents(latents, size[1], size[0], pipe.vae_scale_factor)  # noqa: SLF001 - as its call does
    mean, std = (
        torch.tensor(values, device=unpacked.device, dtype=unpacked.dtype).view(1, -1, 1, 1, 1)
        for values in (pipe.vae.config.latents_mean, pipe.vae.config.latents_std)
    )
    clean: torch.Tensor = unpacked * std + mean
    return clean


_CAPABILITIES = Capabilities(
    negative_prompt=True,
    negative_prompt_needs="true_cfg_scale",
    partial_images=3,
    parameters={
        # With one step the published schedule, which is stretched to end at 0.02, divides 0 by 0.
        "num_inference_steps": Range(2, 100, 50, whole=True),
        "true_cfg_scale": Range(1, 20, 4),
    },
)
_COLLATIONS = {
    "hidden_states": Collation.CAT,
    "timestep": Collation.CAT,
    "guidance": Collation.CAT,
    # Prompts of different lengths go together, behind a mask.
    "encoder_hidden_states": Collation.PAD,
    "encoder_hidden_states_mask": Collation.MASK,
    "img_shapes": Collation.LIST,
}


def family(name: str, pipeline: type, capabilities: Capabilities, *, looks_at: int = NATIVE_PIXELS) -> Family:
    """A Qwen-Image-Edit.

    Args:
        name: what the service calls it.
        pipeline: its class in diffusers.
        capabilities: with its own default of steps.
        looks_at: the area at which the text encoder is given the source, where the VAE has the native one.
    """

    def reduced(job: EditJob, pixels: int) -> Size:
        """What the source is brought to, whatever size is wished."""
        return calculated_size(pipeline, job.image.size, pixels)

    def size(job: EditJob, pixels: int) -> Size:
        """The source's shape at the working area, or the wished shape and never above that area."""
        return reduced(job, pixels) if job.size is None else working_size(job.size, pixels, _MULTIPLE)

    def aspect(pixels: int) -> float:
        """So that neither side of what the text encoder is given is rounded to nothing."""
        return min(_MOST_ASPECT, rescaled(looks_at, pixels) / _LEAST_SIDE**2)

    def arguments(job: EditJob, pixels: int) -> dict[str, Any]:
        width, height = size(job, pixels)
        scale = job.parameters["true_cfg_scale"]
        negative = " " if job.negative_prompt is None else job.negative_prompt
        return {
            "image": job.image,
            "prompt": job.prompt,
            "negative_prompt": negative if scale > 1 else None,
            "true_cfg_scale": scale,
            "num_inference_steps": int(job.parameters["num_inference_steps"]),
            "height": height,
            "width": width,
        }

    return Family(
        name=name,
        capabilities=capabilities,
        call=arguments,
        collations=_COLLATIONS,
        size=size,
        reduces=reduced if looks_at == NATIVE_PIXELS else None,
        aspect=aspect,
        guided_by="true_cfg_scale",
        to_vae=to_vae,
        calls_a_step=lambda job: 2 if job.parameters["true_cfg_scale"] > 1 else 1,
        rescale=rescale,
        licence="Apache-2.0",
    )


def with_steps(steps: int) -> Capabilities:
    """The family's capabilities with another default of steps."""
    ranges = {**_CAPABILITIES.parameters, "num_inference_steps": Range(2, 100, steps, whole=True)}
    return replace(_CAPABILITIES, parameters=ranges)


FAMILY = family("qwen-image-edit", QwenImageEditPipeline, with_steps(50))
