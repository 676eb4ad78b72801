"""FLUX.2 [dev] (Black Forest Labs): `Flux2Pipeline`.

Guidance is distilled into the model; there is no negative prompt. Sources are never scaled up. Larger ones are scaled, not
cropped, to the working area in multiples of 16, so that the edit matches its source. The pipeline refuses aspect ratios beyond
8:1. It takes up to six pictures, the source first (docs.bfl.ai/guides/prompting_editing_overview). Defaults: the pipeline's (50
steps, guidance 4; the model card calls 28 steps a good trade-off).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from diffusers.pipelines.flux2.pipeline_flux2 import SYSTEM_MESSAGE, format_input
from PIL import Image

from services.editor.pipelines.base import Capabilities, EditJob, Range
from services.editor.pipelines.diffusion.calls import Collation
from services.editor.pipelines.diffusion.family import NATIVE_PIXELS, Family
from services.editor.pipelines.diffusion.sizes import Size, working_size
from services.editor.pipelines.diffusion.text_limit import Text

MULTIPLE = 16
"""The VAE's factor 8, and patches of 2 x 2."""
_MIN_SIDE = 64
_MAX_ASPECT = 8
"""Limit of `Flux2ImageProcessor.check_image_input`."""

COLLATIONS = {
    "hidden_states": Collation.CAT,
    "timestep": Collation.CAT,
    "guidance": Collation.CAT,
    "encoder_hidden_states": Collation.CAT,
    # Passed for each sample, but the transformer reads those of the first one only.
    "txt_ids": Collation.SAME,
    "img_ids": Collation.SAME,
}
"""No mask: every text is padded to 512 tokens."""


def size(job: EditJob, pixels: int) -> Size:
    """The edit's size: the requested or the source's aspect ratio, at most the working area, never scaled up."""
    return working_size(job.size or job.image.size, pixels, MULTIPLE)


def reduced(job: EditJob, pixels: int) -> Size:
    """The size at which the pipeline gets the source: not scaled again as too large, nor refused as too small or, after
    rounding, as too elongated.
    """
    width, height = working_size(job.image.size, min(pixels, NATIVE_PIXELS), MULTIPLE)
    if min(width, height) < _MIN_SIDE:
        enlarged = _MIN_SIDE / min(job.image.size)
        width, height = (round(side * enlarged / MULTIPLE) * MULTIPLE for side in job.image.size)
    longest = _MAX_ASPECT * min(width, height)
    return min(width, longest), min(height, longest)


def aspect(pixels: int) -> float:
    """The largest aspect ratio of a source."""
    del pixels
    return _MAX_ASPECT


def source(job: EditJob, pixels: int) -> Image.Image | list[Image.Image]:
    """The source at that size; with references, a list of all pictures, each at its own."""
    images = (job.image, *job.references)
    scaled = [image.resize(reduced(replace(job, image=image), pixels), Image.Resampling.LANCZOS) for image in images]
    return scaled if job.references else scaled[0]


def to_vae(pipe: Any, latents: torch.Tensor, size: Size) -> torch.Tensor:
    """Tokens (1, H x W, C x 4) of an edit of ``size`` as normalised latents (1, C, 2 H, 2 W) of the VAE."""
    width, height = (side // MULTIPLE for side in size)
    patches = latents.permute(0, 2, 1).reshape(latents.shape[0], latents.shape[2], height, width)
    mean, variance = (each.view(1, -1, 1, 1).to(patches) for each in (pipe.vae.bn.running_mean, pipe.vae.bn.running_var))
    clean: torch.Tensor = pipe._unpatchify_latents(  # noqa: SLF001 - as its call does
        patches * torch.sqrt(variance + pipe.vae.config.batch_norm_eps) + mean
    )
    return clean


def _in_template(tokenizer: Any, text: str) -> int:
    conversation = format_input(prompts=[text], system_message=SYSTEM_MESSAGE)
    found = tokenizer.apply_chat_template(conversation, add_generation_prompt=False, tokenize=True, return_dict=True)
    return len(found["input_ids"][0])


def _arguments(job: EditJob, pixels: int) -> dict[str, Any]:
    width, height = size(job, pixels)
    return {
        "image": source(job, pixels),
        "prompt": job.prompt,
        "guidance_scale": job.parameters["guidance_scale"],
        "num_inference_steps": int(job.parameters["num_inference_steps"]),
        "height": height,
        "width": width,
    }


FAMILY = Family(
    name="flux2",
    capabilities=Capabilities(
        max_images=6,
        partial_images=3,
        parameters={"num_inference_steps": Range(1, 100, 50, whole=True), "guidance_scale": Range(0, 20, 4)},
    ),
    call=_arguments,
    collations=COLLATIONS,
    size=size,
    reduces=reduced,
    aspect=aspect,
    to_vae=to_vae,
    step_caches=frozenset({"taylorseer"}),
    text=Text(("tokenizer",), 512, _in_template),
    licence="FLUX Non-Commercial License",
)
