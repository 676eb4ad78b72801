"""FLUX.2 [klein] (Black Forest Labs): `Flux2KleinPipeline`, the small FLUX.2.

There are two kinds, distinguished by ``is_distilled`` in ``model_index.json``. The distilled ones (4B, 9B) take 4 steps and
ignore guidance, so it is refused. The base ones take 50 steps and guidance 4 (classifier-free, against an empty prompt, which
doubles the work); these are also the pipeline's defaults. Neither takes a negative prompt. Sizes: as
`services.editor.pipelines.flux2`. With a mask `Flux2KleinInpaintPipeline` edits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from diffusers import Flux2KleinInpaintPipeline

from services.editor.pipelines.base import Capabilities, EditJob, Range
from services.editor.pipelines.diffusion.family import Arguments, Family
from services.editor.pipelines.diffusion.inpainting import Inpainting, in_shape, pictures
from services.editor.pipelines.diffusion.sizes import Size
from services.editor.pipelines.diffusion.text_limit import Text, counted
from services.editor.pipelines.flux2 import COLLATIONS, aspect, reduced, size, source, to_vae

MAX_IMAGES = 4
"""docs.bfl.ai/guides/prompting_editing_overview."""


def arguments(job: EditJob, pixels: int) -> dict[str, Any]:
    """The arguments of the distilled kinds, without guidance."""
    width, height = size(job, pixels)
    return {
        "image": source(job, pixels),
        "prompt": job.prompt,
        "num_inference_steps": int(job.parameters["num_inference_steps"]),
        "height": height,
        "width": width,
    }


def in_template(tokenizer: Any, text: str) -> int:
    """The tokens of a prompt as the pipeline wraps it."""
    turn = [{"role": "user", "content": text}]
    return counted(
        tokenizer, tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    )


def _distilled_arguments(job: EditJob, pixels: int) -> dict[str, Any]:
    return {**arguments(job, pixels), "guidance_scale": 1.0}


def _base_arguments(job: EditJob, pixels: int) -> dict[str, Any]:
    return {**arguments(job, pixels), "guidance_scale": job.parameters["guidance_scale"]}


def _inpainted_size(job: EditJob, pixels: int) -> Size:
    """With a mask the edit has the size of the source that the pipeline gets, in the requested shape."""
    return reduced(in_shape(job), pixels)


def _inpainting(call: Arguments) -> Inpainting:
    def inpaint(job: EditJob, pixels: int) -> dict[str, Any]:
        # The size is the picture's; all of the opening is made from noise.
        own = {name: value for name, value in call(job, pixels).items() if name not in {"height", "width"}}
        return {**own, **pictures(job, _inpainted_size(job, pixels)), "strength": 1.0}

    return Inpainting(Flux2KleinInpaintPipeline, inpaint, _inpainted_size)


def _kind(pipe: Any) -> Family:
    return FAMILY if pipe.config.is_distilled else BASE


FAMILY = Family(
    name="flux2-klein",
    capabilities=Capabilities(
        mask=True, max_images=MAX_IMAGES, partial_images=3, parameters={"num_inference_steps": Range(1, 100, 4, whole=True)}
    ),
    call=_distilled_arguments,
    collations=COLLATIONS,
    size=size,
    reduces=reduced,
    aspect=aspect,
    to_vae=to_vae,
    on_load=_kind,
    inpainting=_inpainting(_distilled_arguments),
    step_caches=frozenset({"taylorseer"}),
    text=Text(("tokenizer",), 512, in_template),
    licence="klein 4B and its base: Apache-2.0; klein 9B and its base: FLUX Non-Commercial License",
)

BASE = replace(
    FAMILY,
    capabilities=Capabilities(
        mask=True,
        max_images=MAX_IMAGES,
        partial_images=3,
        parameters={"num_inference_steps": Range(1, 100, 50, whole=True), "guidance_scale": Range(1, 20, 4)},
    ),
    call=_base_arguments,
    inpainting=_inpainting(_base_arguments),
    guided_by="guidance_scale",
    calls_a_step=lambda job: 2 if job.parameters["guidance_scale"] > 1 else 1,
)
"""The base kinds, which are not distilled."""
