"""Qwen-Image-Edit (Alibaba): `QwenImageEditPipeline`.

Guidance is classifier-free: ``true_cfg_scale`` above 1 doubles the work. diffusers skips it without a negative prompt, so a
single space is passed if the caller sends none, as on the model card. Sources are scaled to about the working area, which is
the edit's size too unless another is requested. With a mask `QwenImageEditInpaintPipeline` edits.
Defaults: the model card's (50 steps, true CFG 4).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from diffusers import QwenImageEditInpaintPipeline, QwenImageEditPipeline
from PIL import Image

from services.editor.pipelines.base import Capabilities, EditJob, Range
from services.editor.pipelines.diffusion.calls import Collation
from services.editor.pipelines.diffusion.family import NATIVE_PIXELS, Family
from services.editor.pipelines.diffusion.inpainting import Inpainting, in_shape, pictures, with_original
from services.editor.pipelines.diffusion.rescaling import calculated_size, rescale, rescaled
from services.editor.pipelines.diffusion.sizes import Size, working_size
from services.editor.pipelines.diffusion.text_limit import Text

_MULTIPLE = 16  # the VAE's factor 8, and patches of 2 x 2
_MAX_ASPECT = 100
"""The text encoder accepts pictures up to 200:1, after rounding to multiples of 32; the rest is a margin for that rounding."""
_MIN_SIDE = 20
"""Before that rounding: 16 and less would be rounded to 0."""


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
    # Prompts of different lengths share a batch, with a mask.
    "encoder_hidden_states": Collation.PAD,
    "encoder_hidden_states_mask": Collation.MASK,
    "img_shapes": Collation.LIST,
}


def family(
    name: str,
    pipeline: type,
    capabilities: Capabilities,
    *,
    text_encoder_pixels: int = NATIVE_PIXELS,
    inpaint: type | None = None,
) -> Family:
    """A Qwen-Image-Edit family.

    Args:
        name: its name in the service.
        pipeline: its class in diffusers.
        capabilities: with its default of steps.
        text_encoder_pixels: the area of the text encoder's copy of the source, at the native working area.
        inpaint: its inpaint class in diffusers, if there is one.
    """

    def reduced(job: EditJob, pixels: int) -> Size:
        """The size to which the source is scaled, regardless of the requested one."""
        return calculated_size(pipeline, job.image.size, pixels)

    def size(job: EditJob, pixels: int) -> Size:
        """The source's aspect ratio at the working area, or the requested one at most at that area."""
        return reduced(job, pixels) if job.size is None else working_size(job.size, pixels, _MULTIPLE)

    def aspect(pixels: int) -> float:
        """The aspect ratio up to which neither side of the text encoder's copy is rounded to 0."""
        return min(_MAX_ASPECT, rescaled(text_encoder_pixels, pixels) / _MIN_SIDE**2)

    def arguments(job: EditJob, pixels: int) -> dict[str, Any]:
        width, height = size(job, pixels)
        scale = job.parameters["true_cfg_scale"]
        negative = " " if job.negative_prompt is None else job.negative_prompt
        return {
            "image": [job.image, *job.references] if job.references else job.image,
            "prompt": job.prompt,
            "negative_prompt": negative if scale > 1 else None,
            "true_cfg_scale": scale,
            "num_inference_steps": int(job.parameters["num_inference_steps"]),
            "height": height,
            "width": width,
        }

    def inpainted_size(job: EditJob, pixels: int) -> Size:
        """With a mask the edit has the size that the pipeline gives a source of the requested shape."""
        return reduced(replace(job, image=Image.new("1", limited(in_shape(job).image.size, pixels), None)), pixels)

    def limited(shape: Size, pixels: int) -> Size:
        """A requested shape with its long side shortened to what the pipeline takes; the result is stretched back."""
        longest = int(aspect(pixels))
        return min(shape[0], longest * shape[1]), min(shape[1], longest * shape[0])

    def inpaint_arguments(job: EditJob, pixels: int) -> dict[str, Any]:
        # The pipeline computes the size itself; all of the opening is made from noise.
        own = {name: value for name, value in arguments(job, pixels).items() if name not in {"height", "width"}}
        image = with_original(job).image
        shape = limited(image.size, pixels)
        given = {
            **pictures(job, inpainted_size(job, pixels)),
            "image": image if image.size == shape else image.resize(shape, Image.Resampling.LANCZOS),
        }
        return {**own, **given, "strength": 1.0}

    return Family(
        name=name,
        capabilities=replace(capabilities, mask=inpaint is not None),
        call=arguments,
        collations=_COLLATIONS,
        size=size,
        reduces=reduced if text_encoder_pixels == NATIVE_PIXELS else None,
        aspect=aspect,
        guided_by="true_cfg_scale",
        to_vae=to_vae,
        calls_a_step=lambda job: 2 if job.parameters["true_cfg_scale"] > 1 else 1,
        rescale=rescale,
        # The pipeline cuts nothing, but refuses to be asked for more; beyond 4096 the transformer has no positions.
        text=Text(("tokenizer",), 1024),
        # What lightx2v's Lightning LoRAs were distilled for: a constant shift of 3, ending at 0.
        few_steps={"base_shift": math.log(3), "max_shift": math.log(3), "shift_terminal": None},
        # Unlike the others, this inpaint pipeline samples the source's encoding, with the edit's own generator.
        inpainting=None if inpaint is None else Inpainting(inpaint, inpaint_arguments, inpainted_size, ("encode_prompt",)),
        licence="Apache-2.0",
    )


def with_steps(steps: int, *, max_images: int = 1) -> Capabilities:
    """The family's capabilities with this default of steps."""
    ranges = {**_CAPABILITIES.parameters, "num_inference_steps": Range(2, 100, steps, whole=True)}
    return replace(_CAPABILITIES, parameters=ranges, max_images=max_images)


FAMILY = family("qwen-image-edit", QwenImageEditPipeline, with_steps(50), inpaint=QwenImageEditInpaintPipeline)
