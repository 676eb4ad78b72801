"""Qwen-Image-2.1 (Alibaba): `QwenImage21Pipeline`, and its Turbo.

It is sampled without guidance; ``true_cfg_scale`` above 1 adds classifier-free guidance against the negative prompt (empty if
the caller sends none), which doubles the work. It takes up to ten pictures, the source first; a prompt may call them
``<image1>``, ``<image2>`` …. Each is scaled to the working area in its own shape, and the edit has the source's shape unless
another is requested. Pictures are RGBA, as sources and as results.

Text and pictures are a prefix of the sequence whose keys and values are computed in the first step and reused in the others.
The prefix stays with its edit, also while the edit shares passes. Edits share one only if prompts have equally many tokens and
pictures the same shapes: the model reads the layout of the first of a batch (candidates of one turn do share).

A Turbo has its schedule in ``model_index.json`` (``sample_sigmas``): the number of steps is the schedule's, and guidance is
refused. Defaults: the pipeline's and the model card's (40 steps, no guidance). Lightning's schedule is the published one
without its stretched end (huggingface.co/lightx2v/Qwen-Image-2.1-Lightning).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from diffusers.pipelines.qwenimage21.pipeline_qwenimage21 import calculate_dimensions

from services.editor.pipelines.base import Capabilities, EditJob, Range
from services.editor.pipelines.diffusion.calls import Collation
from services.editor.pipelines.diffusion.family import Family
from services.editor.pipelines.diffusion.sizes import Size, working_size
from services.editor.pipelines.diffusion.text_limit import Text
from services.editor.pipelines.qwen_edit import to_vae

MAX_IMAGES = 10
"""github.com/QwenLM/Qwen-Image-2.1, README of 2026-09."""
_MULTIPLE = 32  # the VAE's factor 16, and a token of the text encoder for 2 x 2 of its latents
_MAX_ASPECT = 100
"""The text encoder accepts pictures up to 200:1, after rounding to multiples of 32; the rest is a margin for that rounding."""
_MIN_SIDE = 20
"""Before that rounding: 16 and less would be rounded to 0."""
_MAX_SIDE = 10_240
"""Of a picture, so that ten and the result, each of which takes as many of the transformer's 8192 positions as its longer side
has tokens of 16 pixels, leave 1152 to the text; beyond, diffusers would take positions for negative ones."""
_TEXT_TOKENS = 1024
"""Of a prompt, which the pipeline does not cut; its template takes at most 100 of those positions."""


def reduced(job: EditJob, pixels: int) -> Size:
    """The size to which the source is scaled, regardless of the requested one."""
    width, height, _ = calculate_dimensions(math.isqrt(pixels) ** 2, job.image.width / job.image.height)
    return width, height


def size(job: EditJob, pixels: int) -> Size:
    """The source's aspect ratio at the working area, or the requested one at most at that area."""
    return reduced(job, pixels) if job.size is None else working_size(job.size, pixels, _MULTIPLE)


def aspect(pixels: int) -> float:
    """The aspect ratio up to which no side is rounded to 0, and all pictures have positions."""
    return min(_MAX_ASPECT, pixels / _MIN_SIDE**2, _MAX_SIDE**2 / pixels)


def _turbo_arguments(job: EditJob, pixels: int) -> dict[str, Any]:
    width, height = size(job, pixels)
    return {
        "image": [job.image, *job.references],
        "prompt": job.prompt,
        "num_inference_steps": int(job.parameters["num_inference_steps"]),
        "height": height,
        "width": width,
        "output_resolution": math.isqrt(pixels),
    }


def _arguments(job: EditJob, pixels: int) -> dict[str, Any]:
    scale = job.parameters["true_cfg_scale"]
    guided = {"negative_prompt": (job.negative_prompt or "") if scale > 1 else None, "true_cfg_scale": scale}
    return {**_turbo_arguments(job, pixels), **guided}


def _kind(pipe: Any) -> Family:
    """The family of a loaded pipeline: a Turbo has exactly the steps of its schedule."""
    sigmas = pipe.config.sample_sigmas
    if sigmas is None:
        return FAMILY
    steps = len(sigmas)
    capabilities = Capabilities(
        max_images=MAX_IMAGES, partial_images=3, parameters={"num_inference_steps": Range(steps, steps, steps, whole=True)}
    )
    return replace(FAMILY, capabilities=capabilities, call=_turbo_arguments, guided_by=None, calls_a_step=lambda _: 1)


FAMILY = Family(
    name="qwen-image-2.1",
    capabilities=Capabilities(
        negative_prompt=True,
        negative_prompt_needs="true_cfg_scale",
        max_images=MAX_IMAGES,
        partial_images=3,
        parameters={
            # With one step the published schedule, which is stretched to end at 0.02, divides 0 by 0.
            "num_inference_steps": Range(2, 100, 40, whole=True),
            "true_cfg_scale": Range(1, 20, 1),
        },
    ),
    call=_arguments,
    collations={
        "hidden_states": Collation.CAT,
        "timestep": Collation.CAT,
        "encoder_hidden_states": Collation.CAT,
        "img_shapes": Collation.LIST,
        # Only the first sample's is read.
        "img_mask": Collation.SAME,
        "kv_cache": Collation.PREFIX,
    },
    size=size,
    reduces=reduced,
    aspect=aspect,
    guided_by="true_cfg_scale",
    to_vae=to_vae,
    calls_a_step=lambda job: 2 if job.parameters["true_cfg_scale"] > 1 else 1,
    step_caches=frozenset(),
    # The first step attends to the prefix causally.
    masked=True,
    text=Text(("processor",), _TEXT_TOKENS),
    few_steps={"shift_terminal": None},
    alpha=True,
    on_load=_kind,
    licence="Qwen Research License; read it before commercial use",
)
