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
from services.editor.pipelines.diffusion.calls import How
from services.editor.pipelines.diffusion.family import Family, Working
from services.editor.pipelines.diffusion.rescaling import calculated_size, rescale
from services.editor.pipelines.diffusion.sizes import Size, working_size

_MULTIPLE = 16  # the VAE's factor 8, and patches of 2 x 2


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
_HOWS = {
    "hidden_states": How.CAT,
    "timestep": How.CAT,
    "guidance": How.CAT,
    # Prompts of different lengths go together, behind a mask.
    "encoder_hidden_states": How.PAD,
    "encoder_hidden_states_mask": How.MASK,
    "img_shapes": How.EACH,
}


def _guidance(job: EditJob) -> float:
    return job.parameters.get("true_cfg_scale", _CAPABILITIES.parameters["true_cfg_scale"].default)


def family(name: str, pipeline: type, capabilities: Capabilities, *, looks_once: bool) -> Family:
    """A Qwen-Image-Edit.

    Args:
        name: what the service calls it.
        pipeline: its class in diffusers.
        capabilities: with its own default of steps.
        looks_once: whether the text encoder and the VAE are given the source at one size.
    """

    def reduced(job: EditJob, working: Working) -> Size:
        """What the source is brought to, whatever size is wished."""
        return calculated_size(pipeline, job.image.size, working.pixels)

    def size(job: EditJob, working: Working) -> Size:
        """The source's shape at the working area, or the wished shape and never above that area."""
        return reduced(job, working) if job.size is None else working_size(job.size, working.pixels, _MULTIPLE)

    def arguments(job: EditJob, working: Working) -> dict[str, Any]:
        width, height = size(job, working)
        negative = " " if job.negative_prompt is None else job.negative_prompt
        given = {"image": job.image, "prompt": job.prompt, "true_cfg_scale": _guidance(job), "height": height, "width": width}
        return {**given, "negative_prompt": negative if _guidance(job) > 1 else None, "num_inference_steps": made.steps(job)}

    made = Family(
        name=name,
        capabilities=capabilities,
        arguments=arguments,
        hows=_HOWS,
        size=size,
        reduced=reduced if looks_once else None,
        to_vae=to_vae,
        calls_a_step=lambda job: 2 if _guidance(job) > 1 else 1,
        rescale=rescale,
        licence="Apache-2.0",
    )
    return made


def with_steps(steps: int) -> Capabilities:
    """The family's capabilities with another default of steps."""
    ranges = {**_CAPABILITIES.parameters, "num_inference_steps": Range(2, 100, steps, whole=True)}
    return replace(_CAPABILITIES, parameters=ranges)


FAMILY = family("qwen-image-edit", QwenImageEditPipeline, with_steps(50), looks_once=True)
